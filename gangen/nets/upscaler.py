"""Generators that add to their input, enlarged or as it is: for super-resolution and for mending pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gangen.errors import UserError
from gangen.layout import laid_out
from gangen.nets.configs import expect_keys
from gangen.nets.unet import UNet

SCALES = (2, 3, 4)
"""By how much pictures may be enlarged."""


class Upscaler(nn.Module):
    """Pictures (N, 3, H, W) to (N, 3, scale * H, scale * W), of any height and width from one pixel up.

    EDSR (Lim et al. 2017, arXiv:1707.02921): residual blocks without batch norm at the small picture's resolution.
    Unlike there, one pixel shuffle (Shi et al. 2016, arXiv:1609.05158) makes the colours at once, as in IMDN (Hui
    et al. 2019, arXiv:1909.11814): layers at the larger resolutions cost most and gain little. What comes out is
    added to the bicubic enlargement (VDSR, Kim et al. 2016, arXiv:1511.04587), as which the network begins.

    Args:
        scale: 2, 3 or 4.
        width: channels of the body.
        blocks: residual blocks of two 3x3 convolutions each.

    Raises:
        UserError: an option is impossible.
    """

    tiles_exactly = True
    """What is painted depends on the 2 * blocks + 3 pixels around only."""

    def __init__(self, scale: int = 4, *, width: int = 64, blocks: int = 8) -> None:
        super().__init__()
        check_scale(scale)
        for name, value in (("width", width), ("blocks", blocks)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UserError(f"an upscaler with {name}={value!r} is impossible; give a whole number from 1 up.")
        self.scale = scale
        self.config: dict[str, Any] = {"scale": scale, "width": width, "blocks": blocks}
        self.first = _conv(3, width)
        self.body = nn.Sequential(*(Block(width) for _ in range(blocks)), _conv(width, width, gain=0.1))
        last = _conv(width, 3 * scale**2)
        nn.init.zeros_(last.weight)
        self.shuffle = nn.Sequential(last, nn.PixelShuffle(scale))

    @laid_out
    def forward(self, x: Tensor) -> Tensor:
        """Pictures (N, 3, H, W) in [-1, 1] to (N, 3, scale * H, scale * W), not bounded."""
        maps = self.first(x)
        return enlarge(x, self.scale) + self.shuffle(maps + self.body(maps))

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Upscaler:
        """The architecture that an upscaler's `config` describes, with random weights.

        Raises:
            RunError: a key is missing or unknown.
            UserError: a value is impossible.
        """
        expect_keys("an upscaler", config, ("scale", "width", "blocks"))
        return cls(**config)


class Residual(nn.Module):
    """A UNet that answers what is to be added to its input: for mending pictures, and for enlarging them.

    The last convolution begins with zeros, so that the network begins as doing nothing, or as the bicubic filter.
    With a scale the input is first enlarged by the bicubic filter, and all of the UNet works at the large size:
    many times the cost of an `Upscaler`, for a pretrained body and a wider view.

    Args:
        unet: (N, 3, H, W) in [-1, 1] to the same shape; its head should have no bounds.
        scale: 1, 2, 3 or 4.

    Raises:
        UserError: the scale is impossible.
    """

    def __init__(self, unet: UNet, scale: int = 1) -> None:
        super().__init__()
        check_scale(scale, (1, *SCALES))
        self.scale = scale
        self.unet = unet
        for last in [layer for layer in unet.head.modules() if isinstance(layer, nn.Conv2d)][-1:]:
            nn.init.zeros_(last.weight)
            if last.bias is not None:
                nn.init.zeros_(last.bias)
        self.config: dict[str, Any] = {"scale": scale, "unet": unet.config}

    def forward(self, x: Tensor) -> Tensor:
        """Pictures (N, 3, H, W) in [-1, 1] to (N, 3, scale * H, scale * W), not bounded."""
        large = x if self.scale == 1 else enlarge(x, self.scale)
        return large + self.unet(large)

    @property
    def tiles_exactly(self) -> bool:
        """As the UNet has it."""
        return self.unet.tiles_exactly

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Residual:
        """The architecture that the `config` describes, with random weights; see `UNet.from_config`."""
        expect_keys("a residual UNet", config, ("scale", "unet"))
        return cls(UNet.from_config(config["unet"]), config["scale"])


class Block(nn.Module):
    """x + conv(relu(conv(x))): (N, width, H, W) to the same shape, nearly the identity at first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = nn.Sequential(_conv(width, width), nn.ReLU(inplace=True), _conv(width, width, gain=0.1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, H, W) to the same shape."""
        return x + self.mix(x)


def enlarge(pictures: Tensor, scale: int) -> Tensor:
    """Enlarge (N, C, H, W) by the bicubic filter of Pillow and MATLAB, to (N, C, scale * H, scale * W).

    Keys 1981 ("Cubic convolution interpolation for digital image processing") with a = -0.5, which torch takes
    where it is told to antialias, though nothing can alias here; else it has -0.75. Nothing is rounded or clamped.
    """
    return F.interpolate(pictures, scale_factor=float(scale), mode="bicubic", antialias=True)


def check_scale(scale: int, known: tuple[int, ...] = SCALES) -> None:
    """Raise a UserError unless `scale` is one of those that are `known`."""
    if isinstance(scale, bool) or scale not in known:
        raise UserError(f"a scale of {scale!r} is impossible; choose one of {', '.join(map(str, known))}.")


def _conv(in_channels: int, out_channels: int, gain: float = 1.0) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    with torch.no_grad():
        conv.weight.mul_(gain)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv
