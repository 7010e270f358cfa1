"""Layers that the networks share: sharp-edged upsampling without checkerboards, normalisation, self-attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Norm = Literal["batch", "instance", "none"]


class InstanceNorm(nn.GroupNorm):
    """Normalise each channel of each picture by itself, with learned scale and shift (arXiv:1607.08022).

    As `nn.InstanceNorm2d(affine=True)`, but a map of a single pixel is allowed and gives the shift.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class PixelNorm(nn.Module):
    """Bring each place's features to a mean square of 1 (Karras et al. 2017, arXiv:1710.10196, section 4.2)."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-8)


def normalisation(norm: Norm, channels: int) -> list[nn.Module]:
    """The layers, none or one, that normalise `channels` maps."""
    if norm == "batch":
        return [nn.BatchNorm2d(channels)]
    return [InstanceNorm(channels)] if norm == "instance" else []


def conv_block(in_channels: int, out_channels: int, norm: Norm) -> nn.Sequential:
    """3x3 convolution, normalisation, ReLU; the size of the map stays."""
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=norm == "none")
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return nn.Sequential(conv, *normalisation(norm, out_channels), nn.ReLU(inplace=True))


def icnr_(weight: Tensor, scale: int, init: Callable[[Tensor], Tensor] = nn.init.kaiming_normal_) -> Tensor:
    """Initialise a convolution before PixelShuffle so that it begins as nearest-neighbour upsampling.

    All scale² filters that a PixelShuffle lays side by side begin alike (Aitken et al. 2017,
    arXiv:1707.02937, section 4), so no checkerboard is there to be unlearned. To be applied before spectral
    or weight norm wraps the layer.

    Args:
        weight: (scale² * C, in, kernel, kernel), changed in place.
        scale: the PixelShuffle's factor.
        init: fills the (C, in, kernel, kernel) filters that are repeated.
    """
    with torch.no_grad():
        alike = init(torch.empty_like(weight[:: scale**2]))
        return weight.copy_(alike.repeat_interleave(scale**2, dim=0))


class Blur(nn.Module):
    """Average away what repeats with the period of an upsampling (Sugawara et al. 2019, arXiv:1806.02658).

    Two box filters of `scale` pixels, one leaning each way, so the map does not move. Edges repeat outwards.
    """

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        rim = self.scale - 1
        x = F.pad(x, (rim, rim, rim, rim), mode="replicate")
        for _ in range(2):
            x = F.avg_pool2d(x, self.scale, stride=1)
        return x


class Upsample(nn.Sequential):
    """Enlarge maps `scale` times: 1x1 convolution, ReLU, PixelShuffle (arXiv:1609.05158) and, if asked, a blur."""

    def __init__(self, in_channels: int, out_channels: int, scale: int = 2, blur: bool = False) -> None:
        conv = nn.Conv2d(in_channels, out_channels * scale**2, 1)
        icnr_(conv.weight, scale)
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        softening = [Blur(scale)] if blur else []
        super().__init__(conv, nn.ReLU(inplace=True), nn.PixelShuffle(scale), *softening)


class SelfAttention(nn.Module):
    """Each place looks at all others (Zhang et al. 2018, SAGAN, arXiv:1805.08318, equations 1 to 3).

    Begins as the identity (gamma = 0). Cost and memory grow with the square of the number of places: it is written
    as products, for torch's kernels that need less memory, which torch itself chooses by how maps lie in memory,
    have no second derivative, which penalties on a critic's slope are made of.

    Args:
        channels: of the map, 8 or more.
        wrap: put around every convolution, such as `torch.nn.utils.parametrizations.spectral_norm`.
    """

    def __init__(self, channels: int, wrap: Callable[[nn.Module], nn.Module] = lambda conv: conv) -> None:
        super().__init__()
        inner = max(1, channels // 8)
        self.query = wrap(nn.Conv2d(channels, inner, 1, bias=False))
        self.key = wrap(nn.Conv2d(channels, inner, 1, bias=False))
        self.value = wrap(nn.Conv2d(channels, inner, 1, bias=False))
        self.out = wrap(nn.Conv2d(inner, channels, 1, bias=False))
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        query, key, value = (part(x).flatten(2) for part in (self.query, self.key, self.value))
        # From each place (rows) to all places
        looks = (query.mT @ key).softmax(dim=-1)  # SAGAN does not divide by sqrt(inner)
        return x + self.gamma * self.out((value @ looks.mT).unflatten(2, x.shape[2:]))
