"""Losses on the colours of pictures, apart from their lightness: (output, target) in [-1, 1] to a scalar."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from gangen import colour

_EPS = 1e-3


def chroma(output: Tensor, target: Tensor, *, knee: float = 10.0) -> Tensor:
    """Huber loss of a and b of CIELAB (Huber 1964), in units of `colour.MOST_CHROMA`.

    Squared below `knee`, where a colour differs little, absolute above it; continuous with `l1` far from zero.

    Args:
        output: (N, 3, H, W) in [-1, 1].
        target: the same; no gradient flows to it.
        knee: distance in units of CIELAB.
    """
    ours, theirs = colour.to_lab(output)[:, 1:], colour.to_lab(target.detach())[:, 1:]
    return F.huber_loss(ours, theirs, delta=knee) / (knee * colour.MOST_CHROMA)


def chroma_gap(output: Tensor, target: Tensor) -> Tensor:
    """How far each picture's mean chroma, sqrt(a² + b²) of CIELAB, is from its target's, either way.

    In units of `colour.MOST_CHROMA`. It asks for as much colour as the target has and not for the same ones, which
    a regression, that plays safe, has too little of.
    """
    return (_strength(output) - _strength(target.detach())).abs().mean() / colour.MOST_CHROMA


def saturation_moment(output: Tensor, target: Tensor) -> Tensor:
    """Squared difference of the mean saturation of two batches, (N, 3, H, W) in [-1, 1]; see `colour.saturation`.

    Feature matching (Salimans et al. 2016, arXiv:1606.03498, section 3.1) with saturation as the feature: the
    batch as a whole should be as vivid as the real one, no matter which of its pictures.
    """
    return (colour.saturation(output).mean() - colour.saturation(target.detach()).mean()).square()


def _strength(pictures: Tensor) -> Tensor:
    """Mean chroma of each picture, (N,)."""
    return (colour.to_lab(pictures)[:, 1:].square().sum(dim=1) + _EPS).sqrt().mean(dim=(1, 2))
