"""Augmentation of all that a critic sees, real and fake alike, through which gradients flow.

Zhao et al. 2020 (arXiv:2006.10738), DiffAugment: with few pictures a critic learns them by heart; shown each in
ever new variations it cannot, and since the generator's pictures are varied too, it does not learn to paint the
variations. Chance comes from torch's global random generator.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F


def diff_augment(
    pictures: Tensor,
    *,
    colour: bool = True,
    shift: float = 0.125,
    hole: float = 0.5,
    fill: Literal["grey", "edge"] = "grey",
) -> Tensor:
    """Vary each picture by itself, differentiably: (N, C, H, W) in [-1, 1] to the same shape.

    Values may leave [-1, 1] where colours vary.

    Args:
        pictures: real or fake.
        colour: vary brightness (up to 0.5 of the range 0..2 either way), saturation (0 to 2 times) and contrast
            (0.5 to 1.5 times).
        shift: move by up to this share of the side, either way.
        hole: blank a square of this share of the side, at a random place, with 0.
        fill: what comes in at a shift: 0, the middle "grey" of the paper, or the picture's own "edge", drawn out.
    """
    if colour:
        pictures = _colours(pictures)
    if shift:
        pictures = _shifted(pictures, shift, fill)
    return _holed(pictures, hole) if hole else pictures


def _colours(x: Tensor) -> Tensor:
    brightness, saturation, contrast = torch.rand(3, len(x), 1, 1, 1, device=x.device, dtype=x.dtype)
    x = x + (brightness - 0.5)
    grey = x.mean(dim=1, keepdim=True)
    x = grey + (x - grey) * (2 * saturation)
    level = x.mean(dim=(1, 2, 3), keepdim=True)
    return level + (x - level) * (contrast + 0.5)


def _shifted(x: Tensor, share: float, fill: str) -> Tensor:
    count, _, height, width = x.shape
    reach_y, reach_x = round(share * height), round(share * width)
    down = torch.randint(-reach_y, reach_y + 1, (count, 1), device=x.device)
    right = torch.randint(-reach_x, reach_x + 1, (count, 1), device=x.device)
    # A rim of one pixel, to which all that would come from outside is clamped
    rows = (torch.arange(height, device=x.device) + 1 - down).clamp(0, height + 1)
    columns = (torch.arange(width, device=x.device) + 1 - right).clamp(0, width + 1)
    picture = torch.arange(count, device=x.device)[:, None, None]
    rimmed = F.pad(x, (1, 1, 1, 1), mode="replicate" if fill == "edge" else "constant").permute(0, 2, 3, 1)
    return rimmed[picture, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _holed(x: Tensor, share: float) -> Tensor:
    count, _, height, width = x.shape
    sides = torch.tensor([height, width], device=x.device)
    # The hole's corner may lie outside, so that it does not always cover as much
    reach = (sides * share).round().clamp(min=1)
    corner = (torch.rand(count, 2, device=x.device) * (sides + 1) - reach / 2).floor()
    rows = torch.arange(height, device=x.device)
    columns = torch.arange(width, device=x.device)
    in_rows = (rows >= corner[:, :1]) & (rows < corner[:, :1] + reach[0])
    in_columns = (columns >= corner[:, 1:]) & (columns < corner[:, 1:] + reach[1])
    kept = ~(in_rows[:, :, None] & in_columns[:, None, :])
    return x * kept[:, None].to(x.dtype)
