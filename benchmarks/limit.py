"""What the machine can do at most: multiplications in matrices and in convolutions, and memory moved.

    python benchmarks/limit.py            # seconds

The other programs measure the same in their own run and tell their figures as shares of it. A multiply-add
counts as two. Each rate is the best of several rounds, since a limit is what is sought: of square matrices; of 3x3
convolutions of 64 to 512 channels, as a ResNet has them, forward alone and with both gradients; of copying 256
MiB, which reads as much as it writes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch
import tyro
from reporting import Found, Table, tell
from timing import FLOAT32, device, now
from torch import Tensor
from torch.nn import functional as F

from gangen.train import launch

SHAPES = ((64, 64), (128, 32), (256, 16), (512, 8))
"""Channels and side of the maps in the stages of a ResNet-34 at 256 pixels."""


@dataclass(kw_only=True)
class Settings:
    """What is measured."""

    seconds: float = 1.0
    """How long each rate is looked for."""
    types: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16")
    """Of the numbers; bfloat16 takes half a minute where the CPU has no instructions for it."""
    out: Path | None = None
    """JSON file for the result."""


@dataclass(frozen=True)
class Rates:
    """The best that was seen.

    Attributes:
        matrix: GFLOP/s of matrix products.
        convolution: GFLOP/s of convolutions, forward.
        training: GFLOP/s of convolutions, forward and backward.
        bandwidth: GB/s, read and written together.
    """

    matrix: float
    convolution: float
    training: float
    bandwidth: float


def rates(seconds: float = 0.5, dtype: torch.dtype = torch.float32) -> Rates:
    """Measure them, for so long each."""
    on_gpu = device().type == "cuda"
    side, pictures = (8192, 64) if on_gpu else (1024, 4)
    left, right = (torch.randn(side, side, device=device(), dtype=dtype) for _ in range(2))
    matrix = 2 * side**3 / _best(lambda: left @ right, seconds)

    forward, training = [], []
    for channels, size in SHAPES:
        shape = (pictures, channels, size, size)
        maps = torch.randn(shape, device=device(), dtype=dtype).contiguous(memory_format=torch.channels_last)
        filters = torch.randn(channels, channels, 3, 3, device=device(), dtype=dtype) / channels
        filters = filters.contiguous(memory_format=torch.channels_last)
        work = 2 * pictures * size**2 * 9 * channels**2
        forward.append(work / _best(partial(F.conv2d, maps, filters, padding=1), seconds / len(SHAPES)))
        for tensor in (maps, filters):
            tensor.requires_grad_()
        training.append(3 * work / _best(partial(_both_ways, maps, filters), seconds / len(SHAPES)))

    source = torch.zeros(64 * 2**20, device=device())
    target = torch.empty_like(source)
    moved = 2 * source.numel() * source.element_size()
    bandwidth = moved / _best(lambda: target.copy_(source), seconds)
    return Rates(*(rate / 1e9 for rate in (matrix, max(forward), max(training), bandwidth)))


def _both_ways(maps: Tensor, filters: Tensor) -> None:
    answer = F.conv2d(maps, filters, padding=1)
    torch.autograd.grad(answer, (maps, filters), torch.ones_like(answer))


def _best(work: Callable[[], object], seconds: float) -> float:
    """Seconds of the fastest round."""
    for _ in range(2):
        work()
    until, best = time.perf_counter() + seconds, float("inf")
    while time.perf_counter() < until:
        begun = now()
        work()
        best = min(best, now() - begun)
    return best


def main(settings: Settings) -> None:
    launch()
    found = {name: rates(settings.seconds, getattr(torch, name)) for name in settings.types}
    heads = ["", "matrices, GFLOP/s", "convolutions, GFLOP/s", "with both gradients, GFLOP/s", "memory, GB/s"]
    rows = [
        [FLOAT32 if name == "float32" else name, *(f"{rate:,.0f}" for rate in asdict(each).values())]
        for name, each in found.items()
    ]
    tell(
        Found("The machine's limit", [Table(heads, rows)], {n: asdict(e) for n, e in found.items()}), settings.out
    )


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
