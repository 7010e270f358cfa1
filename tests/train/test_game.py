"""A game on label maps: the critic learns to tell them apart, and its opinion moves the network."""

from types import SimpleNamespace

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import Dataset

from gangen.data import Batch
from gangen.labels import IGNORED
from gangen.losses import label_maps
from gangen.nets import PatchCritic
from gangen.train import NoGan, Together, Trainer, game_phases, nogan_phases
from tests.train.toys import bits, differences


class Halves(Dataset[Batch]):
    """Grey pictures that say nothing, labelled 0 on the left and 1 on the right, with a row that is ignored."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Batch:
        target = (torch.arange(16) > 7).long().repeat(16, 1)
        target[0] = IGNORED
        return Batch(0.1 * torch.randn(3, 16, 16), target, f"half-{index}")


class Preference(nn.Module):
    """A critic that likes the last class, by a weight that it hardly changes."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(5.0))

    def forward(self, shown: Tensor, condition: Tensor) -> Tensor:
        assert condition.shape[1:] == (3, 16, 16)
        assert not shown[:, :, 0].any(), "the ignored row is seen"
        return self.weight * (shown[:, -1:] - 0.5)


def game(network: nn.Module, critic: nn.Module, **options):  # type: ignore[no-untyped-def]
    settings = {"lr": 1e-2, "fool": 1.0, "switcher": Together(), "name": "network"} | options
    phases = game_phases(
        network,
        critic,
        lambda logits, batch: {"nothing": 0 * logits.sum()},
        judged=lambda logits, batch: label_maps(logits, batch.target),
        condition=lambda batch: batch.input,
        **settings,
    )
    Trainer(None, Halves(), batch_size=4, accelerator=Accelerator(cpu=True)).fit(phases)


def share_of_last(network: nn.Module) -> float:
    with torch.no_grad():
        return float(network(torch.zeros(1, 3, 16, 16)).softmax(dim=1)[:, -1].mean())


def test_the_critic_learns_alone_first() -> None:
    torch.manual_seed(0)
    network, critic = nn.Conv2d(3, 2, 1), PatchCritic(2, 3, width=8, layers=2)
    before = bits(network)
    game(network, critic, steps=(60, 0), critic_lr=1e-3)
    assert differences(before, bits(network)) == []
    batch = Halves()[0]
    logits, target = network(batch.input[None]), batch.target[None]
    with torch.no_grad():
        real, fake = (critic(shown, batch.input[None]).mean() for shown in label_maps(logits, target))
    assert real > 1
    assert fake < -1


def test_the_network_follows_the_critics_opinion_by_its_weight() -> None:
    shares = []
    for fool in (0.0, 1.0):
        torch.manual_seed(0)
        network = nn.Conv2d(3, 2, 1)
        before = share_of_last(network)
        game(network, Preference(), steps=(0, 40), critic_lr=1e-9, fool=fool)
        shares.append(share_of_last(network) - before)
    assert shares[0] == 0
    assert shares[1] > 0.05


def test_in_nogan_the_critic_sees_what_it_is_to_judge_and_the_likeness_what_was_painted() -> None:
    class Recorder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.seen = nn.Parameter(torch.ones(())), []

        def forward(self, shown: Tensor) -> Tensor:
            self.seen.append((shown.min().item(), shown.max().item()))
            return self.weight * shown

    critic, painted, likened = Recorder(), nn.Conv2d(3, 3, 1), []

    def likeness(fake: Tensor, batch: Batch) -> dict[str, Tensor]:
        likened.append(fake.abs().max().item())
        return {"pixel": fake.abs().mean()}

    nn.init.constant_(painted.bias, 5.0)
    phases = nogan_phases(
        NoGan(generator_steps=1, adversarial_steps=1),
        generator=painted,
        critic=critic,
        likeness=likeness,
        judged=lambda fake, batch: (batch.target, fake.clamp(-1, 1)),
    )
    nets = SimpleNamespace(generator=painted, critic=critic)
    batch = Batch(torch.zeros(2, 3, 4, 4), torch.full((2, 3, 4, 4), 0.5), ["a", "b"])
    for player in phases[-1].players:
        player.loss(nets, batch)
    assert max(highest for _, highest in critic.seen) == 1.0, "the critic saw what no picture can be"
    assert len(critic.seen) >= 2  # by the critic's loss, and by the generator's
    assert likened == [5.0]
