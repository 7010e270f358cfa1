"""A step of the generator and one of the critic on equal pictures, beside fastai's GAN and pix2pix.

    pip install -e ".[peers]"
    python benchmarks/gan_step.py            # about 10 minutes on two CPU cores

Timed are one step of each player on one batch of pairs, by the library's own loop, in train mode, with optimizers,
over some steps a round. All contestants take turns, each in a process of its own, with memory and threads as it
sets them or leaves them. Losses are an L1 distance and binary cross-entropy on the critic's logits.

    gangen                      `Trainer` with the networks of the sketch recipe on another body, but that the
                                critic sees the picture alone, as fastai's does, and not clamped; both players
                                learn from each batch (`Together`)
    gangen, in turns            the same with players that learn from a batch each, as fastai's do and as in NoGAN
    gangen, 70 pixels           the first with the critic of the super-resolution recipe: patches of 70 pixels
    fastai                      `GANLearner`; the UNet with blur, self-attention and weight norm and the
                                `gan_critic()` of its course's super-resolution GAN
    fastai's loop               `GANLearner` with the networks of the first
    gangen, fastai's networks   `Trainer` with fastai's networks, both players learning from each batch
    gangen, pix2pix's networks  `Trainer` with the networks of pix2pix
    pix2pix                     its networks and its step, written by us from the paper in plain PyTorch (see
                                pix2pix.py); its critic takes real and painted pictures one after the other, each
                                with a BatchNorm of its own, and the generator learns by the critic as it is after
                                its update, where gangen joins them, and takes the critic as it was before
    pix2pix, fused              the same with torch's fused Adam

The rate is that of the multiplications of a contestant's step, counted by torch, as a share of the best
convolution's, forward and backward (see limit.py). Memory is the most that its process had resident, Python and
libraries included, or on a GPU the most that torch had given out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import tyro
from limit import rates
from pix2pix import Patches70, UNet256, steps
from playing import Loss, losses, painter, playing, small_critic
from ready import Ready
from reporting import Found, Table, tell
from timing import FLOAT32, GPU, device, in_turn_apart, now
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from gangen.nets import PatchCritic
from gangen.train import Alternate, Player, launch
from gangen.train.launch import choose_float32
from gangen.train.optim import adam

OURS, TURNS, FINE = "gangen", "gangen, in turns", "gangen, 70 pixels"
FASTAI, MIXED, THEIRS = "fastai", "fastai's loop", "gangen, fastai's networks"
OUR_PIX2PIX, PIX2PIX, FUSED = "gangen, pix2pix's networks", "pix2pix", "pix2pix, fused"
BESIDE = {
    **dict.fromkeys((OURS, TURNS, FINE, MIXED, FASTAI, THEIRS), OURS),
    **dict.fromkeys((OUR_PIX2PIX, PIX2PIX, FUSED), OUR_PIX2PIX),
}
"""With whom each is compared."""

Contestant = Callable[[], float]


@dataclass(kw_only=True)
class Settings:
    """What is measured."""

    body: str = "resnet34"
    """Of the UNets."""
    size: int = 256 if GPU else 128
    """Side of the pictures, in pixels: a power of 2, and 64 or more, which fastai's critic needs. By default 128,
    and 256 on a GPU."""
    batch_size: int = 32 if GPU else 4
    """Pictures a batch; by default 4, and 32 on a GPU."""
    steps: int = 2
    """Steps of each player in a round."""
    rounds: int = 9
    """How often each is timed."""
    out: Path | None = None
    """JSON file for the result."""


def by_gangen(
    settings: Settings,
    generator: nn.Module,
    critic: nn.Module,
    loss: tuple[Loss, Loss],
    *,
    turns: bool = False,
) -> Contestant:
    """A trainer whose players both learn from each batch, or from one each; gives the seconds of its steps."""
    optimizer = adam(betas=(0.5, 0.999))
    players = [
        Player("critic", critic, loss[1], lr=2e-4, optimizer=optimizer),
        Player("generator", generator, loss[0], lr=2e-4, optimizer=optimizer),
    ]
    return playing(
        players,
        size=settings.size,
        batch_size=settings.batch_size,
        steps=settings.steps * (2 if turns else 1),
        switcher=Alternate(critic=1, generator=1) if turns else None,
    )


class Plain(Dataset[Any]):
    """Pictures as fastai takes them, so many."""

    def __init__(self, ready: Ready, count: int) -> None:
        self.ready, self.count = ready, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        batch = self.ready[index % len(self.ready)]
        return batch.input, batch.target


def by_fastai(settings: Settings, generator: nn.Module, critic: nn.Module) -> Contestant:
    """A `GANLearner` that alternates; gives the seconds of its training batches alone."""
    from fastai.vision import all as fastai
    from fastai.vision.gan import FixedGANSwitcher, GANLearner

    count = 2 * settings.steps * settings.batch_size  # one player learns from each batch
    data = Plain(Ready(64, settings.size), count)
    loader = fastai.DataLoader(data, bs=settings.batch_size, num_workers=0)
    loaders = fastai.DataLoaders(loader, loader, device=device())

    class Stopwatch(fastai.Callback):
        order = 1000
        begun = took = 0.0

        def before_train(self) -> None:
            """Start."""
            self.begun = now()

        def after_train(self) -> None:
            """Stop, and leave out the pass over validation data."""
            self.took = now() - self.begun
            raise fastai.CancelEpochException

    def told_real(logits: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, torch.ones_like(logits))

    def told_fake(logits: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, torch.zeros_like(logits))

    clock = Stopwatch()
    learner = GANLearner(
        loaders,
        generator,
        critic,
        lambda logits, output, target: F.l1_loss(output, target) + 0.02 * told_real(logits),
        lambda real, fake: told_real(real) + told_fake(fake),
        switcher=FixedGANSwitcher(n_crit=1, n_gen=1),
        show_img=False,
        cbs=[clock],
    )

    def work() -> float:
        with learner.no_bar(), learner.no_logging():
            learner.fit(1, 2e-4, wd=0.0)
        return clock.took

    return work


def by_hand(settings: Settings, generator: nn.Module, critic: nn.Module, *, fused: bool) -> Contestant:
    """pix2pix in plain PyTorch."""
    loader = DataLoader(Ready(64, settings.size), settings.batch_size, shuffle=True, drop_last=True)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            for batch in loader:
                yield batch.input.to(device()), batch.target.to(device())

    playing = steps(generator.to(device()).train(), critic.to(device()).train(), batches(), fused=fused)

    def work() -> float:
        begun = now()
        for _ in range(settings.steps):
            next(playing)
        return now() - begun

    return work


def fastai_networks(settings: Settings) -> tuple[nn.Module, nn.Module]:
    """Those of its course: a UNet with all its extras, and its critic with a dense block."""
    from fastai.layers import NormType
    from fastai.vision.gan import gan_critic
    from fastai.vision.learner import create_unet_model
    from torchvision import models

    side = (settings.size, settings.size)
    extras = {"blur": True, "self_attention": True, "norm_type": NormType.Weight, "y_range": (-3.0, 3.0)}
    return create_unet_model(getattr(models, settings.body), 3, side, pretrained=False, **extras), gan_critic()


def contestant(name: str, settings: Settings) -> Contestant:
    """One of them, made in its own process."""
    torch.manual_seed(0)
    if GPU:
        choose_float32("tf32")  # as gangen's trainer does
    if name == FASTAI:
        return by_fastai(settings, *fastai_networks(settings))
    if name == THEIRS:
        return by_gangen(settings, *fastai_networks(settings), losses())
    if BESIDE[name] == OUR_PIX2PIX:
        networks = UNet256(settings.size), Patches70()
        if name != OUR_PIX2PIX:
            return by_hand(settings, *networks, fused=name == FUSED)
        return by_gangen(settings, *networks, losses(conditional=True, pixel=100.0, opinion=1.0))
    fine = PatchCritic(3, width=32, layers=3, norm="instance", spectral=False)
    critic = fine if name == FINE else small_critic()
    generator = painter(settings.body)
    if name == MIXED:
        return by_fastai(settings, generator, critic)
    return by_gangen(settings, generator, critic, losses(), turns=name == TURNS)


def main(settings: Settings) -> None:
    launch()
    limit = rates().training
    timed = in_turn_apart({name: partial(contestant, name, settings) for name in BESIDE}, settings.rounds)
    rows, values = [], {}
    for name, beside in BESIDE.items():
        own = timed[name]
        seconds, flop = own.timing.median / settings.steps, own.gflop / settings.steps
        ratio = timed[beside].timing.ratio(own.timing)
        share = flop / seconds / limit
        times = "1" if name == beside else str(ratio)
        numbers = [f"{seconds:.3f}", f"{seconds / settings.batch_size:.3f}", times, f"{flop:.0f}", f"{share:.0%}"]
        rows.append([name, *numbers, f"{own.mebibytes:,.0f}"])
        values[name] = {
            "seconds": own.timing.seconds,
            "ratio": vars(ratio),
            "GFLOP": flop,
            "share": share,
            "MiB": own.mebibytes,
        }
    heads = ["", "seconds, both steps", "a picture", "time, of gangen's", "GFLOP", "of the limit", "MiB at most"]
    about = (
        f"{settings.size}x{settings.size}, batches of {settings.batch_size}, {settings.body}, "
        f"{FLOAT32}; medians of {settings.rounds} rounds of {settings.steps} steps of each. "
        "gangen's players, and pix2pix's, learn from the same batch, for which the generator paints once; "
        "fastai's, and gangen's in turns, from a batch each, for each of which it paints. pix2pix is our own "
        "writing of its paper; it is compared with gangen on its networks, whose critic is in eval mode while the "
        f"generator learns by it. The limit is {limit:,.0f} GFLOP/s."
    )
    table = Table(heads, rows, about)
    tell(Found("A step of each player", [table], {"limit": limit, **values}, ("fastai",)), settings.out)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
