"""Small networks, data and phases on which the loop can be watched."""

from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import Dataset

from gangen.data import Batch
from gangen.losses import critic_terms, hinge, l1
from gangen.train import Callback, Phase, Player, Switcher, Trainer
from gangen.train.optim import OptimizerFactory, adam, sgd
from gangen.train.schedule import one_cycle


class Toys(Dataset[Batch]):
    """Pictures of 8x8 pixels with noise on the input, drawn anew each time."""

    def __init__(self, count: int = 10) -> None:
        generator = torch.Generator().manual_seed(1)
        self.targets = torch.rand(count, 3, 8, 8, generator=generator) * 2 - 1

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> Batch:
        target = self.targets[index]
        return Batch((target + 0.3 * torch.randn(target.shape)).clamp(-1, 1), target, f"toy-{index}")


class ToyGenerator(nn.Module):
    """A body with BatchNorm, dropout for randomness in the loop, and a last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.drop = nn.Dropout(0.1)
        self.last = nn.Conv2d(6, 3, 3, padding=1)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return torch.tanh(self.last(self.drop(self.body(x))))


def toy_critic() -> nn.Module:
    conv = nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 8, 3, stride=2))
    return nn.Sequential(conv, nn.LeakyReLU(0.2), nn.Conv2d(8, 1, 3))


def imitate(nets: Any, batch: Batch) -> dict[str, Tensor]:
    return {"pixel": l1(nets.generator(batch.input), batch.target)}


def judge(nets: Any, batch: Batch) -> dict[str, Tensor]:
    fake = nets.generator(batch.input)
    return critic_terms(nets.critic, batch.target, fake, hinge, r1_weight=0.1, r1_every=3, step=nets.step)


def persuade(nets: Any, batch: Batch) -> dict[str, Tensor]:
    fake = nets.generator(batch.input)
    return {"pixel": l1(fake, batch.target), "adversarial": hinge.generator(nets.critic(fake))}


class Game:
    """A generator, a critic, and the three phases of a GAN."""

    def __init__(
        self,
        switcher: Switcher | None = None,
        optimizer: OptimizerFactory = adam(weight_decay=0.1),
        steps: tuple[int, int, int] = (8, 6, 12),
        accumulate: int = 1,
    ) -> None:
        torch.manual_seed(0)
        self.generator, self.critic = ToyGenerator(), toy_critic()
        options: dict[str, Any] = {"optimizer": optimizer, "lr": 1e-2, "accumulate": accumulate}
        beginner = Player("generator", self.generator, imitate, schedule=one_cycle(), clip=1.0, ema=0.9, **options)
        self.expert = Player("critic", self.critic, judge, **options)
        self.artist = Player("generator", self.generator, persuade, ema=0.9, hold_statistics=True, **options)
        self.phases = [
            Phase("imitate", [beginner], steps[0]),
            Phase("judge", [self.expert, self.artist], steps[1]),
            Phase("play", [self.expert, self.artist], steps[2], switcher=switcher),
        ]


class Cut(Callback):
    """Ends the training with an error in the middle of a step, before the optimizer moves."""

    def __init__(self, at: int) -> None:
        self.at = at

    def on_before_update(self, trainer: Any, player: Player) -> None:
        if trainer.total == self.at:
            raise ConnectionError("the plug was pulled")


def toy_trainer(run: Path | None = None, *callbacks: Callback, **options: Any) -> Trainer:
    options = {"batch_size": 4, "log_every": 5, "save_every": 3, **options}
    return Trainer(run, Toys(), callbacks=callbacks, accelerator=Accelerator(cpu=True), **options)


def bits(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Names of what is not equal to the last bit, also inside dicts and lists."""
    assert one.keys() == other.keys()
    return [str(name) for name in one if not same(one[name], other[name])]


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


__all__ = [
    "Cut",
    "Game",
    "ToyGenerator",
    "Toys",
    "bits",
    "differences",
    "same",
    "sgd",
    "toy_critic",
    "toy_trainer",
]
