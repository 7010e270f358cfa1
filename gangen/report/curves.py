"""A curve over the steps of a training: how it grows line by line, and how it is thinned for drawing."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, field
from typing import Any

POINTS = 900
"""A curve with more points than this is thinned; a plot is seldom wider in pixels."""


@dataclass
class Curve:
    """One named number over the steps. `values` holds NaN where a gap shall be drawn.

    Compact arrays rather than lists: a long run logs millions of numbers.
    """

    steps: array[float] = field(default_factory=lambda: array("d"))
    values: array[float] = field(default_factory=lambda: array("d"))

    def add(self, step: int, value: float | None) -> None:
        """Append a point; None, NaN and infinities become a gap."""
        self.steps.append(step)
        self.values.append(value if value is not None and math.isfinite(value) else math.nan)

    def rewind(self, step: int) -> None:
        """Forget all points from `step` on: a resumed training tells them again."""
        while self.steps and self.steps[-1] >= step:
            self.steps.pop()
            self.values.pop()

    def last(self) -> float | None:
        """Return the newest value that is a number, or None."""
        return next((value for value in reversed(self.values) if not math.isnan(value)), None)

    def drawn(self, limit: int = POINTS) -> dict[str, Any]:
        """Return what the page draws: lists `x` and `y` (None is a gap), at most about `limit` points.

        A longer curve is cut into equal stretches, and each keeps its lowest and its highest point and its
        first gap, so no spike and no NaN disappears. Then `mean` holds the means of the stretches as well,
        in the same form: smoothing the extremes would show their middle, not the mean.
        """
        count = len(self.steps)
        if count <= limit:
            return _listed([*zip(self.steps, self.values, strict=True)])
        kept = {0, count - 1}
        means = []
        stretches = limit // 3
        for k in range(stretches):
            stretch = range(k * count // stretches, (k + 1) * count // stretches)
            numbers = [i for i in stretch if not math.isnan(self.values[i])]
            if numbers:
                kept |= {min(numbers, key=self.values.__getitem__), max(numbers, key=self.values.__getitem__)}
            if len(numbers) < len(stretch):
                kept.add(next(i for i in stretch if math.isnan(self.values[i])))
            mean = math.fsum(self.values[i] for i in numbers) / len(numbers) if numbers else math.nan
            means.append((self.steps[stretch[len(stretch) // 2]], mean))
        return _listed([(self.steps[i], self.values[i]) for i in sorted(kept)]) | {"mean": _listed(means)}


def _listed(points: list[tuple[float, float]]) -> dict[str, Any]:
    return {"x": [int(x) for x, _ in points], "y": [None if math.isnan(y) else rounded(y) for _, y in points]}


def rounded(value: float) -> float:
    """Round to six significant digits: more than any screen shows, and half the size of the page."""
    return float(f"{value:.6g}")
