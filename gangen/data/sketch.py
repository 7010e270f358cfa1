"""Line drawings made from photographs: dark lines on white paper."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from gangen import colour, images

_REACH = 1.6  # k: the outer blur over the inner one, closest to the Laplacian (Marr & Hildreth 1980)


def sketch(
    picture: Image.Image, *, width: float = 0.006, sensitivity: float = 0.006, softness: float = 0.03
) -> Image.Image:
    """Draw the outlines of a picture in dark lines on white.

    The extended difference of Gaussians: D = G(sigma) - tau G(k sigma), two blurs of the luminance, becomes
    white paper where D >= epsilon and 1 + tanh(phi (D - epsilon)) below (Winnemöller, Kyprianidis & Olsen
    2012, "XDoG: An eXtended difference-of-Gaussians compendium", Computers & Graphics 36(6)). Here tau = 1,
    so that dark areas stay paper and only their outlines are drawn.

    The square root of the luminance is taken first: edges in shadow count as much as those in light.

    Args:
        picture: any Pillow picture; it is drawn at its own size.
        width: the inner blur's sigma as a share of the shorter side, which decides how thick the lines are
            and how much detail there is; never below 0.5 px.
        sensitivity: -epsilon, how much darker than its surroundings a pixel must be to be drawn, on a scale
            of 0..1: a smaller value draws more.
        softness: 1 / phi, the step in luminance over which a line goes from paper to ink.

    Returns:
        An "RGB" picture of the same size, its three channels equal.
    """
    tone = colour.luminance(images.to_tensor(picture)[None]).add(1).div(2).clamp(0, 1).sqrt()
    sigma = max(0.5, width * min(picture.size))
    inner, outer = _blur(tone, sigma), _blur(tone, _REACH * sigma)
    response = inner - outer + sensitivity
    paper = torch.where(response >= 0, 1.0, 1 + torch.tanh(response / softness))
    return images.to_picture(paper[0] * 2 - 1).convert("RGB")


def _blur(pictures: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (N, 1, H, W), in two passes, to three sigma, with the border repeated."""
    reach = int(3 * sigma + 0.999)
    steps = torch.arange(-reach, reach + 1, dtype=pictures.dtype)
    kernel = torch.exp(-0.5 * (steps / sigma) ** 2)
    kernel = kernel / kernel.sum()
    padded = F.pad(pictures, (reach, reach, reach, reach), mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))
