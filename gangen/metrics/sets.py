"""Metrics of two sets of pictures: FID, KID, and how varied a set is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gangen.errors import UserError
from gangen.metrics.features import FeatureNet, resize_protocol, resized
from gangen.metrics.lpips import LPIPS
from gangen.metrics.protocol import Better, Measure, describe, require_side

State = dict[str, list[list[Tensor]]]
"""Points by side ("outputs", "targets") and feature network, each a list of (N, D)."""

_BLOCK = 1024  # rows of a kernel matrix held in memory
_FIRST_ORDER = "bootstrap over pictures of the first-order terms, each set drawn by itself"


@dataclass(frozen=True)
class Estimate:
    """A number of two sets.

    Attributes:
        value: the number.
        pulls: for each set that it depends on, how far every picture pulls the value from where it would be
            without it, to the first order and with a mean of 0; none where an interval would not be honest.
    """

    value: float
    pulls: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class SetMetric:
    """A metric of a set of outputs and a set of targets, whose pictures need not belong together.

    It must not depend on the order of the pictures, which come from several processes.

    Attributes:
        name: what it is logged as.
        features: what it sees of each picture; metrics that share it share its work.
        function: outputs (n, D) and targets (m, D), float64 on the CPU, to the estimate.
        better: which way is better; None for a number that only describes.
        protocol: how it is computed: two numbers with unlike protocols cannot be compared.
    """

    name: str
    features: FeatureNet
    function: Callable[[Tensor, Tensor], Estimate]
    better: Better
    protocol: Mapping[str, Any] = field(hash=False)

    def __call__(self, outputs: Tensor, targets: Tensor) -> Estimate:
        """The estimate from points, (n, D) and (m, D) as `features` gives them.

        Raises:
            UserError: a set has fewer than two pictures.
        """
        if min(len(outputs), len(targets)) < 2:
            raise UserError(
                f"{self.name} is of sets of two pictures at least, these are {len(outputs)} and {len(targets)}. "
                "Give more pictures, or leave it out."
            )
        return self.function(outputs.cpu().double(), targets.cpu().double())


def fid(features: FeatureNet) -> SetMetric:
    """Fréchet inception distance (Heusel et al. 2017, arXiv:1706.08500, eq. 6); lower is closer.

    The distance of two Gaussians, |m1 - m2|² + Tr(C1 + C2 - 2 (C1 C2)^½), by torchmetrics in float64. It grows as
    the sets shrink, so the protocol holds both counts; and since a bootstrap would be off by the same, it has no
    interval.
    """
    none = "none: the value depends on the number of pictures, and so would its bootstrap"
    protocol = _protocol(features, library="torchmetrics", interval=none)
    return SetMetric("fid", features, _frechet, "lower", protocol)


def kid(features: FeatureNet) -> SetMetric:
    """Kernel inception distance (Binkowski et al. 2018, arXiv:1801.01401); lower is closer.

    The unbiased squared maximum mean discrepancy (Gretton et al. 2012, eq. 3) with the kernel (x·y / D + 1)³, over
    all pairs: nothing is drawn, and every picture counts. Others draw subsets of 1,000, whose mean estimates the
    same. Equal laws give 0 on average, so a value may lie below it. Where two sets hardly differ, the interval is
    too narrow.
    """
    estimator = "unbiased, all pairs, no subsets"
    protocol = _protocol(features, kernel="(x.y / D + 1)^3", estimator=estimator, interval=_FIRST_ORDER)
    return SetMetric("kid", features, _discrepancy, "lower", protocol)


def diversity(
    net: Literal["alex", "vgg"] = "alex", *, weights: str | Path, head: str | Path | None = None, size: int = 64
) -> tuple[SetMetric, SetMetric]:
    """Mean LPIPS over all pairs of a set: `diversity` of the outputs, `diversity_target` of the targets.

    A generator that paints the same whatever it is given has 0; what it should come to is the targets' (Zhu et al.
    2017, "Toward multimodal image-to-image translation", arXiv:1711.11586). All pairs, so nothing is drawn.

    Args:
        net: see `LPIPS`.
        weights: see `LPIPS`.
        head: see `LPIPS`.
        size: side in pixels that pictures are brought to, by an antialiased bilinear filter whatever their
            proportions. A picture is kept as a point of 32,000 numbers at 64, and of four times as many at 128.

    Raises:
        WeightsError: a file cannot be read or belongs to another network.
        UserError: the size is too small for the network.
    """
    measure = LPIPS(net, weights=weights, head=head)
    require_side("LPIPS", torch.empty(0, 3, size, size), measure.least)
    told = {key: measure.protocol[key] for key in ("network", "version", "weights", "head")}
    features = FeatureNet(
        lambda pictures: measure.points(resized(pictures, size)), {**told, "resize": resize_protocol(size)}
    )
    protocol = _protocol(features, value="mean LPIPS", estimator="all pairs of the set", interval=_FIRST_ORDER)
    return (
        SetMetric("diversity", features, lambda outputs, targets: _spread(outputs), None, protocol),
        SetMetric("diversity_target", features, lambda outputs, targets: _spread(targets), None, protocol),
    )


def divided(metrics: Sequence[Measure | SetMetric]) -> tuple[list[Measure], list[SetMetric]]:
    """The metrics of pictures, and those of sets."""
    measures = [metric for metric in metrics if not isinstance(metric, SetMetric)]
    return measures, [metric for metric in metrics if isinstance(metric, SetMetric)]


class Seen:
    """The points of outputs and targets, gathered batch by batch on the CPU."""

    def __init__(self, metrics: Sequence[SetMetric]) -> None:
        self.metrics = tuple(metrics)
        self._nets = tuple(dict.fromkeys(metric.features for metric in metrics))
        self._points: State = {side: [[] for _ in self._nets] for side in ("outputs", "targets")}

    def add(self, *, outputs: Tensor | None = None, targets: Tensor | None = None) -> None:
        """See pictures, (N, 3, H, W) in [-1, 1], of either set or of both."""
        for side, pictures in (("outputs", outputs), ("targets", targets)):
            if pictures is not None and len(pictures):
                for points, net in zip(self._points[side], self._nets, strict=True):
                    points.append(net(pictures).cpu())  # some ten thousand of them would fill a GPU

    def state(self) -> State:
        """All points, to be sent to another process."""
        return {
            side: [[torch.cat(points)] if points else [] for points in nets] for side, nets in self._points.items()
        }

    def estimates(self, states: Sequence[State] | None = None) -> dict[str, Estimate]:
        """Each metric's estimate by its name, from the states of all processes; of this one alone when None."""
        states = [self.state()] if states is None else states
        found = {}
        for metric in self.metrics:
            place = self._nets.index(metric.features)
            sides = [[p for state in states for p in state[side][place]] for side in ("outputs", "targets")]
            found[metric.name] = metric(*(torch.cat(points) if points else torch.empty(0, 0) for points in sides))
        return found


def _protocol(features: FeatureNet, **more: Any) -> dict[str, Any]:
    told = {key: value for key, value in features.protocol.items() if key != "versions"}
    versions = {"versions": features.protocol["versions"]} if "versions" in features.protocol else {}
    return describe(range="-1..1, clamped", features=told, **more, **versions)


def _frechet(outputs: Tensor, targets: Tensor) -> Estimate:
    # torchmetrics brings scipy along, seconds that most programs would wait for nothing.
    from torchmetrics.image.fid import FrechetInceptionDistance

    asis = nn.Identity()
    asis.num_features = outputs.shape[1]  # type: ignore[assignment]
    # Every process has all points already.
    distance = FrechetInceptionDistance(feature=asis, sync_on_compute=False)
    distance.update(outputs, real=False)
    distance.update(targets, real=True)
    return Estimate(distance.compute().item())


def _discrepancy(outputs: Tensor, targets: Tensor) -> Estimate:
    """Equation 3 of Gretton et al. 2012, "A kernel two-sample test"."""
    n, m = len(outputs), len(targets)
    within = _kernel_sums(outputs, outputs, but_itself=True) / (n - 1)
    across = _kernel_sums(outputs, targets) / m
    within_targets = _kernel_sums(targets, targets, but_itself=True) / (m - 1)
    across_targets = _kernel_sums(targets, outputs) / n
    value = within.mean() + within_targets.mean() - 2 * across.mean()
    # The derivatives of the expectations by each sample's law, doubled since both places of a kernel move.
    pulls = (2 * _centred(within - across), 2 * _centred(within_targets - across_targets))
    return Estimate(value.item(), pulls)


def _kernel_sums(one: Tensor, other: Tensor, but_itself: bool = False) -> Tensor:
    """For each row of `one`, the sum of its kernel with the rows of `other`, or with all of `one` but itself."""
    sums = torch.cat([((part @ other.T) / one.shape[1] + 1).pow(3).sum(dim=1) for part in one.split(_BLOCK)])
    return sums - (one.square().sum(dim=1) / one.shape[1] + 1).pow(3) if but_itself else sums


def _spread(points: Tensor) -> Estimate:
    """The mean squared distance over all pairs, from each point's mean distance to the others."""
    away = (points - points.mean(dim=0)).square().sum(dim=1)
    # Over j, |x_i - x_j|² sums up to n |x_i - mean|² + sum of |x_j - mean|².
    distances = (len(points) * away + away.sum()) / (len(points) - 1)
    return Estimate(distances.mean().item(), (2 * _centred(distances),))


def _centred(values: Tensor) -> Tensor:
    return values - values.mean()
