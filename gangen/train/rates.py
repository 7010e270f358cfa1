"""What the learning-rate range test found, as numbers and as a picture."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from gangen.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Rates:
    """What the test found. A notebook shows it as its plot.

    Attributes:
        rates: the rate of each step.
        losses: the loss of each step, before the step; over all processes.
        valley: a rate two thirds into the longest fall of the loss: a good peak rate for `fine_tune`.
        steepest: the rate where the smoothed loss falls most steeply; more daring than the other.
    """

    rates: tuple[float, ...] = field(repr=False)
    losses: tuple[float, ...] = field(repr=False)
    valley: float
    steepest: float

    def plot(self) -> Image.Image:
        """The loss by the rate, which is on a logarithmic axis, with `valley` and `steepest` marked; RGB.

        What is above the highest loss before the least one is cut off: a test ends where learning breaks, and what
        the loss then comes to would leave nothing else to be seen.

        Raises:
            UserError: matplotlib is not installed.
        """
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
        except ImportError as error:
            raise UserError('plots need matplotlib. Install it with: pip install "gangen[plots]"') from error
        canvas = FigureCanvasAgg(self._figure())
        canvas.draw()
        return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")

    def _repr_png_(self) -> bytes | None:
        """The plot for a notebook, which shows the text instead where matplotlib is not installed."""
        try:
            return self.plot()._repr_png_()
        except UserError:
            return None

    def _figure(self) -> Figure:
        # Not pyplot's: a figure of its own needs no display, and leaves alone what the user is drawing.
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4.5), dpi=120, layout="constrained")
        axes = figure.add_subplot(xlabel="learning rate", ylabel="loss", xscale="log")
        axes.plot(self.rates, self.losses, color="black", linewidth=1.2)
        marks = (("valley", self.valley, "tab:orange", "-"), ("steepest", self.steepest, "tab:blue", "--"))
        for name, rate, colour, line in marks:
            axes.axvline(rate, color=colour, linestyle=line, label=f"{name}: {rate:.2g}", zorder=1)
            axes.plot(rate, self.losses[self.rates.index(rate)], "o", color=colour)
        least = min(self.losses)
        highest = max(self.losses[: self.losses.index(least) + 1])
        if highest > least:
            margin = 0.08 * (highest - least)
            axes.set_ylim(least - margin, highest + margin)
        axes.grid(alpha=0.3)
        axes.legend()
        return figure
