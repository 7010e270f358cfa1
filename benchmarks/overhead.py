"""The trainer's own time: the same steps by gangen's trainer and by a hand-written loop, alternating, in one run.

    python benchmarks/overhead.py            # about 3 minutes on two CPU cores
    python benchmarks/overhead.py --help

Both train the same generator and critic on the same batches with the same losses, optimizers, clipping and moving
average, alternating generator and critic; on the CPU both compute small maps as products. What the trainer adds
is its own: turns, meters, callbacks, log records. Data are made beforehand; reading them costs both the same.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from accelerate import Accelerator
from ready import Ready
from reporting import Found, Table, tell
from timing import Ratio, now
from torch import Tensor, nn

from gangen.data import Batch
from gangen.losses import critic_terms, hinge, l1
from gangen.nets import Body, ImageHead, PatchCritic, UNet
from gangen.train import Alternate, Callback, Phase, Player, Trainer, launch
from gangen.train.ema import Average
from gangen.train.feed import Feed
from gangen.train.optim import adam, parameter_groups
from gangen.train.products import SmallMaps


@dataclass
class Settings:
    """What is measured."""

    body: str = "resnet18"
    """The generator's body."""
    size: int = 64
    """Side of the pictures, in pixels."""
    batch_size: int = 8
    """Pictures a batch."""
    steps: int = 10
    """Steps a measurement: half of the generator, half of the critic."""
    rounds: int = 40
    """Measurements of each, in turn; the median of the rounds' ratios counts."""
    out: Path | None = None
    """JSON file for the result."""


def persuasion(generator: Any, critic: Any, batch: Batch) -> dict[str, Tensor]:
    fake = generator(batch.input)
    return {"pixel": l1(fake, batch.target), "adversarial": 0.03 * hinge.generator(critic(fake, batch.input))}


def judgement(generator: Any, critic: Any, batch: Batch) -> dict[str, Tensor]:
    return critic_terms(critic, batch.target, generator(batch.input), hinge, condition=batch.input)


def networks(settings: Settings) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    device = Accelerator().device
    generator, critic = UNet(Body(settings.body), ImageHead(3)), PatchCritic(3, condition_channels=3, width=32)
    return generator.to(device), critic.to(device)


def by_hand(settings: Settings, data: Ready) -> Callable[[], Any]:
    """The loop as one would write it for this job alone."""
    generator, critic = networks(settings)
    average = Average(generator)
    optimizers = {net: adam()(parameter_groups(net, 2e-4), 2e-4) for net in (generator, critic)}
    device = Accelerator().device
    feed = Feed(data, settings.batch_size, seed=0, device=device)

    def train() -> None:
        for step in range(settings.steps):
            batch = next(feed)
            learner, other = (critic, generator) if step % 2 == 0 else (generator, critic)
            learner.train().requires_grad_(True)
            other.eval().requires_grad_(False)
            with SmallMaps() if device.type == "cpu" else nullcontext():
                terms = (judgement if learner is critic else persuasion)(generator, critic, batch)
            torch.stack(list(terms.values())).sum().backward()
            if learner is generator:
                nn.utils.clip_grad_norm_(generator.parameters(), 1.0)
            optimizers[learner].step()
            optimizers[learner].zero_grad(set_to_none=True)
            if learner is generator:
                average.update(generator, 0.99)

    return train


class Alternating(Callback):
    """After every so many steps of the trainer, lets the other loop do as many, and times both."""

    def __init__(self, hand: Callable[[], Any], steps: int) -> None:
        self.hand, self.steps = hand, steps
        self.pairs: list[tuple[float, float]] = []
        self.begun = 0.0

    def on_phase_start(self, trainer: Trainer) -> None:
        """Start the clock."""
        self.begun = now()

    def on_step_end(self, trainer: Trainer) -> None:
        """Take the time of a round."""
        if trainer.step % self.steps == 0:
            half = now()
            self.hand()
            self.pairs.append((half - self.begun, now() - half))
            self.begun = now()


def by_trainer(settings: Settings, data: Ready, folder: Path, alternating: Alternating) -> None:
    """The same by gangen, with its log, its progress bar and its checks; without checkpoints.

    A checkpoint's cost depends on how often one wants it, not on the loop.
    """
    generator, critic = networks(settings)
    players = [
        Player("critic", critic, lambda nets, batch: judgement(nets.generator, nets.critic, batch)),
        Player(
            "generator",
            generator,
            lambda nets, batch: persuasion(nets.generator, nets.critic, batch),
            clip=1.0,
            ema=0.99,
        ),
    ]
    trainer = Trainer(
        folder,
        data,
        batch_size=settings.batch_size,
        callbacks=[alternating],
        accelerator=launch(),
        log_every=10,
        save_every=0,
    )
    steps = settings.steps * (settings.rounds + 1)
    trainer.fit([Phase("play", players, steps, switcher=Alternate(critic=1, generator=1))])


def main(settings: Settings) -> None:
    if settings.rounds < 6:
        raise SystemExit(f"--rounds {settings.rounds}: expected 6 or more, or no interval of 95% can be told.")
    data = Ready(64, settings.size)
    launch()
    alternating = Alternating(by_hand(settings, data), settings.steps)
    with tempfile.TemporaryDirectory() as folder:
        by_trainer(settings, data, Path(folder) / "run", alternating)
    pairs = alternating.pairs[1:]  # the first round warms up
    ratios = [trainer / hand for trainer, hand in pairs]
    ratio, quartiles = Ratio.of(ratios), statistics.quantiles(ratios, n=4)
    by_us, by_them = (statistics.median(each) / settings.steps for each in zip(*pairs, strict=True))
    row = [
        f"{by_them:.4f}",
        f"{by_us:.4f}",
        f"{ratio.median:.4f}",
        f"{ratio.lowest:.4f} to {ratio.highest:.4f}",
        f"{quartiles[0]:.3f} to {quartiles[2]:.3f}",
    ]
    heads = [
        "seconds a step, by hand",
        "by the trainer",
        "ratio",
        "95% interval of its median",
        "quartiles of the rounds",
    ]
    about = (
        f"{settings.body}, {settings.size}x{settings.size}, batches of {settings.batch_size}; {len(pairs)} "
        "rounds of "
        f"{settings.steps} steps."
    )
    tell(
        Found("The trainer's own time", [Table(heads, [row], about)], {"rounds": pairs}, ("accelerate",)),
        settings.out,
    )


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
