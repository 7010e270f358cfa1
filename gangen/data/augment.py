"""How a sample's pictures are cropped, resized and varied, all of them alike.

Chance comes from torch's global generator alone, so whoever seeds it before a sample decides the sample.
Nothing random happens at construction.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F
from torchvision.tv_tensors import Mask

from gangen.errors import DataError

Size = int | tuple[int, int]
"""Side of a square, or height and width, in pixels."""

Transform = Callable[..., tuple[Any, ...]]
"""Takes a sample's pictures as arguments and gives as many: all of one size, or as much larger as they were. A
mask comes and goes as torchvision's `tv_tensors.Mask`, (H, W), whose values are moved but never mixed."""


def needed(transform: object) -> int:
    """Pixels that the shorter side of a picture needs for what it will go through; 0 to read it whole."""
    return int(getattr(transform, "enough", 0))


def wide_size(shorter: int, wide: float) -> tuple[int, int]:
    """Height and width of pictures by their shorter side in pixels and their width by their height."""
    tall = shorter if wide >= 1 else round(shorter / wide)
    return tall, round(wide * tall)


@dataclass(frozen=True)
class Augment:
    """Random crop, mirror and colours for training, the same for all pictures of a sample.

    A picture smaller than `size` is enlarged. Resizing is bicubic and antialiased, and of masks to the nearest.

    Attributes:
        size: of the pictures that come out.
        flip: mirror every second sample, left to right.
        scale: side of the crop as a share of the largest that has the proportions of `size`, which for a square is
            the picture's shorter side; drawn evenly between these two.
        jitter: how far brightness, contrast and saturation vary, as a share up and down; hue varies by a
            tenth of it, in turns of the colour wheel. Where both pictures of a pair are given, both vary
            alike; where the input is drawn from the picture, it is drawn afterwards.
        draft: let JPEGs that are far larger than needed be decoded at a part of their size; see
            `gangen.images.reduced`. What comes out differs slightly. Of no effect on pictures that must fit
            others: pairs, halves, and pictures with masks.

    Raises:
        DataError: a value is out of its range.
    """

    size: Size
    flip: bool = True
    scale: tuple[float, float] = (0.8, 1.0)
    jitter: float = 0.0
    draft: bool = False

    def __post_init__(self) -> None:
        _check_size(self.size)
        low, high = self.scale
        if not 0 < low <= high <= 1:
            raise DataError(f"scale={self.scale}: expected two shares with 0 < low <= high <= 1, like (0.8, 1.0)")
        if not 0 <= self.jitter <= 1:
            raise DataError(f"jitter={self.jitter}: expected a share from 0 (off) to 1, like 0.2")

    @property
    def enough(self) -> int:
        """Pixels that a picture's shorter side needs, so that the smallest crop is still twice as large as what
        comes out; 0 where pictures are to be read whole.
        """
        longest = self.size if isinstance(self.size, int) else max(self.size)
        return math.ceil(2 * longest / self.scale[0]) if self.draft else 0

    def __call__(self, *pictures: Any) -> tuple[Any, ...]:
        """Vary a sample's pictures of one size, any number of them, the first one of Pillow's."""
        width, height = pictures[0].size
        low, high = self.scale
        share = low + (high - low) * torch.rand(()).item()
        rows, columns = _largest(width, height, self.size, share)
        top = int(torch.randint(height - rows + 1, ()))
        left = int(torch.randint(width - columns + 1, ()))
        mirrored = self.flip and bool(torch.rand(()) < 0.5)

        varied = tuple(_cut(picture, top, left, rows, columns, self.size) for picture in pictures)
        if mirrored:
            varied = tuple(F.horizontal_flip(picture) for picture in varied)
        if self.jitter:
            coloured = self._colours(*varied)
            varied = coloured if isinstance(coloured, tuple) else (coloured,)
        return varied

    @cached_property
    def _colours(self) -> v2.ColorJitter:
        return v2.ColorJitter(self.jitter, self.jitter, self.jitter, 0.1 * self.jitter)


@dataclass(frozen=True)
class Centre:
    """The largest central part that has the proportions of `size`, for validation: nothing random.

    A picture smaller than `size` is enlarged. Resizing is bicubic and antialiased, and of masks to the nearest.

    Raises:
        DataError: the size is below 1.
    """

    size: Size

    def __post_init__(self) -> None:
        _check_size(self.size)

    def __call__(self, *pictures: Any) -> tuple[Any, ...]:
        """Crop a sample's pictures of one size, the first of Pillow's, any number of them."""
        width, height = pictures[0].size
        rows, columns = _largest(width, height, self.size)
        top, left = (height - rows) // 2, (width - columns) // 2
        return tuple(_cut(picture, top, left, rows, columns, self.size) for picture in pictures)


@dataclass(frozen=True)
class Crop:
    """Random square of the picture as it is, turned and mirrored: for training where resizing would tell.

    Of pictures of several sizes (a small one, and one of `scale` times its size) the same place is cut. A sample
    whose largest picture is smaller than `size` is enlarged.

    Attributes:
        size: side of what comes out of the largest picture, in pixels.
        turn: turn by one of the four quarters, besides mirroring every second sample.

    Raises:
        DataError: the size is below 1, or, when it is called, does not fit the pictures' proportion.
    """

    size: int
    turn: bool = True

    def __post_init__(self) -> None:
        _check_size(self.size)

    def __call__(self, *pictures: Image.Image) -> tuple[Image.Image, ...]:
        """Cut a sample's pictures; the largest becomes `size` x `size`, the others smaller in proportion."""
        ratios = _ratios(pictures)
        side = self.size // max(ratios)  # of the smallest picture, in whose pixels the place is chosen
        if side * max(ratios) != self.size:
            raise DataError(
                f"size={self.size}: for targets {max(ratios)} times as large as inputs expected a multiple of "
                f"{max(ratios)}, like {max(1, side) * max(ratios)}"
            )
        smallest = min(pictures, key=lambda picture: picture.width)
        if min(smallest.size) < side:
            factor = side / min(smallest.size)
            width, height = (max(side, round(factor * length)) for length in smallest.size)
            pictures = tuple(
                picture.resize((ratio * width, ratio * height), Image.Resampling.BICUBIC)
                for picture, ratio in zip(pictures, ratios, strict=True)
            )
        else:
            width, height = smallest.size
        top = int(torch.randint(height - side + 1, ()))
        left = int(torch.randint(width - side + 1, ()))
        mirrored, quarters = bool(torch.rand(()) < 0.5), int(torch.randint(4, ())) if self.turn else 0
        made = []
        for picture, ratio in zip(pictures, ratios, strict=True):
            edges = (ratio * left, ratio * top, ratio * (left + side), ratio * (top + side))
            square = picture.crop(edges)
            square = F.horizontal_flip(square) if mirrored else square
            made.append(square.transpose(_QUARTERS[quarters - 1]) if quarters else square)
        return tuple(made)


_QUARTERS = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)


@dataclass(frozen=True)
class Whole:
    """The picture as it is, but for the rows and columns below and right that make it no multiple of `multiple`.

    For validation of super-resolution. Of pictures of several sizes the multiple is that of the largest. One that
    is smaller than `multiple` is enlarged to it.

    Raises:
        DataError: the multiple is below 1.
    """

    multiple: int = 1

    def __post_init__(self) -> None:
        _check_size(self.multiple)

    def __call__(self, *pictures: Image.Image) -> tuple[Image.Image, ...]:
        """Crop a sample's pictures, each as far as the largest one is."""
        ratios = _ratios(pictures)
        made = []
        for picture, ratio in zip(pictures, ratios, strict=True):
            step = max(1, self.multiple * ratio // max(ratios))
            width, height = (max(step, length // step * step) for length in picture.size)
            least = (max(width, picture.width), max(height, picture.height))
            enlarged = picture if least == picture.size else picture.resize(least, Image.Resampling.BICUBIC)
            made.append(enlarged.crop((0, 0, width, height)))
        return tuple(made)


def _ratios(pictures: tuple[Image.Image, ...]) -> list[int]:
    """By how much each picture of a sample is larger than its smallest."""
    least = min(picture.width for picture in pictures)
    return [picture.width // least for picture in pictures]


def _largest(width: int, height: int, size: Size, share: float = 1.0) -> tuple[int, int]:
    """Rows and columns of this share of the largest part of a picture that has the proportions of `size`."""
    tall, wide = (size, size) if isinstance(size, int) else size
    rows = share * min(height, width * (tall / wide))
    columns = share * min(width, height * (wide / tall))
    return max(1, round(rows)), max(1, round(columns))


def _cut(picture: Any, top: int, left: int, rows: int, columns: int, size: Size) -> Any:
    out = [size, size] if isinstance(size, int) else list(size)
    if not isinstance(picture, Mask):
        return F.resized_crop(
            picture, top, left, rows, columns, out, interpolation=InterpolationMode.BICUBIC, antialias=True
        )
    # What torchvision takes for the nearest pixel of a mask lies up to half a pixel of `out` above and left of it,
    # where pictures are not
    part = F.crop(picture, top, left, rows, columns).as_subclass(torch.Tensor)
    return Mask(F.resize(part[None], out, interpolation=InterpolationMode.NEAREST_EXACT)[0])


def _check_size(size: Size) -> None:
    sides = (size,) if isinstance(size, int) else size
    if len(sides) not in (1, 2) or min(sides) < 1:
        raise DataError(f"size={size}: expected the side of a picture in pixels, like 128, or (height, width)")
