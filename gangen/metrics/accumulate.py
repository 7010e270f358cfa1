"""Numbers of a validation set, gathered batch by batch and over processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gangen.metrics import sets
from gangen.metrics.colour import SATURATION, SATURATION_GAP, SATURATION_TARGET
from gangen.metrics.labels import Count, CountMetric
from gangen.metrics.pixel import L1, PSNR, SSIM
from gangen.metrics.protocol import Measure
from gangen.metrics.sets import Seen, SetMetric, divided

STANDARD: tuple[Measure, ...] = (L1, PSNR, SSIM, SATURATION, SATURATION_TARGET, SATURATION_GAP)
"""What costs next to nothing, needs no weights, and takes pictures from 11 pixels a side on."""


AnyMetric = Measure | SetMetric | CountMetric
"""A metric of each picture, of two sets of pictures, or of what was counted."""


@dataclass(frozen=True)
class State:
    """What one process has seen, on the CPU, to be sent to the others."""

    totals: Tensor
    """(number of metrics of pictures + 1,): the sum of each one's values, then the count of pictures"""
    points: sets.State
    counts: tuple[Tensor, ...]
    """what the metrics of counts count, each once"""


class Metrics:
    """Metrics of a validation set, accumulated where the pictures are, with no wait for the device.

    Metrics of pictures become means; set metrics see all pictures together; metrics of counts see what was counted
    of all of them. Over several processes, collect their `state()` and give all of them to `compute`. Under
    autocast, everything is computed in float32 all the same.
    """

    def __init__(self, metrics: Sequence[AnyMetric] = STANDARD) -> None:
        names = [metric.name for metric in metrics]
        if len(set(names)) < len(names):
            raise ValueError(f"metrics need names of their own: {names}")
        self.metrics = tuple(metrics)
        self._counting = [metric for metric in metrics if isinstance(metric, CountMetric)]
        self._counted = tuple(dict.fromkeys(metric.counts for metric in self._counting))
        self._measures, self._sets = divided([m for m in metrics if not isinstance(m, CountMetric)])
        self.reset()

    def reset(self) -> None:
        """Forget all pictures."""
        self._totals = torch.zeros(len(self._measures) + 1, dtype=torch.float64)
        self._seen = Seen(self._sets)
        self._counts: dict[Count, Tensor] = {}

    @torch.no_grad()
    def update(self, output: Tensor, target: Tensor, counted: Tensor | None = None) -> None:
        """Measure a batch: (N, 3, H, W) twice, in [-1, 1], or what the metrics of counts take.

        Args:
            output: the network's pictures, or logits.
            target: what they should be, or labels.
            counted: (N,) bool, False for pictures that do not count, such as those that fill up a last batch.
        """
        with torch.autocast(output.device.type, enabled=False):
            values = [metric(output, target).detach() for metric in self._measures]
            table = torch.stack([*values, output.new_ones(len(output), dtype=torch.float32)])
            if counted is not None:
                counted = counted.to(output.device)
                table = table.where(counted, 0)
                output, target = output[counted], target[counted]
            self._seen.add(outputs=output, targets=target)
            for counts in self._counted:
                found = counts(output, target)
                self._counts[counts] = self._counts[counts] + found if counts in self._counts else found
        # Apple's devices have no float64
        exact = torch.float32 if table.device.type == "mps" else torch.float64
        self._totals = self._totals.to(table.device, exact) + table.sum(dim=1, dtype=exact)

    def state(self) -> State:
        """What was seen so far. Waits for the device."""
        counts = tuple(self._counts[counts].cpu() for counts in self._counted if counts in self._counts)
        return State(self._totals.cpu().double(), self._seen.state(), counts)

    def compute(self, states: Sequence[State] | None = None) -> dict[str, float]:
        """Give each metric's value by its name; NaN for a mean of which no picture was counted.

        Args:
            states: those of all processes, in any order; this one's own when None.

        Raises:
            UserError: there are fewer than two pictures for a set metric.
        """
        states = [self.state()] if states is None else states
        *sums, count = torch.stack([state.totals for state in states]).sum(dim=0).tolist()
        found = {
            measure.name: total / count if count else float("nan")
            for measure, total in zip(self._measures, sums, strict=True)
        }
        found |= {n: e.value for n, e in self._seen.estimates([state.points for state in states]).items()}
        counted = [state.counts for state in states if state.counts]  # a process may have had nothing to judge
        totals = [torch.stack(part).sum(dim=0) for part in zip(*counted, strict=True)]
        sums_of = dict(zip(self._counted, totals, strict=bool(totals)))
        for metric in self._counting:
            found[metric.name] = metric.function(sums_of[metric.counts]) if sums_of else float("nan")
        return {metric.name: found[metric.name] for metric in self.metrics}

    @property
    def protocols(self) -> dict[str, dict[str, Any]]:
        """Each metric's protocol by its name, for a run's config."""
        return {metric.name: dict(metric.protocol) for metric in self.metrics}
