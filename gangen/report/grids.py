"""The sample grids of a run, chosen, compressed and embedded, so that a report stays one file of sane size."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from PIL import Image

from gangen.report.history import Sample

T = TypeVar("T")

GRIDS = 40
"""At most this many grids are embedded, evenly thinned, the first and the last always among them."""

BYTES = 12 * 2**20
"""At most this many compressed bytes of grids, unless the first and the last alone need more."""

WIDEST, TALLEST = 1600, 16000
"""Wider and taller grids are shrunk to so many pixels; WebP has at most 16,383 a side."""

_PIXELS_AT_MOST = 64 * 10**6


@dataclass(frozen=True)
class Embedded:
    """A picture as a `data:` address, with its size in pixels."""

    address: str
    width: int
    height: int


@dataclass(frozen=True)
class Grid(Embedded):
    """A grid with its place in the training, and the grid of the ways between its pictures where there is one."""

    sample: Sample
    between: Embedded | None = None

    @property
    def letters(self) -> int:
        """How much it adds to the page."""
        return len(self.address) + (len(self.between.address) if self.between else 0)


def embed_grids(run: Path, samples: list[Sample]) -> tuple[list[Grid], int]:
    """Embed at most `GRIDS` of the samples within `BYTES`; return them and how many could not be read."""
    grids, unreadable = [], 0
    for sample in evenly(samples, GRIDS):
        picture = _embed(run, sample.file)
        between = _embed(run, sample.between) if sample.between else None
        unreadable += (picture is None) + (between is None and sample.between is not None)
        if picture is not None:
            grids.append(Grid(picture.address, picture.width, picture.height, sample, between))
    size = sum(grid.letters for grid in grids) * 3 // 4  # base64 makes four letters of three bytes
    if size > BYTES:
        grids = evenly(grids, max(2, len(grids) * BYTES // size))
    return grids, unreadable


def embed_figures(run: Path, figures: dict[str, str]) -> dict[str, Embedded]:
    """Embed other pictures of the run, by their titles; those that cannot be read are left out."""
    read = {title: _embed(run, file) for title, file in figures.items()}
    return {title: picture for title, picture in read.items() if picture is not None}


def evenly(items: list[T], count: int) -> list[T]:
    """Return at most `count` (2 or more) of the items, evenly spread, the first and the last among them."""
    if len(items) <= count:
        return items
    return [items[round(k * (len(items) - 1) / (count - 1))] for k in range(count)]


def _embed(run: Path, file: str) -> Embedded | None:
    path = (run / file).resolve()
    if not path.is_relative_to(run.resolve()):
        return None  # a log from elsewhere shall not pull foreign pictures into a page that is passed on
    try:
        with Image.open(path) as opened:
            if opened.width * opened.height > _PIXELS_AT_MOST:
                return None
            picture = opened.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    shrunk = min(1.0, WIDEST / picture.width, TALLEST / picture.height)
    if shrunk < 1:
        size = (max(1, round(shrunk * picture.width)), max(1, round(shrunk * picture.height)))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    written = io.BytesIO()
    picture.save(written, "WEBP", quality=86, method=4)
    address = "data:image/webp;base64," + base64.b64encode(written.getvalue()).decode("ascii")
    return Embedded(address, picture.width, picture.height)
