"""Pictures from noise: a generator with nothing to start from, and its critic.

Radford et al. 2015 (arXiv:1511.06434). Both are built for one size, a power of two from 8 to 256 pixels, and
double or halve between it and maps of 4x4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from gangen.errors import UserError
from gangen.nets.configs import expect_keys
from gangen.nets.heads import Bounded
from gangen.nets.layers import PixelNorm

SIZES = (8, 16, 32, 64, 128, 256)
_COARSEST = 4
NoiseNorm = Literal["pixel", "batch"]


class NoiseGenerator(nn.Module):
    """Noise in, picture out.

    DCGAN's plan: a linear layer makes 4x4 maps, and strided transposed convolutions of 4x4 double them, halving
    the channels, until the last gives the picture.

    DCGAN's own normalisation is "batch". The default, "pixel" (Karras et al. 2017, arXiv:1710.10196, section 4.2),
    knows neither neighbours in the batch nor running statistics: a picture depends on its noise alone, in training
    as afterwards, so what the critic is shown is what will be used.

    Args:
        size: side of the pictures in pixels: 8, 16, 32, 64, 128 or 256.
        latent: how many numbers make a picture.
        width: channels of the maps at half the size; doubled with each halving.
        widest: most channels of any maps.
        norm: "pixel" or "batch".

    Raises:
        UserError: an option is impossible.
    """

    def __init__(
        self, size: int = 32, latent: int = 128, width: int = 64, widest: int = 512, norm: NoiseNorm = "pixel"
    ) -> None:
        super().__init__()
        _check(size, latent=latent, width=width, widest=widest)
        if norm not in get_args(NoiseNorm):
            raise UserError(f"norm {norm!r} is unknown; choose one of {', '.join(get_args(NoiseNorm))}.")
        self.config: dict[str, Any] = {
            "size": size,
            "latent": latent,
            "width": width,
            "widest": widest,
            "norm": norm,
        }
        self.latent = latent
        coarsest, *_ = widths = list(reversed(_widths(size, width, widest)))
        steps: list[nn.Module] = [nn.Linear(latent, coarsest * _COARSEST**2, bias=False)]
        steps += [nn.Unflatten(1, (coarsest, _COARSEST, _COARSEST)), *_after(coarsest, norm)]
        for wide, narrow in pairwise(widths):
            steps += [nn.ConvTranspose2d(wide, narrow, 4, 2, 1, bias=False), *_after(narrow, norm)]
        steps += [nn.ConvTranspose2d(width, 3, 4, 2, 1), Bounded(-1, 1)]
        for step in steps:
            if isinstance(step, nn.Linear | nn.ConvTranspose2d):
                nn.init.normal_(step.weight, std=0.02)  # DCGAN, section 4
        self.paint = nn.Sequential(*steps)

    def forward(self, noise: Tensor) -> Tensor:
        """Noise (N, latent) of independent standard normal numbers to pictures (N, 3, size, size) in [-1, 1].

        Raises:
            UserError: the noise has another shape.
        """
        if noise.ndim != 2 or noise.shape[1] != self.latent:
            raise UserError(
                f"this generator makes pictures from noise of shape (N, {self.latent}), and was given "
                f"{tuple(noise.shape)}."
            )
        return self.paint(noise)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> NoiseGenerator:
        """The architecture that a generator's `config` describes, with random weights.

        Raises:
            RunError: a key is missing or unknown.
            UserError: a value is impossible.
        """
        expect_keys("a NoiseGenerator", config, ("size", "latent", "width", "widest", "norm"))
        return cls(**config)


class NoiseCritic(nn.Module):
    """Judges a picture of one size as a whole, with one logit.

    The generator's plan in reverse: strided convolutions of 4x4 down to 4x4 maps, and one that sees all of
    them. Without DCGAN's BatchNorm, which would let one picture's verdict depend on its neighbours.

    Args:
        size: side of the pictures in pixels: 8, 16, 32, 64, 128 or 256.
        width: channels of the maps at half the size; doubled with each halving.
        widest: most channels of any maps.
        spectral: bound every layer's gain (spectral norm, Miyato et al. 2018, arXiv:1802.05957); not to be
            joined with a gradient penalty, which bounds it already.

    Raises:
        UserError: an option is impossible.
    """

    def __init__(self, size: int = 32, width: int = 64, widest: int = 512, spectral: bool = True) -> None:
        super().__init__()
        _check(size, width=width, widest=widest)
        self.config: dict[str, Any] = {"size": size, "width": width, "widest": widest, "spectral": spectral}
        convs = [nn.Conv2d(a, b, 4, 2, 1) for a, b in pairwise((3, *_widths(size, width, widest)))]
        last = nn.Conv2d(convs[-1].out_channels, 1, _COARSEST)
        steps: list[nn.Module] = []
        for conv in (*convs, last):
            nn.init.kaiming_normal_(conv.weight, a=0.2, nonlinearity="leaky_relu")
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
            steps += [spectral_norm(conv) if spectral else conv, nn.LeakyReLU(0.2, inplace=True)]
        self.judge = nn.Sequential(*steps[:-1])

    def forward(self, picture: Tensor) -> Tensor:
        """Pictures (N, 3, size, size) in [-1, 1] to logits (N, 1), high for real.

        Raises:
            UserError: the pictures have another size.
        """
        size = self.config["size"]
        if picture.shape[1:] != (3, size, size):
            raise UserError(
                f"this critic judges pictures of (3, {size}, {size}), and was given {tuple(picture.shape[1:])}."
            )
        return self.judge(picture).flatten(1)


def latents(count: int, length: int, seed: int) -> Tensor:
    """Fixed noise, (count, length): picture k of a seed has the same noise however many are asked for."""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randn(length, generator=generator) for _ in range(count)])


def slerp(one: Tensor, other: Tensor, steps: int) -> Tensor:
    """Noise on the way from one to another, ends included, (steps, length).

    Along the great circle (Shoemake 1985; White 2016, arXiv:1609.04468): on the straight line the middle would be
    shorter than noise ever is. The length goes evenly from one end's to the other's.

    Args:
        one: (length,).
        other: (length,).
        steps: 2 or more.
    """
    share = torch.linspace(0, 1, steps, device=one.device)[:, None]
    first, second = one / one.norm(), other / other.norm()
    angle = torch.acos((first @ second).clamp(-1, 1))
    length = torch.lerp(one.norm().expand(steps), other.norm().expand(steps), share[:, 0])[:, None]
    if angle.sin() < 1e-4:  # on one line: there is no single great circle through both
        return torch.lerp(one[None], other[None], share)
    way = (torch.sin((1 - share) * angle) * first + torch.sin(share * angle) * second) / torch.sin(angle)
    return way * length


def _widths(size: int, width: int, widest: int) -> list[int]:
    """Channels of the maps at half the size, a quarter, and so on to 4x4."""
    return [min(widest, width * 2**k) for k in range(int(math.log2(size // _COARSEST)))]


def _after(channels: int, norm: NoiseNorm) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels) if norm == "batch" else PixelNorm(), nn.ReLU(inplace=True)]


def _check(size: int, **counts: int) -> None:
    if size not in SIZES:
        raise UserError(f"pictures from noise at {size} pixels: expected one of {', '.join(map(str, SIZES))}.")
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise UserError(f"{name}={count!r} is impossible; give a whole number from 1 up.")
