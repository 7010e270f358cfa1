"""How fast a trained generator paints: pictures and megapixels a second, and a 4K picture in tiles.

    python benchmarks/inference.py            # about 2 minutes on two CPU cores

Pictures a second are of the UNet alone as `Pipeline` runs it, on batches that are there already, in turn. The 4K
picture goes through `Pipeline`, from a Pillow picture to one, in a process of its own, whose most resident memory
beyond what it had before is told. The share of the limit is of the best convolution's rate, forward (see
limit.py).
"""

from __future__ import annotations

import math
import multiprocessing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import tyro
from limit import rates
from PIL import Image
from reporting import Found, Table, tell
from timing import FLOAT32, GPU, device, in_turn, now, peak_memory
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from gangen import Pipeline
from gangen.nets import Body, ImageHead, UNet
from gangen.painting import at_rest
from gangen.train import launch


@dataclass(kw_only=True)
class Settings:
    """What is measured."""

    body: str = "resnet34"
    """Of the UNet."""
    size: int = 256
    """Side of the pictures in the batches, in pixels."""
    batches: tuple[int, ...] = (1, 16)
    """Pictures a batch."""
    picture: tuple[int, int] = (3840, 2160)
    """Width and height of the picture that is painted in tiles, in pixels; by default 4K."""
    tiles: tuple[int, ...] = (256, 768)
    """Sides of the tiles, in pixels."""
    rounds: int = 9
    """How often each batch is timed."""
    out: Path | None = None
    """JSON file for the result."""


def pipeline(body: str) -> Pipeline:
    torch.manual_seed(0)
    return Pipeline(UNet(Body(body), ImageHead(3))).to(device())


def whole(body: str, sides: tuple[int, int], tile: int) -> tuple[float, float]:
    """Seconds of a picture of these sides, and MiB beyond what was there before."""
    launch()
    painter = pipeline(body)
    picture = Image.effect_noise(sides, 64).convert("RGB")
    painter(picture.crop((0, 0, 64, 64)))  # what torch needs once
    before = peak_memory()
    if GPU:
        painter(picture, tile=tile)  # a GPU's kernels are chosen, and its memory found, at the first
    begun = now()
    painter(picture, tile=tile)
    return now() - begun, peak_memory() - before


def main(settings: Settings) -> None:
    launch()
    limit = rates().convolution
    painter = pipeline(settings.body)
    network, side = painter.network, settings.size

    def answer(batch: Tensor) -> None:
        with at_rest(network):
            network(batch)

    batches = {str(count): torch.randn(count, 3, side, side, device=device()) for count in settings.batches}
    timed = in_turn({name: partial(answer, batch) for name, batch in batches.items()}, settings.rounds)
    rows, values = [], {}
    for name, batch in batches.items():
        with FlopCounterMode(display=False) as counter:
            answer(batch)
        speed = len(batch) / timed[name].median
        share = counter.get_total_flops() / 1e9 / timed[name].median / limit
        mega = speed * side**2 / 1e6
        rows.append([name, f"{speed:.1f}", f"{mega:.2f}", f"{share:.0%}"])
        values[name] = {"seconds": timed[name].seconds, "pictures/s": speed, "megapixels/s": mega, "share": share}
    about = f"{settings.body}, {side}x{side}, {FLOAT32}; medians of {settings.rounds} rounds."
    first = Table(["pictures a batch", "pictures/s", "megapixels/s", "of the limit"], rows, about)

    large = []
    for tile in settings.tiles:
        with multiprocessing.get_context("spawn").Pool(1) as alone:
            seconds, mebibytes = alone.apply(whole, (settings.body, settings.picture, tile))
        mega = math.prod(settings.picture) / seconds / 1e6
        large.append([str(tile), f"{seconds:.1f}", f"{mega:.2f}", f"{mebibytes:,.0f}"])
        values[f"tile {tile}"] = {"seconds": seconds, "megapixels/s": mega, "MiB": mebibytes}
    heads = ["side of a tile", "seconds", "megapixels/s", "MiB beyond the network"]
    second = Table(heads, large, f"A picture of {'x'.join(map(str, settings.picture))}, painted once:")
    tell(Found("Painting", [first, second], values), settings.out)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
