"""Means over a validation set, gathered batch by batch and over processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gangen.metrics.colour import SATURATION, SATURATION_GAP, SATURATION_TARGET
from gangen.metrics.pixel import L1, PSNR, SSIM
from gangen.metrics.protocol import Measure

STANDARD: tuple[Measure, ...] = (L1, PSNR, SSIM, SATURATION, SATURATION_TARGET, SATURATION_GAP)
"""What costs next to nothing, needs no weights, and takes pictures from 11 pixels a side on."""


class Metrics:
    """Means of metrics over a validation set, accumulated where the pictures are, with no wait for the device.

    Over several processes, add up their `totals` and give the sum to `compute`.
    """

    totals: Tensor
    """(number of metrics + 1,): the sum of each metric's values, then the count of pictures"""

    def __init__(self, metrics: Sequence[Measure] = STANDARD) -> None:
        names = [metric.name for metric in metrics]
        if len(set(names)) < len(names):
            raise ValueError(f"metrics need names of their own: {names}")
        self.metrics = tuple(metrics)
        self.reset()

    def reset(self) -> None:
        """Forget all pictures."""
        self.totals = torch.zeros(len(self.metrics) + 1, dtype=torch.float64)

    @torch.no_grad()
    def update(self, output: Tensor, target: Tensor, counted: Tensor | None = None) -> None:
        """Measure a batch, (N, 3, H, W) twice, in [-1, 1].

        Args:
            output: the network's pictures.
            target: what they should be.
            counted: (N,) bool, False for pictures that do not count, such as those that fill up a last batch.
        """
        values = torch.stack([metric(output, target).detach() for metric in self.metrics])
        values = torch.cat([values, torch.ones_like(values[:1])])
        if counted is not None:
            values = values.where(counted.to(values.device), 0)
        # Apple's devices have no float64
        exact = torch.float32 if values.device.type == "mps" else torch.float64
        self.totals = self.totals.to(values.device, exact) + values.sum(dim=1, dtype=exact)

    def compute(self, totals: Tensor | None = None) -> dict[str, float]:
        """Give each metric's mean by its name; NaN when no picture was counted. Waits for the device.

        Args:
            totals: the sum of several processes' `totals`; this one's own when None.
        """
        *sums, count = (self.totals if totals is None else totals).tolist()
        means = [total / count if count else float("nan") for total in sums]
        return {metric.name: mean for metric, mean in zip(self.metrics, means, strict=True)}

    @property
    def protocols(self) -> dict[str, dict[str, Any]]:
        """Each metric's protocol by its name, for a run's config."""
        return {metric.name: dict(metric.protocol) for metric in self.metrics}
