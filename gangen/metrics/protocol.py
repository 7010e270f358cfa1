"""What a metric is, and what is said with its number: two numbers with unlike protocols are not comparable."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, Protocol

from torch import Tensor

from gangen.errors import UserError

Better = Literal["lower", "higher"] | None


class Measure(Protocol):
    """What a metric must offer: `Metric` and `LPIPS` do."""

    @property
    def name(self) -> str:
        """What it is logged as."""
        ...

    @property
    def better(self) -> Better:
        """Which way is better; None for a number that only describes."""
        ...

    @property
    def protocol(self) -> Mapping[str, Any]:
        """How it is computed: two numbers with unlike protocols cannot be compared."""
        ...

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """(N, 3, H, W) twice, in [-1, 1], to (N,)."""
        ...


@dataclass(frozen=True)
class Metric:
    """A metric that is a plain function. The name "X_target" is for what X comes to on the targets."""

    name: str
    function: Callable[[Tensor, Tensor], Tensor]
    better: Better
    protocol: Mapping[str, Any] = field(hash=False)

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """(N, 3, H, W) twice, in [-1, 1], to (N,)."""
        return self.function(output, target)


def cropped(measure: Measure, pixels: int) -> Measure:
    """The same metric of pictures from each border of which `pixels` rows and columns are cut.

    Super-resolution by a factor of s is by custom judged with s pixels cut. The protocol's "crop" says how many.

    Raises:
        UserError: `pixels` is negative, or, when it is called, nothing of a picture is left.
    """
    if pixels < 0:
        raise UserError(f"crop {pixels} is impossible. Give the pixels to cut from each border, 0 or more.")
    if pixels == 0:
        return measure
    function = partial(_measure_inside, measure, pixels)
    return Metric(measure.name, function, measure.better, {**measure.protocol, "crop": pixels})


def describe(**more: Any) -> dict[str, Any]:
    """A protocol: what most metrics have in common, and `more`, which may overrule it."""
    return {"colour": "RGB", "range": "0..1, clamped, not rounded", "crop": 0, **more}


def unit(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Check the shapes, (N, C, H, W) in [-1, 1] and equal; give both as float32 in [0, 1], clamped.

    Raises:
        ValueError: the shapes differ or are no batch of pictures.
    """
    if output.shape != target.shape or output.ndim != 4:
        raise ValueError(
            f"outputs {tuple(output.shape)} and targets {tuple(target.shape)} must both be (N, C, H, W)"
        )
    return (output.float().clamp(-1, 1) + 1) / 2, (target.float().clamp(-1, 1) + 1) / 2


def require_side(what: str, pictures: Tensor, least: int) -> None:
    """Refuse pictures (N, C, H, W) of which a side is below `least` pixels.

    Raises:
        UserError: names the metric `what`, the size found and the size expected.
    """
    height, width = pictures.shape[2:]
    if min(height, width) < least:
        raise UserError(
            f"{what} needs pictures of at least {least}x{least} pixels, these are {width}x{height}. Leave it out, "
            "or judge larger pictures."
        )


def _measure_inside(measure: Measure, pixels: int, output: Tensor, target: Tensor) -> Tensor:
    height, width = target.shape[2:]
    if min(height, width) <= 2 * pixels:
        raise UserError(f"of {width}x{height} pixels nothing is left when {pixels} are cut from each border.")
    inside = (..., slice(pixels, -pixels), slice(pixels, -pixels))
    return measure(output[inside], target[inside])
