"""A generator that colours: it is shown lightness, answers with chroma, and keeps the lightness exactly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gangen import colour
from gangen.errors import RunError, UserError
from gangen.nets.configs import expect_keys
from gangen.nets.heads import ImageHead
from gangen.nets.unet import FeatureBody, UNet


class Colorizer(nn.Module):
    """Picture in, coloured picture of the same height and width out, which may be any from one pixel up.

    Of the picture, grey or coloured, only the lightness is used (L* of CIELAB, see `gangen.colour`). A UNet that
    sees it as a grey picture answers with the chroma a and b (Zhang et al. 2016, arXiv:1603.08511, section 2).
    The two are joined so that the lightness of the result is that of the picture given.

    The eye is coarse for chroma: a picture whose shorter side is above `view` is averaged down to it for the UNet
    alone, and the chroma is enlarged again and joined with the full lightness. So a large picture keeps all of its
    detail, its colours are chosen at the size that the UNet was trained at, and the UNet's memory is bounded.

    Args:
        unet: from one channel to two in [-1, 1], see `chroma_unet`.
        view: shorter side in pixels above which the UNet sees a smaller picture; None to show it all of it.

    Raises:
        UserError: the UNet has other channels, or the view is below 1.
    """

    def __init__(self, unet: UNet, view: int | None = None) -> None:
        super().__init__()
        if view is not None and (isinstance(view, bool) or not isinstance(view, int) or view < 1):
            raise UserError(f"a view of {view!r} pixels is impossible; give 1 or more, or None for no limit.")
        head = unet.config["head"]
        if unet.body.in_channels != 1 or not isinstance(head, Mapping) or head["channels"] != 2:
            raise UserError("a Colorizer's UNet goes from 1 channel to 2: make it with chroma_unet(body).")
        self.unet = unet
        self.view = view

    def forward(self, x: Tensor) -> Tensor:
        """Pictures (N, 3, H, W), or grey (N, 1, H, W), in [-1, 1] to coloured ones (N, 3, H, W) float32."""
        light = colour.lightness(x)
        size = light.shape[2:]
        seen = light / 50 - 1
        small = self._smaller(size)
        if small != size:
            seen = F.interpolate(seen, small, mode="bilinear", antialias=True)
        chroma = self.unet(seen).float() * colour.MOST_CHROMA
        if small != size:
            chroma = F.interpolate(chroma, size, mode="bilinear")
        return colour.from_lab(light, chroma)

    def with_lightness(self, coloured: Tensor, x: Tensor) -> Tensor:
        """Pictures (N, 3, H, W) in [-1, 1] with the lightness of `x`, and with their own chroma."""
        return colour.from_lab(colour.lightness(x), colour.to_lab(coloured)[:, 1:])

    @property
    def tiles_exactly(self) -> bool:
        """Whether the answer at a place depends on its surroundings alone."""
        return self.view is None and self.unet.tiles_exactly

    @property
    def bounded(self) -> bool:
        """Whether pictures of any size may be painted whole: what the UNet sees is never above `view`."""
        return self.view is not None

    @property
    def config(self) -> dict[str, Any]:
        """What rebuilds this architecture with `from_config`. JSON-able; says nothing of weights."""
        return {"unet": self.unet.config, "view": self.view}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], body: FeatureBody | None = None) -> Colorizer:
        """The architecture that a Colorizer's `config` describes, with random weights; see `UNet.from_config`.

        Raises:
            RunError: a key is missing or unknown.
            UserError: a value is impossible.
        """
        expect_keys("a Colorizer", config, ("unet", "view"))
        if not isinstance(config["unet"], Mapping):
            raise RunError(f"'unet' of a Colorizer's config is {config['unet']!r}; expected a UNet's config.")
        return cls(UNet.from_config(config["unet"], body), config["view"])

    def _smaller(self, size: torch.Size) -> torch.Size:
        height, width = size
        if self.view is None or min(height, width) <= self.view:
            return size
        scale = self.view / min(height, width)
        return torch.Size((round(height * scale), round(width * scale)))


def chroma_unet(body: FeatureBody, **options: Any) -> UNet:
    """A UNet from one channel, the lightness, to two, the chroma; `options` are those of `UNet`."""
    return UNet(body, ImageHead(2), **options)
