"""Paint a large picture in overlapping tiles that are blended into each other, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from gangen.errors import UserError

STRIDE = 32
"""Tiles begin at multiples of a body's coarsest stride, so that its maps fall where they do on the whole."""


def check(tile: int | None, overlap: int) -> None:
    """Refuse sizes that do not fit a body's stride, or an overlap that leaves no way forward.

    Raises:
        UserError: says which value, and what is possible.
    """
    if tile is None:
        return
    if tile < 2 * STRIDE or tile % STRIDE:
        near = max(2, round(tile / STRIDE)) * STRIDE
        raise UserError(
            f"tile {tile} is impossible. Expected a multiple of {STRIDE} from {2 * STRIDE} up, like {near}."
        )
    if overlap < 0 or overlap % STRIDE or overlap >= tile:
        raise UserError(
            f"overlap {overlap} is impossible with tiles of {tile}. Expected a multiple of {STRIDE} below the "
            "tile's side, like 64."
        )


def paint_tiled(
    paint: Callable[[Tensor], Tensor], batch: Tensor, tile: int, overlap: int, scale: int = 1
) -> Tensor:
    """Paint (N, C, H, W) tile by tile.

    A tile at a border of the picture ends there, so the network pads it just as it pads the whole picture. Where
    tiles overlap, each fades out by a squared sine over `overlap` pixels; the pixels nearest to a tile's edge,
    which know least of their surroundings, count for nearly nothing.

    Args:
        paint: maps (N, C, h, w), with h and w at most `tile`, to (N, K, scale * h, scale * w).
        batch: the pictures.
        tile: side of a tile in pixels, a multiple of `STRIDE`.
        overlap: pixels, a multiple of `STRIDE` and less than `tile`; at least a network's receptive radius
            (its margin of influence) makes the result that of the whole picture.
        scale: by how much what is painted is larger; all other lengths are those of `batch`.

    Returns:
        (N, K, scale * H, scale * W), what `paint` makes of the whole as nearly as the overlap allows.
    """
    height, width = batch.shape[2:]
    painted: Tensor | None = None
    weights = torch.zeros(1, 1, scale * height, scale * width)
    for top in starts(height, tile, overlap):
        for left in starts(width, tile, overlap):
            bottom, right = min(top + tile, height), min(left + tile, width)
            part = paint(batch[:, :, top:bottom, left:right])
            rows = _fade(scale * top, scale * bottom, scale * height, scale * overlap)
            columns = _fade(scale * left, scale * right, scale * width, scale * overlap)
            weight = rows[:, None] * columns[None, :]
            if painted is None:
                painted = part.new_zeros(*part.shape[:2], *weights.shape[2:])
            place = (..., slice(scale * top, scale * bottom), slice(scale * left, scale * right))
            painted[place] += part * weight
            weights[place] += weight
    assert painted is not None
    return painted.div_(weights)


def starts(length: int, tile: int, overlap: int) -> list[int]:
    """Return where the tiles along one side begin; the last is moved back so that it is (nearly) a whole one."""
    if length <= tile:
        return [0]
    last = math.ceil((length - tile) / STRIDE) * STRIDE
    return [*range(0, last, tile - overlap), last]


def _fade(start: int, end: int, length: int, overlap: int) -> Tensor:
    """Weights of a tile's rows or columns: 1, falling to nearly 0 at edges that are not the picture's."""
    weight = torch.ones(end - start)
    place = torch.arange(end - start) + 0.5
    if overlap and start > 0:
        weight *= torch.sin(math.pi / 2 * (place / overlap).clamp(max=1)) ** 2
    if overlap and end < length:
        weight *= torch.sin(math.pi / 2 * ((end - start - place) / overlap).clamp(max=1)) ** 2
    return weight
