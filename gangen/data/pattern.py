"""A drawn pattern, for trying style transfer without a painting."""

from __future__ import annotations

import torch
from PIL import Image

from gangen import images

# Ink, then glass: cobalt, teal, amber, rose, cream, moss.
_LEAD = (24, 22, 38)
_GLASS = ((28, 68, 168), (20, 140, 150), (240, 170, 40), (206, 58, 84), (246, 232, 196), (96, 142, 62))


def stained_glass(side: int = 256, pieces: int = 10, seed: int = 0) -> Image.Image:
    """A window of coloured glass in lead: what lies nearest to each of many points (Voronoi 1908).

    Args:
        side: of the picture in pixels.
        pieces: how many pieces of glass lie side by side; there are as many rows.
        seed: another one draws another window.

    Returns:
        An "RGB" picture.
    """
    generator = torch.Generator().manual_seed(seed)
    count, each = pieces**2, side / pieces
    corners = torch.cartesian_prod(torch.arange(pieces), torch.arange(pieces))
    points = (corners + torch.rand(count, 2, generator=generator)) * each
    tones = torch.tensor(_GLASS, dtype=torch.float32)[torch.randint(len(_GLASS), (count,), generator=generator)]
    shades = 0.75 + 0.5 * torch.rand(count, 1, generator=generator)
    places = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij"), dim=-1)
    distances = torch.cdist(places.reshape(-1, 2) + 0.5, points)
    nearest, owners = distances.topk(2, dim=1, largest=False)
    # The lead runs where two points are equally near.
    lead = ((nearest[:, 1] - nearest[:, 0]) / (0.2 * each)).clamp(0, 1)[:, None].square()
    # Glass is lighter in the middle of a piece.
    glow = 1.15 - 0.35 * (nearest[:, :1] / (0.8 * each)).clamp(0, 1)
    glass = tones[owners[:, 0]] * shades[owners[:, 0]] * glow
    colours = lead * glass + (1 - lead) * torch.tensor(_LEAD, dtype=torch.float32)
    return images.to_picture((colours.clamp(0, 255) / 127.5 - 1).T.reshape(3, side, side))
