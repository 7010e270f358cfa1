"""Luma, saturation, and CIELAB: lightness and chroma of pictures, and pictures with a given lightness, exactly.

All is batched, on any device. CIELAB's conversions are kornia's (sRGB, D65, 2 degrees), always in float32.
Lightness here is L* of CIELAB, which is a function of the relative luminance Y alone (CIE 15:2004); it is not
Rec. 601 luma, `luminance`.
"""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image
from torch import Tensor

from gangen import images

MOST_CHROMA = 110.0
"""No colour of sRGB has an |a| or a |b| above this (the largest is 107.9, that of blue's b)."""

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, which Pillow's own greyscale follows
_STUDIO_LUMA = (65.481, 128.553, 24.966)  # the same, in levels of 8 bits from 16 to 235, as MATLAB has them
_LUMINANCE = (0.212671, 0.715160, 0.072169)  # kornia's weights of linear red, green and blue in Y


def luminance(pictures: Tensor) -> Tensor:
    """Rec. 601 luma of (N, 3, H, W) in [-1, 1]: (N, 1, H, W) in [-1, 1]."""
    weights = torch.tensor(_LUMA, dtype=pictures.dtype, device=pictures.device)
    return (pictures * weights.view(1, 3, 1, 1)).sum(dim=1, keepdim=True)


def studio_luma(pictures: Tensor) -> Tensor:
    """Luma of MATLAB's rgb2ycbcr, which super-resolution is judged on: (N, 3, H, W) to (N, 1, H, W), in [-1, 1].

    ITU-R BT.601 with footroom and headroom: black is level 16 and white level 235 of 0..255, so the values lie
    between -0.875 and 0.843. Not rounded to levels (MATLAB rounds where it is given 8 bits).
    """
    weights = torch.tensor(_STUDIO_LUMA, dtype=pictures.dtype, device=pictures.device)
    levels = 16 + ((pictures + 1) / 2 * weights.view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
    return levels / 127.5 - 1


def saturation(pictures: Tensor) -> Tensor:
    """Mean saturation of each picture: (N, 3, H, W) in [-1, 1] to (N,) in [0, 1].

    A pixel's saturation is max - min over its channels on a 0..1 scale, as Hanbury & Serra define it ("A 3D-polar
    coordinate colour representation suitable for image analysis", 2003). HSV's, divided by max, tells of the noise
    in nearly black pixels: a little of it makes a line drawing look more saturated than its colours do.
    """
    unit = pictures.float().clamp(-1, 1).add(1).div(2)
    return (unit.amax(dim=1) - unit.amin(dim=1)).mean(dim=(1, 2))


def to_lab(pictures: Tensor) -> Tensor:
    """(N, 3, H, W) in [-1, 1], clamped, to CIELAB (N, 3, H, W) float32: L in 0..100, a and b about -110..110."""
    with _exactly(pictures):
        lab: Tensor = _kornia().rgb_to_lab(_unit(pictures))
    return lab


def lightness(pictures: Tensor) -> Tensor:
    """L* of (N, 3, H, W), or of grey (N, 1, H, W), in [-1, 1]: (N, 1, H, W) float32 in 0..100."""
    with _exactly(pictures):
        y = _luminance(_kornia().rgb_to_linear_rgb(_unit(pictures.expand(-1, 3, -1, -1))))
        return _lightness_of(y)


def from_lab(light: Tensor, chroma: Tensor) -> Tensor:
    """A picture with this lightness, and with this chroma as far as sRGB has it.

    Where sRGB has no such colour, the colour is mixed with grey of the same luminance, in linear light, until it
    has: Y, and so L*, stay as they are, which clipping the channels would not leave them. The lightness of the
    picture is thus that given up to float32's rounding, and rounded to 8 bits within 0.6 of 255 levels.

    Args:
        light: L*, (N, 1, H, W) in 0..100.
        chroma: a and b, (N, 2, H, W).

    Returns:
        (N, 3, H, W) float32 in [-1, 1]. Differentiable in both.
    """
    kornia = _kornia()
    with _exactly(light):
        light, chroma = light.float(), chroma.float()
        fy = (light + 16) / 116
        f = torch.cat([fy + chroma[:, :1] / 500, fy, fy - chroma[:, 1:] / 200], dim=1).clamp(min=0)
        white = light.new_tensor([0.95047, 1.0, 1.08883]).view(1, 3, 1, 1)
        xyz = torch.where(f > 0.2068966, f**3, (f - 4 / 29) / 7.787) * white
        grey = xyz[:, 1:2].clamp(0, 1)
        offset = kornia.xyz_to_rgb(xyz) - grey
        # kornia's matrices are inverse to each other to five digits only: what is missing or too much is grey
        offset = offset - _luminance(offset)
        return kornia.linear_rgb_to_rgb(_into_gamut(grey, offset)) * 2 - 1


def grey(picture: Image.Image) -> Image.Image:
    """The picture without its colours: an "RGB" picture of the same L* at every pixel, to half an 8-bit level."""
    kornia = _kornia()
    y = _luminance(kornia.rgb_to_linear_rgb(_unit(images.to_tensor(picture)[None])))
    return images.to_picture(kornia.linear_rgb_to_rgb(y.expand(-1, 3, -1, -1))[0] * 2 - 1)


def _into_gamut(grey: Tensor, offset: Tensor) -> Tensor:
    """Add to linear grey (N, 1, H, W) so much of an offset (N, 3, H, W) as leaves all channels in 0..1.

    A channel reaches 1 or 0 at the share room / |offset|; the smallest such share, at most 1, serves for all
    three, so an offset without luminance leaves the grey's luminance as it is.
    """
    room = torch.where(offset > 0, 1 - grey, grey)
    share = (room / offset.abs().clamp(min=1e-6)).amin(dim=1, keepdim=True).clamp(max=1)
    return (grey + share * offset).clamp(0, 1)  # the clamp takes away rounding only


def _luminance(linear: Tensor) -> Tensor:
    weights = linear.new_tensor(_LUMINANCE).view(1, 3, 1, 1)
    return (linear * weights).sum(dim=1, keepdim=True)


def _lightness_of(y: Tensor) -> Tensor:
    """CIE 15:2004, 8.2.1.1, with kornia's constants."""
    threshold = 0.008856
    root = torch.where(y > threshold, y.clamp(min=threshold) ** (1 / 3), 7.787 * y + 4 / 29)
    return 116 * root - 16


def _unit(pictures: Tensor) -> Tensor:
    return (pictures.float().clamp(-1, 1) + 1) / 2


def _exactly(tensor: Tensor) -> torch.autocast:
    return torch.autocast(tensor.device.type, enabled=False)


def _kornia() -> Any:
    # Imported when it is needed: it takes a quarter of a second, which most programs would wait for nothing.
    import kornia.color

    return kornia.color
