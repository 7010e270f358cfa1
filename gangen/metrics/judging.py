"""Judging pictures one by one, of whatever sizes, into results that say how they came about."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from gangen import __version__, images
from gangen.errors import UserError
from gangen.metrics.protocol import Measure
from gangen.metrics.result import Result


@torch.no_grad()
def judge(
    pairs: Iterable[tuple[str, Tensor, Tensor]],
    metrics: Sequence[Measure],
    *,
    protocol: Mapping[str, Any] | None = None,
    about: Mapping[str, Any] | None = None,
    device: str | torch.device = "cpu",
) -> list[Result]:
    """Judge pictures; each metric's protocol is completed by their count, their targets' hash, and versions.

    Args:
        pairs: for each picture its name, the output and the target, both (3, H, W) in [-1, 1] and of one size.
        metrics: see `gangen.metrics`; each of a name of its own.
        protocol: what was done to the pictures before, such as a resize filter.
        about: whose pictures they are; see `Result`.
        device: where to compute.

    Raises:
        UserError: there is no picture, or one is too small for a metric, or its value is not finite; names it.
        ValueError: two pictures have one name, or an output and its target differ in shape.
    """
    names = [metric.name for metric in metrics]
    if len(set(names)) < len(names):
        raise ValueError(f"metrics need names of their own: {names}")
    values: dict[str, dict[str, float]] = {name: {} for name in names}
    seen: set[str] = set()
    targets: list[bytes] = []
    for name, output, target in pairs:
        if name in seen:
            raise ValueError(f"two pictures have the name {name!r}")
        seen.add(name)
        targets.append(_hash(target))
        ours, theirs = output[None].to(device), target[None].to(device)
        for metric in metrics:
            try:
                value = metric(ours, theirs).item()
            except UserError as error:
                raise UserError(f"{name}: {error}") from error
            if not math.isfinite(value):
                raise UserError(f"{name}: {metric.name} is {value}. Look for pixels that are not finite in it.")
            values[metric.name][name] = value
    if not seen:
        raise UserError("there is no picture to judge. Give one at least.")
    shared = {
        **(protocol or {}),
        "pictures": len(seen),
        # Sorted, so that it depends on what the targets show and not on what they are called.
        "targets": hashlib.sha256(b"".join(sorted(targets))).hexdigest()[:16],
        "versions": _versions(),
    }
    return [
        Result.of_pictures(
            metric.name, metric.better, values[metric.name], {**metric.protocol, **shared}, dict(about or {})
        )
        for metric in metrics
    ]


def _hash(picture: Tensor) -> bytes:
    """The hash of a picture (3, H, W) in [-1, 1], to the 256 levels that a file would have."""
    levels = images.to_picture(picture)
    return hashlib.sha256(f"{levels.width}x{levels.height}:".encode() + levels.tobytes()).digest()


def _versions() -> dict[str, str]:
    names = ("torch", "torchvision", "torchmetrics", "pillow")
    return {"gangen": __version__, **{name: version(name) for name in names}}
