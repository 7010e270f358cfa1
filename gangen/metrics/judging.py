"""Judging pictures one by one, of whatever sizes, into results that say how they came about."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from gangen import __version__, images
from gangen.errors import UserError
from gangen.metrics.protocol import Measure
from gangen.metrics.result import Result, bootstrap_sum
from gangen.metrics.sets import Seen, SetMetric, divided


@torch.no_grad()
def judge(
    pairs: Iterable[tuple[str, Tensor, Tensor]],
    metrics: Sequence[Measure | SetMetric],
    *,
    protocol: Mapping[str, Any] | None = None,
    about: Mapping[str, Any] | None = None,
    device: str | torch.device = "cpu",
) -> list[Result]:
    """Judge pictures; each metric's protocol is completed by their count, their targets' hash, and versions.

    Args:
        pairs: for each picture its name, the output and the target, both (3, H, W) in [-1, 1] and of one size.
        metrics: see `gangen.metrics`; each of a name of its own. A set metric sees all outputs and all targets.
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
    measures, set_metrics = divided(metrics)
    values: dict[str, dict[str, float]] = {measure.name: {} for measure in measures}
    seen, census = Seen(set_metrics), _Census()
    for name, output, target in pairs:
        census.count(name, target)
        ours, theirs = output[None].to(device), target[None].to(device)
        try:
            for measure in measures:
                value = measure(ours, theirs).item()
                if not math.isfinite(value):
                    raise UserError(f"{measure.name} is {value}. Look for pixels that are not finite in it.")
                values[measure.name][name] = value
            seen.add(outputs=ours, targets=theirs)
        except UserError as error:
            raise UserError(f"{name}: {error}") from error
    told = {**(protocol or {}), "pictures": len(census.names), "targets": census.hash(), "versions": versions()}
    found = {
        measure.name: Result.of_pictures(
            measure.name, measure.better, values[measure.name], {**measure.protocol, **told}, dict(about or {})
        )
        for measure in measures
    }
    count = len(census.names)
    found |= _of_sets(seen, (count, count), census.hash(), protocol, about)
    return [found[name] for name in names]


@torch.no_grad()
def judge_sets(
    outputs: Iterable[tuple[str, Tensor]],
    targets: Iterable[tuple[str, Tensor]],
    metrics: Sequence[SetMetric],
    *,
    protocol: Mapping[str, Any] | None = None,
    about: Mapping[str, Any] | None = None,
    device: str | torch.device = "cpu",
) -> list[Result]:
    """Judge a set of pictures by another; they need not have equal names, sizes or counts.

    Args:
        outputs: each picture's name and the picture, (3, H, W) in [-1, 1].
        targets: the same of the set that it is judged by.
        metrics: set metrics, each of a name of its own.
        protocol: see `judge`.
        about: see `judge`.
        device: see `judge`.

    Raises:
        UserError: a set has fewer than two pictures, or a value is not finite.
        ValueError: two pictures of a set have one name.
    """
    seen, ours, theirs = Seen(metrics), _Census(), _Census()
    for name, picture in outputs:
        ours.count(name)
        seen.add(outputs=picture[None].to(device))
    for name, picture in targets:
        theirs.count(name, picture)
        seen.add(targets=picture[None].to(device))
    found = _of_sets(seen, (len(ours.names), len(theirs.names)), theirs.hash(), protocol, about)
    return [found[metric.name] for metric in metrics]


def _of_sets(
    seen: Seen,
    counts: tuple[int, int],
    targets: str,
    protocol: Mapping[str, Any] | None,
    about: Mapping[str, Any] | None,
) -> dict[str, Result]:
    found = {}
    estimates = seen.estimates()
    for metric in seen.metrics:
        estimate = estimates[metric.name]
        if not math.isfinite(estimate.value):
            raise UserError(f"{metric.name} is {estimate.value}. Look for pixels that are not finite.")
        told = {
            **metric.protocol,
            **(protocol or {}),
            "counts": dict(zip(("outputs", "targets"), counts, strict=True)),
            "targets": targets,
            "versions": {**versions(), **metric.protocol.get("versions", {})},
        }
        swing = bootstrap_sum([pull.tolist() for pull in estimate.pulls])
        interval = swing and replace(swing, low=estimate.value + swing.low, high=estimate.value + swing.high)
        found[metric.name] = Result(
            metric.name, metric.better, estimate.value, {}, told, interval, dict(about or {})
        )
    return found


class _Census:
    """Names of pictures, each only once, and what they show."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self._hashes: list[bytes] = []

    def count(self, name: str, picture: Tensor | None = None) -> None:
        if name in self.names:
            raise ValueError(f"two pictures have the name {name!r}")
        self.names.add(name)
        if picture is not None:
            self._hashes.append(_hash(picture))

    def hash(self) -> str:
        """Of the pictures; sorted, so that it depends on what they show and not on what they are called."""
        if not self.names:
            raise UserError("there is no picture to judge. Give one at least.")
        return hashlib.sha256(b"".join(sorted(self._hashes))).hexdigest()[:16]


def _hash(picture: Tensor) -> bytes:
    """The hash of a picture (3, H, W) in [-1, 1], to the 256 levels that a file would have."""
    levels = images.to_picture(picture)
    return hashlib.sha256(f"{levels.width}x{levels.height}:".encode() + levels.tobytes()).digest()


def versions() -> dict[str, str]:
    """The versions of gangen and of the libraries that numbers depend on."""
    names = ("torch", "torchvision", "torchmetrics", "pillow")
    return {"gangen": __version__, **{name: version(name) for name in names}}
