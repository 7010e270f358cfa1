"""Heads: what makes feature maps into an answer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from gangen.errors import UserError
from gangen.nets.configs import described

Pooling = Literal["average", "both"]


@dataclass(frozen=True)
class ImageHead:
    """Describes the last layers of a network that answers with a number, or several, for every pixel.

    Attributes:
        channels: 3 for a colour picture, 1 for a grey one, the number of classes for a mask's logits.
        output_range: lowest and highest value, reached through a tanh scaled onto it; None for no bounds
            (logits).
        headroom: by how much the tanh reaches beyond the range, as a share of the range's half, so that black and
            white are reached rather than approached. In eval mode answers are clamped onto the range, in training
            mode they may be beyond; see `Bounded`.
    """

    channels: int = 3
    output_range: tuple[float, float] | None = (-1.0, 1.0)
    headroom: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.channels, bool) or not isinstance(self.channels, int) or self.channels < 1:
            raise UserError(f"a head of {self.channels!r} channels is impossible; give a whole number from 1 up.")
        if self.output_range is not None:
            object.__setattr__(self, "output_range", _range(self.output_range))
        known = isinstance(self.headroom, int | float) and not isinstance(self.headroom, bool)
        if not known or not 0 <= self.headroom < math.inf or (self.headroom and self.output_range is None):
            raise UserError(
                f"a headroom of {self.headroom!r} with output_range {self.output_range} is impossible; give a "
                "number from 0 up, and a range to be clamped onto."
            )

    @property
    def config(self) -> dict[str, Any]:
        """What rebuilds this head: `ImageHead(**config)`. JSON-able."""
        headroom = {"headroom": self.headroom} if self.headroom else {}  # which earlier gangen does not know
        return {
            "channels": self.channels,
            "output_range": self.output_range and list(self.output_range),
            **headroom,
        }

    def build(self, in_channels: int) -> nn.Sequential:
        """The layers: (N, in_channels, H, W) to (N, channels, H, W)."""
        conv = nn.Conv2d(in_channels, self.channels, 3, padding=1)
        return nn.Sequential(conv, *([Bounded(*self.output_range, self.headroom)] if self.output_range else []))


@dataclass(frozen=True)
class MaskHead:
    """Describes the last layers of a network that tells classes apart at every pixel: one logit for each class.

    What is not to be learned is a matter of the labels, not of the head: see `gangen.labels.IGNORED`.

    Attributes:
        classes: how many there are.
    """

    classes: int

    def __post_init__(self) -> None:
        _check_count("a mask", "classes", self.classes)

    @property
    def config(self) -> dict[str, Any]:
        """What rebuilds this head: `MaskHead(**config)`. JSON-able."""
        return asdict(self)

    def build(self, in_channels: int) -> nn.Conv2d:
        """The layer: (N, in_channels, H, W) to logits (N, classes, H, W)."""
        return nn.Conv2d(in_channels, self.classes, 1)


@dataclass(frozen=True)
class ClassHead:
    """Describes the last layers of a network that answers with one vector for a picture: logits, or any numbers.

    By default as fastai's: average and maximum pooling joined, and two linear layers with BatchNorm and dropout
    before each. With `pooling="average", hidden=0, dropout=0, norm=False` as the ResNets' own.

    Attributes:
        outputs: length of the answer, such as the number of classes.
        pooling: how the coarsest maps become a vector: their "average" over all places (Lin et al. 2013,
            arXiv:1312.4400), or "both" that and their maximum, joined.
        hidden: width of the layer between; 0 for a single linear layer.
        dropout: share that is dropped before the last layer while training, half as much before the first of two;
            from 0 up to below 1.
        norm: BatchNorm before each linear layer.
        final_norm: BatchNorm of the answer (fastai's `bn_final`).
        output_range: lowest and highest value of the answer, for regression; None for no bounds (logits).
    """

    outputs: int
    pooling: Pooling = "both"
    hidden: int = 512
    dropout: float = 0.5
    norm: bool = True
    final_norm: bool = False
    output_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        _check_count("a picture", "outputs", self.outputs)
        if self.pooling not in get_args(Pooling):
            raise UserError(f"pooling {self.pooling!r} is unknown; choose one of {', '.join(get_args(Pooling))}.")
        if isinstance(self.hidden, bool) or not isinstance(self.hidden, int) or self.hidden < 0:
            raise UserError(f"hidden={self.hidden!r}: expected the width of a layer, or 0 for none.")
        if not isinstance(self.dropout, int | float) or not 0 <= self.dropout < 1:
            raise UserError(f"a dropout of {self.dropout!r} is out of range; give 0 up to below 1.")
        if self.output_range is not None:
            object.__setattr__(self, "output_range", _range(self.output_range))

    @property
    def config(self) -> dict[str, Any]:
        """What rebuilds this head: `ClassHead(**config)`. JSON-able."""
        return asdict(self) | {"output_range": self.output_range and list(self.output_range)}

    def features(self, channels: int) -> int:
        """Length of the vector that pooling makes of maps of so many channels."""
        return channels * (2 if self.pooling == "both" else 1)

    def pool(self) -> nn.Module:
        """The pooling: (N, C, H, W) to (N, features(C))."""
        return Pool(maximum=self.pooling == "both")

    def layers(self, features: int) -> nn.Sequential:
        """The linear layers: (N, features) to (N, outputs)."""
        made: list[nn.Module] = []
        widths = [features, *([self.hidden] if self.hidden else []), self.outputs]
        for place, (wide, narrow) in enumerate(pairwise(widths)):
            last = place == len(widths) - 2
            made += [nn.BatchNorm1d(wide)] if self.norm else []
            made += [nn.Dropout(self.dropout if last else self.dropout / 2)]
            linear = nn.Linear(wide, narrow, bias=last or not self.norm)
            if last:
                # All answers are alike at first, so that no chance gradient disturbs a pretrained body.
                nn.init.zeros_(linear.weight)
            else:
                nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)
            made += [linear] if last else [linear, nn.ReLU(inplace=True)]
        made += [nn.BatchNorm1d(self.outputs)] if self.final_norm else []
        made += [Bounded(*self.output_range)] if self.output_range else []
        return nn.Sequential(*made)


class Pool(nn.Module):
    """The average of each map over all places, and with `maximum` the maximum too, joined."""

    def __init__(self, maximum: bool) -> None:
        super().__init__()
        self.maximum = maximum

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C), or (N, 2 C) with the averages first."""
        mean = x.mean(dim=(2, 3))
        return torch.cat([mean, x.amax(dim=(2, 3))], dim=1) if self.maximum else mean


def map_head(config: Any) -> ImageHead | MaskHead:
    """The head of maps that a config describes.

    Raises:
        RunError: it describes none that gangen knows.
        UserError: a value is impossible.
    """
    if isinstance(config, Mapping) and "classes" in config:
        return MaskHead(**described("head", config, ("classes",)))
    headroom = ("headroom",) if isinstance(config, Mapping) and "headroom" in config else ()
    return ImageHead(**described("head", config, ("channels", "output_range", *headroom)))


def class_head(config: Any) -> ClassHead:
    """The head of vectors that a config describes; raises as `map_head`."""
    return ClassHead(**described("head", config, tuple(ClassHead(1).config)))


def _check_count(of: str, what: str, count: Any) -> None:
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise UserError(f"a head for {of} of {what}={count!r} is impossible; give a whole number from 1 up.")


def _range(bounds: Any) -> tuple[float, float]:
    """Two finite numbers, the lower first, whatever sequence they come in; JSON knows lists only."""
    try:
        lowest, highest = bounds
        if -math.inf < lowest < highest < math.inf:
            return float(lowest), float(highest)
    except (TypeError, ValueError):
        pass
    raise UserError(f"output_range {bounds!r} is no range; give (lowest, highest), or None for no bounds.")


class Bounded(nn.Module):
    """Squeeze any number into (lowest, highest) by a tanh, or with headroom into [lowest, highest].

    A tanh takes its bounds only at infinity, where it has no slope: what should be white is never quite, and a
    network that has learned to paint all white stays there. With headroom the tanh reaches further, as fastai's
    `y_range` of (-3, 3) on pictures of ImageNet's scale does. In training mode what is beyond the bounds stays
    beyond, where a loss pulls it back; in eval mode it is clamped.

    Args:
        lowest: bound of what comes out in eval mode.
        highest: likewise.
        headroom: by how much the tanh reaches further on either side, as a share of half the range.
    """

    def __init__(self, lowest: float, highest: float, headroom: float = 0.0) -> None:
        super().__init__()
        self.bounds = (lowest, highest) if headroom else None
        self.middle = (lowest + highest) / 2
        self.reach = (highest - lowest) / 2 * (1 + headroom)

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same shape."""
        reached = self.middle + self.reach * torch.tanh(x)
        return reached if self.bounds is None or self.training else reached.clamp(*self.bounds)
