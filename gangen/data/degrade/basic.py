"""The single steps of which degradations consist: reducing, blurring, noise, JPEG, and their composition."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from gangen.data.degrade.chance import Range, between, check_range, check_share, happens, one_of, whole
from gangen.errors import DataError

Degradation = Callable[[Image.Image], Image.Image]
"""Takes an "RGB" picture and gives another, of the same size unless it says otherwise."""

FILTERS = (Image.Resampling.BOX, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)
"""Area, bilinear and bicubic; Pillow's all see every pixel where they reduce (they are antialiased)."""


@dataclass(frozen=True)
class Bicubic:
    """Reduce by a whole factor, with the antialiased bicubic filter that super-resolution is by custom trained on.

    Keys' kernel with a = -0.5, stretched by the factor, as MATLAB's imresize has it. Pillow has it too, but leaves
    out what lies beyond the border; here the border is repeated, as in the small pictures that are given with
    Set5. Ours differ from those by one level at most, rarely two: Pillow rounds between rows and columns.

    Raises:
        DataError: the factor is below 1, or, when it is called, a side is no multiple of it.
    """

    scale: int

    def __post_init__(self) -> None:
        check_scale(self.scale)

    def __call__(self, picture: Image.Image) -> Image.Image:
        """(W, H) to (W / scale, H / scale)."""
        width, height = reduced(picture, self.scale)
        if self.scale == 1:
            return picture
        rim = 2 * self.scale  # as far as the kernel reaches
        padded = Image.fromarray(np.pad(np.asarray(picture), ((rim, rim), (rim, rim), (0, 0)), mode="edge"))
        small = padded.resize((width + 4, height + 4), Image.Resampling.BICUBIC)
        return small.crop((2, 2, small.width - 2, small.height - 2))


@dataclass(frozen=True)
class Blur:
    """Gaussian blur, round or oval, the border repeated.

    Attributes:
        sigma: of the Gaussian, in pixels, drawn between these two; for an oval one along each axis by itself.
        oval: share of blurs that are oval and turned by any angle.
    """

    sigma: Range = (0.2, 3.0)
    oval: float = 0.36

    def __post_init__(self) -> None:
        check_range("sigma", self.sigma, 0.01)
        check_share("oval", self.oval)

    def __call__(self, picture: Image.Image) -> Image.Image:
        """Of the same size."""
        levels = _levels(picture)[None]
        sigma = between(self.sigma)
        if not happens(self.oval):
            steps = torch.arange(-_reach(sigma), _reach(sigma) + 1.0)
            line = torch.exp(-0.5 * (steps / sigma) ** 2)
            line = (line / line.sum()).expand(3, 1, 1, -1)
            return _picture(_filtered(_filtered(levels, line), line.mT)[0])
        return _picture(_filtered(levels, _oval(sigma, between(self.sigma), between((0.0, math.pi))))[0])


@dataclass(frozen=True)
class Noise:
    """Gaussian or Poisson noise, of colours or of brightness alone.

    Attributes:
        gaussian: standard deviation in levels of 8 bits, drawn between these two.
        poisson: strength of the Poisson noise, drawn between these two; at 1 that of a sensor in which white is
            255 photons, whose deviation is the square root of the level.
        grey: share of noise that is the same in all three channels.
        share_of_poisson: against Gaussian.
    """

    gaussian: Range = (1.0, 30.0)
    poisson: Range = (0.05, 3.0)
    grey: float = 0.4
    share_of_poisson: float = 0.5

    def __post_init__(self) -> None:
        check_range("gaussian", self.gaussian, 0)
        check_range("poisson", self.poisson, 0)
        check_share("grey", self.grey)
        check_share("share_of_poisson", self.share_of_poisson)

    def __call__(self, picture: Image.Image) -> Image.Image:
        """Of the same size."""
        levels = _levels(picture)
        grey = happens(self.grey)
        if happens(self.share_of_poisson):
            photons = levels.mean(dim=0, keepdim=True) if grey else levels
            # The normal approximation: from some ten photons up hardly different, and several times as fast.
            return _picture(levels + between(self.poisson) * photons.sqrt() * torch.randn(photons.shape))
        noise = torch.randn(levels[:1].shape if grey else levels.shape)
        return _picture(levels + between(self.gaussian) * noise)


@dataclass(frozen=True)
class Jpeg:
    """Written as JPEG and read again.

    Attributes:
        quality: Pillow's (libjpeg's), 1..95, drawn between these two.
    """

    quality: tuple[int, int] = (30, 95)

    def __post_init__(self) -> None:
        check_range("quality", self.quality, 1, 95)

    def __call__(self, picture: Image.Image) -> Image.Image:
        """Of the same size."""
        return compressed(picture, whole(*self.quality))


@dataclass(frozen=True)
class Resize:
    """To another size, by area, bilinear or bicubic filter, whichever is drawn.

    Attributes:
        size: (W, H) in pixels of what `shares` refer to; None for the picture given.
        smaller: by what the sides are multiplied when the picture becomes smaller, drawn between these two.
        larger: likewise when it becomes larger.
        chances: how often, in proportion, it becomes larger, becomes smaller, and gets just `size`.
    """

    size: tuple[int, int] | None = None
    smaller: Range = (0.15, 1.0)
    larger: Range = (1.0, 1.5)
    chances: tuple[float, float, float] = (0.2, 0.7, 0.1)

    def __post_init__(self) -> None:
        check_range("smaller", self.smaller, 0.01, 1)
        check_range("larger", self.larger, 1)
        if min(self.chances) < 0 or sum(self.chances) <= 0:
            raise DataError(f"chances={self.chances}: expected three numbers, none negative and not all 0.")

    def __call__(self, picture: Image.Image) -> Image.Image:
        """A picture of another size, of 1 pixel at least."""
        share = between(one_of((self.larger, self.smaller, (1.0, 1.0)), self.chances))
        width, height = self.size or picture.size
        size = (max(1, round(share * width)), max(1, round(share * height)))
        return picture.resize(size, one_of(FILTERS))


@dataclass(frozen=True)
class Chain:
    """One degradation after the other."""

    steps: tuple[Degradation, ...]

    def __call__(self, picture: Image.Image) -> Image.Image:
        """What the last step gives."""
        for step in self.steps:
            picture = step(picture)
        return picture


@dataclass(frozen=True)
class Shuffled:
    """Degradations in an order that is drawn (BSRGAN, Zhang et al. 2021, arXiv:2103.14006, section 3)."""

    steps: tuple[Degradation, ...]

    def __call__(self, picture: Image.Image) -> Image.Image:
        """What the last step gives."""
        for index in torch.randperm(len(self.steps)).tolist():
            picture = self.steps[index](picture)
        return picture


def check_scale(scale: int) -> None:
    """Raise a DataError unless `scale` is 1 or more."""
    if scale < 1:
        raise DataError(f"scale={scale}: expected a whole factor from 1 up, like 4.")


def reduced(picture: Image.Image, scale: int) -> tuple[int, int]:
    """(W / scale, H / scale) of a picture.

    Raises:
        DataError: a side is no multiple of the scale.
    """
    width, height = picture.size
    if width % scale or height % scale:
        raise DataError(
            f"a picture of {width}x{height} pixels cannot be reduced by exactly {scale}. Crop it to multiples of "
            f"{scale} first."
        )
    return width // scale, height // scale


def compressed(picture: Image.Image, quality: int) -> Image.Image:
    """The picture after it was written as JPEG of this quality."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def _levels(picture: Image.Image) -> Tensor:
    """(3, H, W) float32 in 0..255."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float()


def _picture(levels: Tensor) -> Image.Image:
    """The reverse of `_levels`, rounded and clamped."""
    return Image.fromarray(levels.clamp(0, 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy())


def _reach(sigma: float) -> int:
    """Radius of a kernel in pixels: three sigma, beyond which are 0.3% of a Gaussian."""
    return math.ceil(3 * sigma)


def _oval(first: float, second: float, angle: float) -> Tensor:
    """A Gaussian of sigma `first` along a direction and `second` across it, (3, 1, K, K), of sum 1."""
    reach = _reach(max(first, second))
    steps = torch.arange(-reach, reach + 1.0)
    down, across = torch.meshgrid(steps, steps, indexing="ij")
    along = math.cos(angle) * across + math.sin(angle) * down
    aside = math.cos(angle) * down - math.sin(angle) * across
    kernel = torch.exp(-0.5 * ((along / first) ** 2 + (aside / second) ** 2))
    return (kernel / kernel.sum()).expand(3, 1, -1, -1)


def _filtered(levels: Tensor, kernel: Tensor) -> Tensor:
    """(1, 3, H, W) convolved with (3, 1, h, w), each channel by its own, the border repeated."""
    down, across = kernel.shape[-2] // 2, kernel.shape[-1] // 2
    padded = F.pad(levels, (across, across, down, down), mode="replicate")
    return F.conv2d(padded, kernel, groups=3)
