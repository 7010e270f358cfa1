"""What time, and careless saving, do to photographs; the size stays."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import torch
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

from gangen.data.degrade.basic import Blur, Chain, Degradation, Noise, compressed
from gangen.data.degrade.chance import Range, between, check_range, check_share, happens, whole

_SEPIA = ((38, 24, 10), (255, 240, 205))  # what black and white fade to on old paper


@dataclass(frozen=True)
class Crappify:
    """A reduced picture saved as poor JPEG, with the quality written over it: lesson 7 of fastai's course (2019).

    The text is what makes the task more than sharpening: the network must find and paint over it.

    Attributes:
        quality: of the JPEG, drawn between these two.
        reduce: by what the sides are divided before it is saved, drawn between these two; it is enlarged again.
    """

    quality: tuple[int, int] = (10, 70)
    reduce: Range = (1.0, 2.0)

    def __post_init__(self) -> None:
        check_range("quality", self.quality, 1, 95)
        check_range("reduce", self.reduce, 1)

    def __call__(self, picture: Image.Image) -> Image.Image:
        """Of the same size."""
        factor, quality = between(self.reduce), whole(*self.quality)
        small = (max(1, round(picture.width / factor)), max(1, round(picture.height / factor)))
        reduced = picture.resize(small, Image.Resampling.BILINEAR)
        # A third of the shorter side is the tallest that leaves most of the picture to be seen.
        font = ImageFont.load_default(size=max(6, round(between((0.12, 0.33)) * min(small))))
        place = (whole(0, small[0] // 2), whole(0, small[1] // 2))
        ImageDraw.Draw(reduced).text(place, str(quality), fill=_any_colour(), font=font)
        return compressed(reduced, quality).resize(picture.size, Image.Resampling.BILINEAR)


@dataclass(frozen=True)
class Fade:
    """Contrast is lost, and the colours go or take on a cast.

    Attributes:
        contrast: share of the contrast that is left, drawn between these two.
        colour: share of the saturation that is left, likewise.
        sepia: share of pictures that have turned wholly brown.
        cast: by how much of 255 levels each channel shifts at most.
    """

    contrast: Range = (0.35, 0.8)
    colour: Range = (0.1, 0.7)
    sepia: float = 0.3
    cast: float = 0.06

    def __post_init__(self) -> None:
        check_range("contrast", self.contrast, 0, 1)
        check_range("colour", self.colour, 0, 1)
        check_share("sepia", self.sepia)
        check_share("cast", self.cast)

    def __call__(self, picture: Image.Image) -> Image.Image:
        """Of the same size."""
        grey = ImageOps.grayscale(picture)
        if happens(self.sepia):
            toned = ImageOps.colorize(grey, *_SEPIA)
        else:
            toned = Image.blend(grey.convert("RGB"), picture, between(self.colour))
        share, middle = between(self.contrast), between((110.0, 200.0))
        shifts = [between((-255 * self.cast, 255 * self.cast)) for _ in range(3)]
        table = [
            min(255, max(0, round(middle + share * (level - middle) + shift)))
            for shift in shifts
            for level in range(256)
        ]
        return toned.point(table)


@dataclass(frozen=True)
class Scratch:
    """Scratches, mostly upright, and specks of dust, light or dark.

    Attributes:
        scratches: how many at most; at least one.
        specks: how many at most.
    """

    scratches: int = 6
    specks: int = 12

    def __post_init__(self) -> None:
        check_range("scratches", (1, self.scratches), 1)
        check_range("specks", (0, self.specks), 0)

    def __call__(self, picture: Image.Image) -> Image.Image:
        """Of the same size."""
        width, height = picture.size
        unit = min(width, height) / 128  # scratches of large pictures are wider
        for light in (True, False):
            mask = Image.new("L", picture.size, 0)
            pen = ImageDraw.Draw(mask)
            for _ in range(whole(int(light), max(1, self.scratches // 2))):
                _scratch(pen, width, height, unit)
            for _ in range(whole(0, self.specks // 2)):
                x, y, radius = between((0, width)), between((0, height)), unit * between((0.4, 1.6))
                pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=whole(100, 230))
            mask = mask.filter(ImageFilter.GaussianBlur(0.4 * unit))
            tone = whole(200, 255) if light else whole(0, 50)
            picture = Image.composite(Image.new("RGB", picture.size, (tone, tone, tone)), picture, mask)
        return picture


@dataclass(frozen=True)
class OldPhotograph:
    """A photograph from the attic: a little soft, grainy, faded, and scratched, in this order."""

    def __call__(self, picture: Image.Image) -> Image.Image:
        """Of the same size."""
        return _ATTIC(picture)


_ATTIC: Degradation = Chain(
    (Blur((0.3, 1.2), oval=0.0), Noise((2.0, 12.0), grey=0.9, share_of_poisson=0.0), Fade(), Scratch())
)


def _scratch(pen: ImageDraw.ImageDraw, width: int, height: int, unit: float) -> None:
    """Draw a wavering line from one height to another."""
    x, top, bottom = (
        between((0, width)),
        between((-0.2 * height, 0.7 * height)),
        between((0.3 * height, 1.2 * height)),
    )
    slant, points = between((-0.15, 0.15)) * width, 12
    steps = torch.randn(points).cumsum(0) * 0.6 * unit
    line = [
        (x + slant * k / points + float(steps[k]), top + (bottom - top) * k / (points - 1)) for k in range(points)
    ]
    pen.line(line, fill=whole(120, 255), width=max(1, round(unit * between((0.5, 1.5)))))


def _any_colour() -> tuple[int, int, int]:
    """Any hue, mostly bright."""
    red, green, blue = colorsys.hsv_to_rgb(between((0, 1)), between((0, 1)), between((0.5, 1)))
    return round(255 * red), round(255 * green), round(255 * blue)
