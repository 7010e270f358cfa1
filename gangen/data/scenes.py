"""Drawn scenes with exact labels, for trying segmentation without data: shapes in front of photographs."""

from __future__ import annotations

import colorsys
import hashlib
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image, ImageDraw, ImageFilter

from gangen.data.photos import embedded_photographs
from gangen.labels import Classes

SCENES = Classes(
    ("background", "circle", "square", "triangle", "star"),
    ((70, 70, 70), (230, 159, 0), (86, 180, 233), (0, 158, 115), (204, 121, 167)),  # Okabe & Ito 2008
)
"""What is to be told apart in the scenes."""

_FINE = 4  # pictures are drawn so many times larger, for smooth edges

Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Scenes:
    """A source of drawn scenes: some shapes of random place, size, turn and colour over a part of a photograph.

    Each is decided by its name alone, and drawn anew when it is read.

    Attributes:
        names: the samples' names.
        side: of the pictures, in pixels.
        photographs: what the backgrounds are cut from.
    """

    names: Sequence[str]
    side: int
    photographs: Sequence[Image.Image] = field(repr=False)

    def read(self, index: int) -> tuple[Image.Image, Image.Image]:
        """Draw a scene: the picture, and its mask, "L", whose levels are the numbers of `SCENES`."""
        chance = random.Random(self.names[index])
        picture = _background(chance, self.photographs, self.side)
        mask = Image.new("L", (self.side, self.side), 0)
        for _ in range(chance.randint(2, 5)):
            kind = chance.randint(1, len(SCENES) - 1)
            outline = _outline(SCENES.names[kind], chance, self.side)
            shape = Image.new("L", (self.side * _FINE,) * 2, 0)
            ImageDraw.Draw(shape).polygon([(x * _FINE, y * _FINE) for x, y in outline], fill=255)
            cover = shape.resize((self.side, self.side), Image.Resampling.BOX)
            picture.paste(_paint(chance, self.side), mask=cover)
            # A pixel belongs to what covers more than half of it.
            mask.paste(kind, mask=cover.point(lambda level: 255 * (level > 127)))
        return picture, mask

    def fingerprint(self) -> str:
        """Hash of the names, the side and the photographs."""
        told = hashlib.sha256("\n".join([*self.names, str(self.side)]).encode())
        for photograph in self.photographs:
            told.update(photograph.tobytes())
        return told.hexdigest()


def open_scenes(side: int = 96, train: int = 400, held_out: int = 80) -> tuple[Scenes, Scenes]:
    """Scenes for training and others for validation, whose backgrounds share no pixel.

    Args:
        side: of the pictures, in pixels.
        train: scenes for training.
        held_out: scenes for validation.
    """
    halves: tuple[list[Image.Image], list[Image.Image]] = ([], [])
    for _, photograph in embedded_photographs():
        width, height = photograph.size
        border = round(0.75 * width)
        halves[0].append(photograph.crop((0, 0, border, height)))
        halves[1].append(photograph.crop((border, 0, width, height)))
    return (
        Scenes([f"scene-{number}" for number in range(train)], side, halves[0]),
        Scenes([f"held-out-scene-{number}" for number in range(held_out)], side, halves[1]),
    )


def _background(chance: random.Random, photographs: Sequence[Image.Image], side: int) -> Image.Image:
    photograph = chance.choice(photographs)
    part = round(chance.uniform(0.5, 1.0) * min(photograph.size))
    left, top = (chance.randint(0, length - part) for length in photograph.size)
    cut = photograph.crop((left, top, left + part, top + part)).resize((side, side), Image.Resampling.BICUBIC)
    return cut.filter(ImageFilter.GaussianBlur(chance.uniform(0, 1)))


def _paint(chance: random.Random, side: int) -> Image.Image:
    """A colour that fades into another across the picture."""
    ends = []
    for _ in range(2):
        red, green, blue = colorsys.hls_to_rgb(chance.random(), chance.uniform(0.2, 0.8), chance.random())
        ends.append((round(255 * red), round(255 * green), round(255 * blue)))
    fading = Image.linear_gradient("L").resize((side, side)).rotate(chance.choice((0, 90, 180, 270)))
    return Image.composite(
        Image.new("RGB", (side, side), ends[0]), Image.new("RGB", (side, side), ends[1]), fading
    )


def _outline(shape: str, chance: random.Random, side: int) -> Points:
    """Corners around a random middle, of a random size and turn."""
    radius = chance.uniform(0.1, 0.24) * side
    x, y = (chance.uniform(0.1, 0.9) * side for _ in range(2))
    corners, inner = {"circle": (64, 1.0), "square": (4, 1.0), "triangle": (3, 1.0), "star": (10, 0.42)}[shape]
    turn = chance.uniform(0, 2 * math.pi)
    points = []
    for corner in range(corners):
        reach = radius * (inner if corner % 2 else 1.0)
        angle = turn + 2 * math.pi * corner / corners
        points.append((x + reach * math.cos(angle), y + reach * math.sin(angle)))
    return points
