"""Data for benchmarks of what is not data: pictures that are there already."""

from __future__ import annotations

import torch
from torch.utils.data import Dataset

from gangen.data import Batch


class Ready(Dataset[Batch]):
    """Random pairs of pictures, in memory."""

    def __init__(self, count: int, size: int) -> None:
        self.pictures = torch.rand(count, 3, size, size) * 2 - 1

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Batch:
        return Batch(self.pictures[index], self.pictures[-1 - index], str(index))
