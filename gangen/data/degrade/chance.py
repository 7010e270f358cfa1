"""Draws from torch's global generator, as plain Python numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch

from gangen.errors import DataError

T = TypeVar("T")
Range = tuple[float, float]


def between(bounds: Range) -> float:
    """A number between two others, all alike probable."""
    low, high = bounds
    return low + (high - low) * torch.rand(()).item()


def whole(low: int, high: int) -> int:
    """A whole number from `low` to `high`, both included."""
    return int(torch.randint(low, high + 1, ()))


def happens(share: float) -> bool:
    """True in this share of cases."""
    return torch.rand(()).item() < share


def one_of(options: Sequence[T], weights: Sequence[float] | None = None) -> T:
    """One of the options, with probabilities in proportion to the weights."""
    shares = torch.tensor(weights or [1.0] * len(options), dtype=torch.float)
    return options[int(torch.multinomial(shares, 1))]


def check_range(name: str, bounds: Range, lowest: float, highest: float = float("inf")) -> None:
    """Raise a DataError unless lowest <= bounds[0] <= bounds[1] <= highest."""
    if not lowest <= bounds[0] <= bounds[1] <= highest:
        most = "" if highest == float("inf") else f" and at most {highest:g}"
        raise DataError(f"{name}={bounds}: expected two numbers, the lower first, of at least {lowest:g}{most}.")


def check_share(name: str, share: float) -> None:
    """Raise a DataError unless 0 <= share <= 1."""
    if not 0 <= share <= 1:
        raise DataError(f"{name}={share}: expected a share from 0 (never) to 1 (always).")
