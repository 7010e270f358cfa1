"""How colourful pictures are, and how far that is from their targets': unseen by pixel errors."""

from __future__ import annotations

from torch import Tensor

from gangen import colour
from gangen.metrics.protocol import Metric, describe, unit


def saturation(output: Tensor, target: Tensor) -> Tensor:
    """Saturation of the output, 0 for grey to 1; see `gangen.colour.saturation`."""
    return colour.saturation(output.float())


def saturation_target(output: Tensor, target: Tensor) -> Tensor:
    """Saturation of the target: what the output's should come to."""
    return colour.saturation(target.float())


def saturation_gap(output: Tensor, target: Tensor) -> Tensor:
    """How far the output's saturation is from its own target's, either way, 0 to 1."""
    return (saturation(output, target) - saturation_target(output, target)).abs()


def colourfulness(output: Tensor, target: Tensor) -> Tensor:
    """Colourfulness of the output (Hasler & Suesstrunk 2003, "Measuring colourfulness in natural images").

    Their third metric, on a scale of 0..255: with rg = R - G and yb = (R + G) / 2 - B, the deviation of (rg, yb)
    over the pixels plus 0.3 times the length of its mean. By their scale 0 is not colourful, 15 slightly,
    33 moderately, 45 averagely, 59 quite, 82 highly and 109 extremely colourful.
    """
    return _colourfulness(unit(output, target)[0])


def colourfulness_target(output: Tensor, target: Tensor) -> Tensor:
    """Colourfulness of the target: what the output's should come to."""
    return _colourfulness(unit(output, target)[1])


def colourfulness_gap(output: Tensor, target: Tensor) -> Tensor:
    """How far the output's colourfulness is from its own target's, either way."""
    return (colourfulness(output, target) - colourfulness_target(output, target)).abs()


_PURITY = describe(value="mean over pixels of max - min over the channels")
_OPPONENT = describe(range="0..255, clamped, not rounded", value="M3 of Hasler & Suesstrunk 2003")
SATURATION = Metric("saturation", saturation, None, _PURITY)
SATURATION_TARGET = Metric("saturation_target", saturation_target, None, _PURITY)
SATURATION_GAP = Metric("saturation_gap", saturation_gap, "lower", _PURITY)
COLOURFULNESS = Metric("colourfulness", colourfulness, None, _OPPONENT)
COLOURFULNESS_TARGET = Metric("colourfulness_target", colourfulness_target, None, _OPPONENT)
COLOURFULNESS_GAP = Metric("colourfulness_gap", colourfulness_gap, "lower", _OPPONENT)

COLOUR = (
    SATURATION,
    SATURATION_TARGET,
    SATURATION_GAP,
    COLOURFULNESS,
    COLOURFULNESS_TARGET,
    COLOURFULNESS_GAP,
)
"""All metrics of colour."""


def _colourfulness(pictures: Tensor) -> Tensor:
    """(N, 3, H, W) in [0, 1] to (N,)."""
    red, green, blue = (pictures * 255).flatten(2).unbind(dim=1)
    rg, yb = red - green, (red + green) / 2 - blue
    spread = (rg.var(dim=1, correction=0) + yb.var(dim=1, correction=0)).sqrt()
    return spread + 0.3 * (rg.mean(dim=1).square() + yb.mean(dim=1).square()).sqrt()
