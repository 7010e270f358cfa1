"""The generator: a UNet whose way down is a pretrained body and whose way up is cheap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor, nn

from gangen.errors import RunError, UserError
from gangen.layout import laid_out
from gangen.nets import freezing
from gangen.nets.body import Body
from gangen.nets.configs import described, expect_keys, own_name
from gangen.nets.heads import ImageHead, MaskHead, map_head
from gangen.nets.layers import Norm, SelfAttention, Upsample, conv_block, normalisation

# Layers whose answer at one place depends on the whole picture, so that tiles of it would disagree.
_WHOLE_PICTURE = (SelfAttention, nn.GroupNorm, nn.InstanceNorm2d, nn.AdaptiveAvgPool2d, nn.MultiheadAttention)

ATTENTION_STRIDE = 8

UNetNorm = Literal["batch", "instance", "skips", "none"]
"""What a UNet's way up normalises; see `UNet`."""


class FeatureBody(Protocol):
    """What a UNet asks of its body, a module: `Body`, or one of your own.

    Attributes:
        in_channels: channels of the pictures that it takes, (N, in_channels, H, W) in [-1, 1].
        channels: of each feature map, finest first.
        strides: of each feature map; map k is ceil(H / strides[k]) by ceil(W / strides[k]). Each divides the
        next.
    """

    @property
    def in_channels(self) -> int:
        """Of the pictures."""
        ...

    @property
    def channels(self) -> Sequence[int]:
        """Of the feature maps."""
        ...

    @property
    def strides(self) -> Sequence[int]:
        """Of the feature maps."""
        ...

    def __call__(self, x: Tensor) -> list[Tensor]:
        """The feature maps of pictures, finest first."""
        ...


class Head(Protocol):
    """What a UNet asks of its head: `ImageHead`, `MaskHead`, or one of your own."""

    def build(self, in_channels: int) -> nn.Module:
        """The layers that make maps (N, in_channels, H, W) into the answer."""
        ...


class UNet(nn.Module):
    """Picture in, picture or mask out, of the same height and width, which may be any from one pixel up.

    Ronneberger et al. 2015 (arXiv:1505.04597) with a classifier as its way down. From the coarsest map
    upwards, each level enlarges by pixel shuffle with ICNR initialisation, crops to the next finer map, joins
    it and mixes with 3x3 convolutions. The last level joins the picture itself; at full resolution, where
    width costs most, it has a single convolution before the head's.

    Args:
        body: gives the feature maps.
        head: makes the finest maps into the answer.
        width: channels at full resolution; the bottleneck has up to 32 times as many. A multiple of 4.
        attention: self-attention at stride 8 (Zhang et al. 2018, arXiv:1805.08318).
        blur: soften after each enlargement (Sugawara et al. 2019, arXiv:1806.02658).
        norm: what the way up normalises; the body keeps its own. "batch" or "instance": what each 3x3
            convolution gives. "skips": only the body's maps that are joined, by BatchNorm, and before a bottleneck
            the coarsest too; the convolutions have biases instead, which EDSR found better where the answer is a
            picture (Lim et al. 2017, arXiv:1707.02921), and saves passes over large maps. Answers are of any size
            at first, so a bounded head needs some headroom. "none": nothing.
        bottleneck: two 3x3 convolutions of the coarsest map at the foot of the way up; at a stride of 32 they
            have 32 and 16 times the width. What the surroundings say of each place is learned there, apart from
            the body: 9.4 million weights on a ResNet-18 at the default width, applied to few places.
        cross: join the picture in the last level.
        widening: channels of a level, at most, in multiples of `width`. They double with the stride up to there;
            8 instead of 4 makes the level at a stride of 16 twice as wide.
        finest: channels that the last level enlarges to. None: so many that there are half of `width` once the
            picture has joined them, for the sake of whole blocks in the processor's convolutions, but a quarter
            of `width` at least.

    Raises:
        UserError: an option is impossible.
    """

    def __init__(
        self,
        body: FeatureBody,
        head: Head,
        *,
        width: int = 32,
        attention: bool = False,
        blur: bool = False,
        norm: UNetNorm = "batch",
        bottleneck: bool = False,
        cross: bool = True,
        widening: int = 4,
        finest: int | None = None,
    ) -> None:
        super().__init__()
        if isinstance(width, bool) or not isinstance(width, int) or width < 4 or width % 4:
            raise UserError(f"a UNet of width {width!r} is impossible; give a multiple of 4.")
        skips = (body.in_channels if cross else 0, *body.channels[:-1])
        if finest is None:
            finest = max(width // 2 - skips[0], width // 4)
        for name, value in (("widening", widening), ("finest", finest)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UserError(f"a UNet's {name} of {value!r} is impossible; give a whole number from 1 on.")
        if norm not in get_args(UNetNorm):
            raise UserError(f"norm {norm!r} is unknown; choose one of {', '.join(get_args(UNetNorm))}.")
        if any(coarse % fine or coarse == fine for fine, coarse in pairwise((1, *body.strides))):
            raise UserError(f"a UNet needs a body whose strides divide each other upwards, not {body.strides}.")
        self.body = body
        self.config: dict[str, Any] = {
            "body": body.config if isinstance(body, Body) else own_name(body),
            "head": head.config if isinstance(head, ImageHead | MaskHead) else own_name(head),
            "width": width,
            "attention": attention,
            "blur": blur,
            "norm": norm,
            "cross": cross,
            "bottleneck": bottleneck,
            "widening": widening,
            "finest": finest,
        }
        strides = (1, *body.strides)
        channels = body.channels[-1]
        conv_norm: Norm = "none" if norm == "skips" else norm
        skip_norm: Norm = "batch" if norm == "skips" else "none"
        foot = min(strides[-1], 32) * width // 2
        widths = (channels, 2 * foot, foot) if bottleneck else (channels,)
        self.bottleneck = nn.Sequential(
            *(admission(skip_norm, channels) if bottleneck else []),
            *(conv_block(a, b, conv_norm) for a, b in pairwise(widths)),
        )
        channels = widths[-1]
        levels = []
        for k in reversed(range(len(skips))):
            level = Level(
                channels,
                skips[k],
                enlarged=min(strides[k] * width // 2, widening * width) if k else finest,
                out_channels=_level_width(strides[k], width, widening),
                scale=strides[k + 1] // strides[k],
                convs=1 if strides[k] == 1 else 2,
                attention=attention and strides[k] == ATTENTION_STRIDE,
                blur=blur,
                norm=conv_norm,
                skip_norm=skip_norm if strides[k] > 1 else "none",
            )
            levels.append(level)
            channels = level.out_channels
        self.levels = nn.ModuleList(levels)
        self.head = head.build(channels)

    @laid_out
    def forward(self, x: Tensor) -> Tensor:
        """Pictures (N, C, H, W) in [-1, 1] to answers (N, channels of the head, H, W) in the head's range."""
        *skips, maps = self.body(x)
        maps = self.bottleneck(maps)
        for level, skip in zip(self.levels, [*reversed(skips), x], strict=True):
            maps = level(maps, skip)
        return self.head(maps)

    def train(self, mode: bool = True) -> UNet:
        """Set train or eval mode; the statistics of frozen parts stay still."""
        super().train(mode)
        freezing.keep_frozen_still(self)
        return self

    @property
    def tiles_exactly(self) -> bool:
        """Whether, in eval mode, the answer at a place depends on its surroundings alone, not on all of it."""
        local = bool(getattr(self.body, "local", True))
        return local and not any(isinstance(part, _WHOLE_PICTURE) for part in self.modules())

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], body: FeatureBody | None = None, head: Head | None = None
    ) -> UNet:
        """The architecture that a UNet's `config` describes, with random weights.

        Args:
            config: as read from JSON. It is data: nothing that it names is imported.
            body: needed, and only used, when the UNet had a body of your own; its config then is a mere name.
            head: likewise.

        Raises:
            RunError: a key is missing or unknown, a value is of the wrong kind, or a body or head of your own
                is needed.
            UserError: a value is impossible.
        """
        if isinstance(config, Mapping):  # one from before there were these keys means what was made then
            width = config.get("width")
            before = {"bottleneck": False, "widening": 8, "finest": width // 2 if isinstance(width, int) else None}
            config = {**before, **config}
        keys = ("body", "head", "width", "attention", "blur", "norm", "cross", "bottleneck", "widening", "finest")
        expect_keys("a UNet", config, keys)
        options = {key: value for key, value in config.items() if key not in ("body", "head")}
        for key in ("attention", "blur", "cross", "bottleneck"):
            if not isinstance(options[key], bool):
                raise RunError(f"{key!r} of a UNet's config is {options[key]!r}; expected true or false.")
        return cls(
            body or Body(**described("body", config["body"], ("arch", "in_channels"))),
            head or map_head(config["head"]),
            **options,
        )


class Level(nn.Module):
    """One step of the way up: enlarge the coarser maps, join the finer ones, mix.

    Args:
        in_channels: of the coarser maps.
        skip_channels: of the finer maps; 0 to take their size alone.
        enlarged: channels after enlarging, before joining.
        out_channels: what the level gives.
        scale: how many times the finer maps are larger.
        convs: 3x3 convolutions that mix.
        attention: whether places look at each other at last.
        blur: whether to soften after enlarging.
        norm: "batch", "instance" or "none", after each convolution.
        skip_norm: the same, of the finer maps, which a ReLU follows; with "none" they come as they are.
    """

    def __init__(
        self,
        in_channels: int,
        skip_channels: int,
        *,
        enlarged: int,
        out_channels: int,
        scale: int,
        convs: int,
        attention: bool,
        blur: bool,
        norm: Norm,
        skip_norm: Norm,
    ) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.joins = skip_channels > 0
        self.admit = nn.Sequential(*admission(skip_norm, skip_channels))
        self.enlarge = Upsample(in_channels, enlarged, scale, blur)
        widths = [enlarged + skip_channels] + [out_channels] * convs
        mixing: list[nn.Module] = [conv_block(a, b, norm) for a, b in pairwise(widths)]
        self.mix = nn.Sequential(*mixing, *([SelfAttention(out_channels)] if attention else []))

    def forward(self, maps: Tensor, skip: Tensor) -> Tensor:
        """Coarser maps and finer maps (N, skip_channels, H, W) to (N, out_channels, H, W)."""
        maps = self.enlarge(maps)[..., : skip.shape[-2], : skip.shape[-1]]
        return self.mix(torch.cat([self.admit(skip), maps], dim=1) if self.joins else maps)


def admission(norm: Norm, channels: int) -> list[nn.Module]:
    """What a body's map goes through on its way in: a normalisation and a ReLU; nothing where norm is "none"."""
    steadied = normalisation(norm, channels)
    return [*steadied, nn.ReLU(inplace=True)] if steadied else []


def _level_width(stride: int, width: int, widening: int) -> int:
    """Channels that the level at a stride gives: they double with it, in smaller steps at first."""
    return min({1: width, 2: width * 3 // 2}.get(stride, stride * width // 2), widening * width)
