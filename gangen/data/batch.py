"""What a data set yields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """Inputs, the targets that belong to them, and their names.

    A data set yields one sample as a `Batch` without the leading dimension and with a single name; a
    `DataLoader` stacks samples into a `Batch` with N first and a tuple of N names, without a collate function.
    """

    input: Tensor
    """(N, 3, H, W) float32 in [-1, 1]"""
    target: Tensor
    """(N, 3, H, W) float32 in [-1, 1]; int64 labels (N, H, W) of pixels, or (N,) of pictures"""
    name: Sequence[str]
    """N names, each unique in its data set; a single `str` in a sample"""
