"""How a sample's pictures are cropped, resized and varied, all of them alike.

Chance comes from torch's global generator alone, so whoever seeds it before a sample decides the sample.
Nothing random happens at construction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F

from gangen.errors import DataError

Transform = Callable[..., tuple[Image.Image, ...]]
"""Takes a sample's pictures, all of one size, as arguments; gives as many, all of one size."""


@dataclass(frozen=True)
class Augment:
    """Random square crop, mirror and colours for training, the same for all pictures of a sample.

    A picture smaller than `size` is enlarged. Resizing is bicubic and antialiased.

    Attributes:
        size: side of the pictures that come out, in pixels.
        flip: mirror every second sample, left to right.
        scale: side of the crop as a share of the picture's shorter side, drawn evenly between these two.
        jitter: how far brightness, contrast and saturation vary, as a share up and down; hue varies by a
            tenth of it, in turns of the colour wheel. Where both pictures of a pair are given, both vary
            alike; where the input is drawn from the picture, it is drawn afterwards.

    Raises:
        DataError: a value is out of its range.
    """

    size: int
    flip: bool = True
    scale: tuple[float, float] = (0.8, 1.0)
    jitter: float = 0.0

    def __post_init__(self) -> None:
        _check_size(self.size)
        low, high = self.scale
        if not 0 < low <= high <= 1:
            raise DataError(f"scale={self.scale}: expected two shares with 0 < low <= high <= 1, like (0.8, 1.0)")
        if not 0 <= self.jitter <= 1:
            raise DataError(f"jitter={self.jitter}: expected a share from 0 (off) to 1, like 0.2")

    def __call__(self, *pictures: Image.Image) -> tuple[Image.Image, ...]:
        """Vary a sample's pictures of one size, any number of them; `size` x `size` come out."""
        width, height = pictures[0].size
        low, high = self.scale
        share = low + (high - low) * torch.rand(()).item()
        side = max(1, round(share * min(width, height)))
        top = int(torch.randint(height - side + 1, ()))
        left = int(torch.randint(width - side + 1, ()))
        mirrored = self.flip and bool(torch.rand(()) < 0.5)

        varied = tuple(_square(picture, top, left, side, self.size) for picture in pictures)
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
    """The central square at `size` x `size`, for validation: nothing random.

    A picture smaller than `size` is enlarged. Resizing is bicubic and antialiased.

    Raises:
        DataError: the size is below 1.
    """

    size: int

    def __post_init__(self) -> None:
        _check_size(self.size)

    def __call__(self, *pictures: Image.Image) -> tuple[Image.Image, ...]:
        """Crop a sample's pictures of one size, any number of them."""
        width, height = pictures[0].size
        side = min(width, height)
        top, left = (height - side) // 2, (width - side) // 2
        return tuple(_square(picture, top, left, side, self.size) for picture in pictures)


def _square(picture: Image.Image, top: int, left: int, side: int, size: int) -> Image.Image:
    square: Image.Image = F.resized_crop(
        picture, top, left, side, side, [size, size], interpolation=InterpolationMode.BICUBIC, antialias=True
    )
    return square


def _check_size(size: int) -> None:
    if size < 1:
        raise DataError(f"size={size}: expected the side of a picture in pixels, like 128")
