"""Heads: what makes feature maps into an answer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gangen.errors import UserError


@dataclass(frozen=True)
class ImageHead:
    """Describes the last layers of a network that answers with a number, or several, for every pixel.

    Attributes:
        channels: 3 for a colour picture, 1 for a grey one, the number of classes for a mask's logits.
        output_range: lowest and highest value, reached through a tanh scaled onto it; None for no bounds
        (logits).
    """

    channels: int = 3
    output_range: tuple[float, float] | None = (-1.0, 1.0)

    def __post_init__(self) -> None:
        if isinstance(self.channels, bool) or not isinstance(self.channels, int) or self.channels < 1:
            raise UserError(f"a head of {self.channels!r} channels is impossible; give a whole number from 1 up.")
        if self.output_range is not None:
            object.__setattr__(self, "output_range", _range(self.output_range))

    @property
    def config(self) -> dict[str, Any]:
        """What rebuilds this head: `ImageHead(**config)`. JSON-able."""
        return {"channels": self.channels, "output_range": self.output_range and list(self.output_range)}

    def build(self, in_channels: int) -> nn.Sequential:
        """The layers: (N, in_channels, H, W) to (N, channels, H, W)."""
        conv = nn.Conv2d(in_channels, self.channels, 3, padding=1)
        return nn.Sequential(conv, *([Bounded(*self.output_range)] if self.output_range else []))


def _range(bounds: Any) -> tuple[float, float]:
    """Two finite numbers, the lower first, whatever sequence they come in; JSON knows lists only."""
    try:
        lowest, highest = bounds
        if -math.inf < lowest < highest < math.inf:
            return float(lowest), float(highest)
    except (TypeError, ValueError):
        pass
    raise UserError(f"output_range {bounds!r} is no range; give (lowest, highest), or None for no bounds.")


class Bounded(nn.Module):
    """Squeeze any number into (lowest, highest), with slope (highest - lowest) / 2 in the middle."""

    def __init__(self, lowest: float, highest: float) -> None:
        super().__init__()
        self.middle = (lowest + highest) / 2
        self.reach = (highest - lowest) / 2

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same shape."""
        return self.middle + self.reach * torch.tanh(x)
