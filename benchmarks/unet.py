"""What UNets cost beside fastai's and segmentation_models_pytorch's: time, multiplications, memory.

    pip install -e ".[peers]"
    python benchmarks/unet.py                                    # about 40 minutes on two CPU cores
    python benchmarks/unet.py --bodies resnet34 --sizes 256      # about 4 minutes

Each gives three channels on the same body: gangen's `UNet` with an `ImageHead`, and that of the sketch recipe,
which has a bottleneck besides; fastai's `create_unet_model`, as `unet_learner` calls it;
segmentation_models_pytorch's `Unet`. Time is of one picture, in batches, in train mode: forward without a graph,
and forward and backward with all weights learning. All take turns in one process: gangen's with memory and
convolutions of small maps as in its trainer, the peers as in any Python program. Multiplications are counted by
torch, a multiply-add as two; their rate, forward and backward, is told as a share of the best convolution's (see
limit.py). Memory is what a forward and backward pass needs at its peak besides weights and gradients: on a GPU as
torch's allocator counts it, on the CPU as what a process of its own has resident.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import tyro
from limit import rates
from playing import painter
from reporting import Found, Table, tell
from timing import FLOAT32, GPU, device, giga_flop, give_back_memory, in_turn, now, peak_memory
from torch import Tensor, nn
from torchvision import models

from gangen.nets import Body, ImageHead, UNet
from gangen.train import launch
from gangen.train.products import SmallMaps

OURS, SKETCHES = GANGENS = "gangen", "gangen, sketch recipe"
HEADS = ("body", "pixels", "UNet", "GFLOP, forward", "ms, forward", "ms, both ways", "time, of gangen's")

OF_CPUS = (
    "gangen's networks work as in its trainer, which keeps memory and makes convolutions of small maps products, "
    "and on CPUs with AVX512 they lay maps out with channels last; the others work as in any Python program. "
)


@dataclass(kw_only=True)
class Settings:
    """What is measured."""

    bodies: tuple[str, ...] = ("resnet18", "resnet34", "resnet50")
    """Bodies."""
    sizes: tuple[int, ...] = (128, 256)
    """Sides of the pictures, in pixels."""
    batch_size: int = 32 if GPU else 2
    """Pictures a batch; by default 2, and 32 on a GPU."""
    rounds: int = 6
    """How often each is timed."""
    out: Path | None = None
    """JSON file for the result."""


def ours(body: str, size: int) -> nn.Module:
    return UNet(Body(body), ImageHead(3))


def of_sketches(body: str, size: int) -> nn.Module:
    return painter(body)


def of_fastai(body: str, size: int) -> nn.Module:
    from fastai.vision import all as fastai

    arch = getattr(models, body)
    made: nn.Module = fastai.create_unet_model(arch, 3, (size, size), pretrained=False, act_cls=nn.ReLU)
    return made


def of_smp(body: str, size: int) -> nn.Module:
    import segmentation_models_pytorch as smp

    made: nn.Module = smp.Unet(body, encoder_weights=None, classes=3)
    return made


NETWORKS: dict[str, Callable[[str, int], nn.Module]] = {
    OURS: ours,
    SKETCHES: of_sketches,
    "fastai": of_fastai,
    "segmentation_models_pytorch": of_smp,
}


def forward(network: nn.Module, pictures: Tensor) -> None:
    with torch.no_grad():
        network(pictures)


def by_products(name: str) -> bool:
    """Whether this network's convolutions of small maps are products: those of gangen's trainer are, on CPUs."""
    return name in GANGENS and not GPU


def both_ways(network: nn.Module, pictures: Tensor, *, products: bool) -> None:
    with SmallMaps() if products else nullcontext():
        network(pictures).square().mean().backward()
    network.zero_grad(set_to_none=True)


def memory(name: str, body: str, size: int, batch_size: int) -> float:
    """MiB a picture at the peak of a forward and backward pass, weights and gradients aside."""
    if name in GANGENS:
        launch()
    network = NETWORKS[name](body, size).to(device()).train()
    pictures = torch.randn(batch_size, 3, size, size, device=device())
    with SmallMaps() if by_products(name) else nullcontext():
        network(pictures[:1, :, :64, :64]).square().mean().backward()  # what torch needs once; and the gradients
        before = peak_memory() if device().type == "cpu" else torch.cuda.memory_allocated() / 2**20
        network(pictures).square().mean().backward()
    now()
    return (peak_memory() - before) / batch_size


def measure(settings: Settings, body: str, size: int, limit: float) -> list[dict[str, Any]]:
    count = settings.batch_size
    pictures = torch.randn(count, 3, size, size, device=device())
    networks = {name: make(body, size).to(device()).train() for name, make in NETWORKS.items()}
    usual = [name for name in networks if name not in GANGENS]
    forth = {name: partial(forward, network, pictures) for name, network in networks.items()}
    back = {
        name: partial(both_ways, network, pictures, products=by_products(name))
        for name, network in networks.items()
    }
    one_way, timed = (in_turn(way, settings.rounds, as_they_come=usual) for way in (forth, back))
    rows = []
    give_back_memory()
    for name, network in networks.items():
        with multiprocessing.get_context("spawn").Pool(1) as alone:
            needed = alone.apply(memory, (name, body, size, count))
        rate = giga_flop(partial(both_ways, network, pictures, products=False)) / timed[name].median
        row = {
            "body": body,
            "size": size,
            "network": name,
            "GFLOP forward": giga_flop(partial(forward, network.eval(), pictures)) / count,
            "ms forward": 1e3 * one_way[name].median / count,
            "ms both ways": 1e3 * timed[name].median / count,
            "of gangen's": vars(timed[OURS].ratio(timed[name])),
            "share of limit": rate / limit,
            "MiB": needed,
        }
        rows.append(row)
        print(row, flush=True)
    return rows


def cells(row: dict[str, Any]) -> list[str]:
    times = "{median:.2f} ({lowest:.2f} to {highest:.2f})".format(**row["of gangen's"])
    numbers = [f"{row[key]:.1f}" for key in ("GFLOP forward", "ms forward", "ms both ways")]
    shown = "1" if row["network"] == OURS else times
    return [
        row["body"],
        str(row["size"]),
        row["network"],
        *numbers,
        shown,
        f"{row['share of limit']:.0%}",
        f"{row['MiB']:.0f}",
    ]


def main(settings: Settings) -> None:
    launch()
    limit = rates().training
    rows = [
        row for body in settings.bodies for size in settings.sizes for row in measure(settings, body, size, limit)
    ]
    about = (
        f"A picture, in batches of {settings.batch_size}; medians of {settings.rounds} rounds. "
        f"{'' if GPU else OF_CPUS}The limit is {limit:,.0f} GFLOP/s, {FLOAT32}."
    )
    table = Table([*HEADS, "of the limit", "MiB"], [cells(row) for row in rows], about)
    packages = ("torchvision", "fastai", "segmentation-models-pytorch")
    tell(Found("UNets", [table], {"limit": limit, "rows": rows}, packages), settings.out)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
