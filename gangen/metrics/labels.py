"""Metrics of labels: of one class for every pixel, or for every picture.

Outputs are logits (N, K, ...) for K classes, targets int64 labels (N, ...). Everything is counted over the whole
validation set and only then divided, so that no batch weighs more than its places do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gangen.errors import UserError
from gangen.labels import IGNORED
from gangen.metrics.protocol import Better

_MANY = 10
"""From so many classes on, it is told as well how often the label is among the five likeliest."""

Count = Callable[[Tensor, Tensor], Tensor]
"""Outputs and targets of a batch to counts, int64 of any shape, which are added up. Hashable: metrics with equal
counts share their work."""


@dataclass(frozen=True)
class CountMetric:
    """A metric of what was counted over all batches and processes.

    Attributes:
        name: what it is logged as.
        counts: what is counted.
        function: the sum of all counts, on the CPU, to the number; NaN where nothing was counted.
        better: which way is better; None for a number that only describes.
        protocol: how it is computed: two numbers with unlike protocols cannot be compared.
    """

    name: str
    counts: Count
    function: Callable[[Tensor], float]
    better: Better
    protocol: Mapping[str, Any] = field(hash=False)


@dataclass(frozen=True)
class Confusion:
    """Counts (K, K): how often each label (row) was answered by each class (column), the likeliest one.

    Attributes:
        classes: K.
        ignored: label that counts nowhere.
    """

    classes: int
    ignored: int = IGNORED

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """Logits (N, K, ...) and labels (N, ...) to counts.

        Raises:
            ValueError: the logits are of another number of classes.
        """
        if output.shape[1] != self.classes:
            raise ValueError(f"logits of {output.shape[1]} classes, where {self.classes} are counted")
        counted = target != self.ignored
        places = target[counted] * self.classes + output.argmax(dim=1)[counted]
        return torch.bincount(places, minlength=self.classes**2).view(self.classes, self.classes)


@dataclass(frozen=True)
class TopK:
    """Counts (2,): how often the label was among the `k` likeliest classes, and how often there was a label."""

    k: int
    ignored: int = IGNORED

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """Logits (N, K, ...) and labels (N, ...) to counts."""
        counted = target != self.ignored
        likeliest = output.topk(min(self.k, output.shape[1]), dim=1).indices
        right = (likeliest == target.unsqueeze(1)).any(dim=1) & counted
        return torch.stack([right.sum(), counted.sum()])


def accuracy(classes: int, name: str = "accuracy") -> CountMetric:
    """Share of the labels that were answered rightly; of pixels it is the pixel accuracy, without the ignored."""
    return _metric(name, Confusion(classes), lambda table: _share(table.diagonal().sum(), table.sum()))


def top_k_accuracy(k: int) -> CountMetric:
    """Share of the labels that are among the `k` likeliest classes.

    Raises:
        UserError: `k` is below 1.
    """
    if k < 1:
        raise UserError(f"k={k}: top-k accuracy is of the k likeliest classes, 1 or more.")
    return _metric(f"top_{k}_accuracy", TopK(k), lambda counts: _share(counts[0], counts[1]))


def mean_iou(classes: int) -> CountMetric:
    """Mean over the classes of intersection over union (Everingham et al. 2010, "The PASCAL VOC challenge").

    A class that is neither a label nor an answer anywhere in the set is left out of the mean.
    """
    return _metric("mean_iou", Confusion(classes), lambda table: _over_present(_ious(table)))


def class_ious(names: Sequence[str]) -> list[CountMetric]:
    """Intersection over union of each class by itself, as "iou/NAME"; NaN for one that is nowhere."""
    confusion = Confusion(len(names))
    return [
        _metric(f"iou/{name}", confusion, lambda table, k=k: _ious(table)[k].item())  # type: ignore[misc]
        for k, name in enumerate(names)
    ]


def mean_dice(classes: int) -> CountMetric:
    """Mean over the classes of 2 |P T| / (|P| + |T|), which is the F1 score; classes as in `mean_iou`."""

    def dice(table: Tensor) -> float:
        ious = _ious(table)
        return _over_present(2 * ious / (1 + ious))

    return _metric("mean_dice", Confusion(classes), dice)


def mask_metrics(names: Sequence[str]) -> list[CountMetric]:
    """What masks of classes of these names are usually judged by, the mean IoU first."""
    count = len(names)
    return [mean_iou(count), accuracy(count, "pixel_accuracy"), mean_dice(count), *class_ious(names)]


def class_metrics(classes: int) -> list[CountMetric]:
    """What answers with one of so many classes are usually judged by, the accuracy first."""
    return [accuracy(classes), *([top_k_accuracy(5)] if classes >= _MANY else [])]


def _metric(name: str, counts: Count, function: Callable[[Tensor], float]) -> CountMetric:
    protocol = {
        "counted": "over the whole set, each place once",
        "ignored": getattr(counts, "ignored", None),
        "answer": "likeliest class",
    }
    if isinstance(counts, Confusion):
        protocol["classes"] = counts.classes
    if isinstance(counts, TopK):
        protocol["answer"] = f"{counts.k} likeliest classes"
    return CountMetric(name, counts, function, "higher", protocol)


def _ious(table: Tensor) -> Tensor:
    """(K, K) counts to (K,) float64, NaN for classes that are nowhere."""
    table = table.double()
    hit = table.diagonal()
    return hit / (table.sum(dim=0) + table.sum(dim=1) - hit)


def _over_present(values: Tensor) -> float:
    return values.nanmean().item()


def _share(part: Tensor, whole: Tensor) -> float:
    return part.item() / whole.item() if whole else float("nan")
