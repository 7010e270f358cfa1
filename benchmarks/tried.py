"""What each of gangen's ways to be fast gives, and what some others would: a GAN's step with one thing changed.

    python benchmarks/tried.py            # about 15 minutes on two CPU cores, most of it torch.compile's

The step is that of a UNet as it is by default, on a ResNet-34, and the critic of the sketch recipe, both players
learning from each batch. Each contestant differs from it in one thing, but that what is compiled, channels_last or
in bfloat16 has no convolutions as products, and what is compiled no maps with channels last. All take turns in one
process. A ratio above 1 says that the step would take so many times as long. On a GPU float32 is rounded to TF32
unless said otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from playing import Loss, losses, playing, small_critic
from reporting import Found, Table, tell
from timing import GPU, device, in_turn
from torch import Tensor, nn

from gangen import layout
from gangen.data import Batch
from gangen.nets import Body, ImageHead, UNet
from gangen.nets.groups import body_of
from gangen.train import Alternate, Player, launch, products
from gangen.train.launch import choose_float32
from gangen.train.muon import muon
from gangen.train.optim import OptimizerFactory, adam, decay_groups

AS_IT_IS = "as it is"
MEMORY = "memory as glibc keeps it by itself"


@dataclass(kw_only=True)
class Settings:
    """What is measured."""

    body: str = "resnet34"
    """Of the UNet."""
    size: int = 256 if GPU else 128
    """Side of the pictures, in pixels; by default 128, and 256 on a GPU."""
    batch_size: int = 32 if GPU else 4
    """Pictures a batch; by default 4, and 32 on a GPU."""
    steps: int = 2
    """Steps of each player in a round."""
    rounds: int = 11
    """How often each is timed."""
    compile: bool = True
    """Whether torch.compile is among what is tried; on the CPU it needs g++."""
    out: Path | None = None
    """JSON file for the result."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """One thing changed.

    Attributes:
        optimizer: of both players; is given the network, and makes what makes its optimizer.
        layout: of weights and pictures in memory.
        around: what a round happens within.
        precision: what a loss is computed within.
        turns: one player learns from a batch, rather than both.
        compile: a backend of torch.compile.
    """

    optimizer: Callable[[nn.Module], OptimizerFactory] = lambda network: adam()
    layout: torch.memory_format = torch.contiguous_format
    around: Callable[[], AbstractContextManager[Any]] = nullcontext
    precision: Callable[[], AbstractContextManager[Any]] = nullcontext
    turns: bool = False
    compile: str | None = None


def torchs_choice(network: nn.Module) -> OptimizerFactory:
    return lambda groups, lr: torch.optim.AdamW(decay_groups(groups, 0.0), lr=lr, betas=(0.9, 0.99))


def new_layers_by_muon(network: nn.Module) -> OptimizerFactory:
    return muon(network, body=body_of(network))


@contextmanager
def bounded(module: Any, weights_a_place: float) -> Iterator[None]:
    """Have a module's convolutions change from this many weights for each place on, or up to there."""
    before = module.WEIGHTS_A_PLACE
    module.WEIGHTS_A_PLACE = weights_a_place
    try:
        yield
    finally:
        module.WEIGHTS_A_PLACE = before


@contextmanager
def exact() -> Iterator[None]:
    choose_float32("ieee")
    try:
        yield
    finally:
        choose_float32("tf32")


def bfloat16() -> AbstractContextManager[Any]:
    return torch.autocast(device().type, torch.bfloat16)


def ways(compiled: bool) -> dict[str, Way]:
    """What is tried here, by name. Memory, products and maps concern CPUs alone, and exact products GPUs."""
    last = torch.channels_last
    tried = {
        AS_IT_IS: Way(),
        "the generator runs for each player by itself, in turns": Way(turns=True),
        "AdamW as torch chooses, not fused": Way(optimizer=torchs_choice),
        "Muon of all hidden layers but the body's": Way(optimizer=new_layers_by_muon),
        "channels_last, weights and pictures": Way(layout=last),
        "bfloat16 (--precision bf16)": Way(precision=bfloat16),
    }
    if GPU:
        tried["float32, not rounded to TF32 (--precision no)"] = Way(around=exact)
        tried["bfloat16, channels_last"] = Way(precision=bfloat16, layout=last)
    else:
        tried[MEMORY] = Way()
        tried["no convolution as a product"] = Way(around=lambda: bounded(products, math.inf))
        tried["no maps with channels last"] = Way(around=lambda: bounded(layout, 0))
    if compiled:
        tried["compiled (--compile)" if GPU else "compiled (--compile), without products"] = Way(
            compile="inductor"
        )
        if GPU:
            fastest = Way(compile="inductor", precision=bfloat16, layout=last)
            tried["compiled, bfloat16, channels_last"] = fastest
    return tried


def contestant(settings: Settings, way: Way) -> Callable[[], float]:
    """A trainer that plays so; gives the seconds of its steps."""
    torch.manual_seed(0)
    generator = UNet(Body(settings.body), ImageHead(3)).to(memory_format=way.layout)
    critic = small_critic().to(memory_format=way.layout)

    def so(loss: Loss) -> Loss:
        def within(nets: Any, batch: Batch) -> dict[str, Tensor]:
            given, target = (part.contiguous(memory_format=way.layout) for part in batch[:2])
            with way.precision():
                return loss(nets, batch._replace(input=given, target=target))

        return within

    persuade, judge = losses()
    players = [
        Player("critic", critic, so(judge), lr=2e-4, optimizer=way.optimizer(critic)),
        Player("generator", generator, so(persuade), lr=2e-4, optimizer=way.optimizer(generator)),
    ]
    play = playing(
        players,
        size=settings.size,
        batch_size=settings.batch_size,
        steps=settings.steps * (2 if way.turns else 1),
        switcher=Alternate(critic=1, generator=1) if way.turns else None,
        compile=way.compile,
    )

    def work() -> float:
        with way.around():
            return play()

    return work


def main(settings: Settings) -> None:
    launch()
    contestants = {name: contestant(settings, way) for name, way in ways(settings.compile).items()}
    timed = in_turn(contestants, settings.rounds, as_they_come=[MEMORY])
    ratios = {name: timed[AS_IT_IS].ratio(each) for name, each in timed.items()}
    rows = [
        [name, f"{each.median / settings.steps:.3f}", "1" if name == AS_IT_IS else str(ratios[name])]
        for name, each in timed.items()
    ]
    about = (
        f"{settings.body}, {settings.size}x{settings.size}, batches of {settings.batch_size}; medians of "
        f"{settings.rounds} rounds of {settings.steps} steps of each player."
    )
    table = Table(["changed", "seconds, both players' steps", "time, of that as it is"], rows, about)
    values = {name: {"seconds": timed[name].seconds, "ratio": vars(ratios[name])} for name in timed}
    tell(Found("What was tried", [table], values), settings.out)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
