"""Classes and their colours: what a label means, and how a mask is drawn."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from gangen.errors import UserError

IGNORED = -100
"""The label of what is not to be learned or judged, such as a data set's Void: torch's own default, so that the
losses of torch leave it out by themselves. In pictures it is drawn black, and written as level 255."""

Colour = tuple[int, int, int]

_SHADE = (8, 69, 148)
_NAMED = 400
"""At most so many classes have their names beside a confusion matrix."""


@dataclass(frozen=True)
class Classes:
    """The classes that a network tells apart, in the order of its answers.

    Attributes:
        names: of the classes.
        colours: red, green and blue of each, 0 to 255; distinct ones by default.

    Raises:
        UserError: there is no class, two have one name, or the colours are not one for each.
    """

    names: tuple[str, ...]
    colours: tuple[Colour, ...] = field(default=())

    def __post_init__(self) -> None:
        names = tuple(str(name) for name in self.names)
        twice = sorted({name for name in names if names.count(name) > 1})
        if not names or twice:
            told = f"{', '.join(twice)} twice" if twice else "none"
            raise UserError(f"classes need names, each its own and at least one; given: {told}.")
        colours = tuple(self.colours) or distinct_colours(len(names))
        if len(colours) != len(names):
            raise UserError(f"{len(colours)} colours for {len(names)} classes: give one for each.")
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "colours", tuple((int(r), int(g), int(b)) for r, g, b in colours))

    def __len__(self) -> int:
        """How many there are."""
        return len(self.names)


def distinct_colours(count: int) -> tuple[Colour, ...]:
    """`count` colours that are easily told apart and never black: hues a golden angle apart, three lightnesses."""
    golden = (5**0.5 - 1) / 2
    made = []
    for k in range(count):
        red, green, blue = colorsys.hls_to_rgb((0.6 + k * golden) % 1, (0.5, 0.68, 0.34)[k % 3], 0.75)
        made.append((round(255 * red), round(255 * green), round(255 * blue)))
    return tuple(made)


def draw_mask(mask: Tensor, classes: Classes) -> Image.Image:
    """A mask (H, W) of int64 labels as a picture with a palette ("P"), whose levels are the labels.

    What is ignored has level 255, black. More than 255 classes do not fit, and are drawn in colours alone ("RGB").

    Raises:
        UserError: a label is none of the classes.
    """
    labels = mask.detach().cpu()
    if labels.ndim != 2:
        raise ValueError(f"a mask is (H, W), this is {tuple(labels.shape)}; index a batch first")
    known = labels == IGNORED
    unknown = labels[~known & ((labels < 0) | (labels >= len(classes)))]
    if len(unknown):
        raise UserError(f"label {int(unknown[0])} is none of the {len(classes)} classes, 0 to {len(classes) - 1}.")
    if len(classes) > 255:
        table = torch.tensor([*classes.colours, (0, 0, 0)], dtype=torch.uint8)
        return Image.fromarray(table[labels.where(~known, len(classes))].numpy(), "RGB")
    levels = labels.where(~known, 255).to(torch.uint8).numpy()
    picture = Image.fromarray(np.ascontiguousarray(levels), "L").convert("P")
    palette = [level for colour in classes.colours for level in colour]
    picture.putpalette(palette + [0] * (768 - len(palette)))
    return picture


def overlay(picture: Image.Image, mask: Image.Image, strength: float = 0.7) -> Image.Image:
    """A picture with a drawn mask of its size laid over it, `strength` from 0 (the picture) to 1 (the mask)."""
    return Image.blend(picture.convert("RGB"), mask.convert("RGB"), strength)


def captioned(pictures: Sequence[Image.Image], caption: str, colour: str = "black") -> Image.Image:
    """Pictures side by side, enlarged by whole factors to some 192 pixels, with a line of text below."""
    factor = max(1, 192 // max(pictures[0].size))
    large = [p.resize((factor * p.width, factor * p.height), Image.Resampling.NEAREST) for p in pictures]
    font, line = ImageFont.load_default(size=14), 20
    width, height = sum(picture.width for picture in large), max(picture.height for picture in large)
    made = Image.new("RGB", (width, height + line), "white")
    left = 0
    for picture in large:
        made.paste(picture, (left, 0))
        left += picture.width
    while font.getlength(caption) > width and len(caption) > 2:
        caption = f"{caption[:-2].rstrip('…')}…"
    ImageDraw.Draw(made).text((2, height + 1), caption, fill=colour, font=font)
    return made


def draw_confusion(counts: Tensor, classes: Classes) -> Image.Image:
    """A confusion matrix, (K, K) counts with a row for each label and a column for each answer, as a picture.

    Each row is shaded by shares of its label: dark is most of it. Numbers are percents, where there is room. Of
    more than 400 classes there are no names, and of thousands several share a dot, which shows the largest share.
    """
    count = len(classes)
    shares = counts.double() / counts.sum(dim=1, keepdim=True).clamp(min=1)
    if count > _NAMED:
        return _unnamed(shares)
    side = max(8, min(56, 1200 // count))
    font = ImageFont.load_default(size=max(8, min(14, side // 3)))
    wide = 12 + max(round(font.getlength(name)) for name in classes.names)
    top = wide + 24
    told = "rows: labels, columns: answers"
    width = max(wide + count * side, 6 + round(font.getlength(told))) + 12
    made = Image.new("RGB", (width, top + count * side + 12), "white")
    draw = ImageDraw.Draw(made)
    draw.text((6, 4), told, fill="black", font=font)
    for k, name in enumerate(classes.names):
        draw.text((6, top + k * side + side // 2), name, fill="black", font=font, anchor="lm")
        slanted = Image.new("L", (wide, side), 0)
        ImageDraw.Draw(slanted).text((6, side // 2), name, fill=255, font=font, anchor="lm")
        upright = slanted.rotate(90, expand=True)
        made.paste("black", (wide + k * side, top - wide), upright)
        for other in range(count):
            share = float(shares[k, other])
            corner = (wide + other * side, top + k * side)
            shade = tuple(round(255 + share * (dark - 255)) for dark in _SHADE)
            draw.rectangle(
                (*corner, corner[0] + side - 1, corner[1] + side - 1), fill=shade, outline=(225, 225, 225)
            )
            if share >= 0.005 and side >= 24:
                middle = (corner[0] + side // 2, corner[1] + side // 2)
                ink = "white" if share > 0.5 else "black"
                draw.text(middle, f"{100 * share:.0f}", fill=ink, font=font, anchor="mm")
    return made


def _unnamed(shares: Tensor) -> Image.Image:
    """Shares (K, K) as dots of equal size, in a picture of 600 to 2,400 pixels a side."""
    least = min(len(shares), 2400)
    dots = F.adaptive_max_pool2d(shares[None].float(), least)[0, ..., None]
    shades = (255 + dots * (torch.tensor(_SHADE) - 255)).round().byte().numpy()
    side = max(1, 1200 // least)
    return Image.fromarray(shades).resize((least * side, least * side), Image.Resampling.NEAREST)


def with_legend(sheet: Image.Image, classes: Classes, present: Iterable[int] | None = None) -> Image.Image:
    """A sheet with names and colours of the classes below it, of those that are `present`, or of all when None.

    Raises:
        IndexError: a number is none of the classes.
    """
    shown = range(len(classes)) if present is None else sorted(set(present) - {IGNORED})
    font, patch, gap = ImageFont.load_default(size=14), 16, 8
    places: list[tuple[int, int, int]] = []
    x, y = gap, gap
    for k in shown:
        width = patch + 6 + round(font.getlength(classes.names[k]))
        if x > gap and x + width > sheet.width - gap:
            x, y = gap, y + patch + gap
        places.append((k, x, y))
        x += width + 2 * gap
    made = Image.new("RGB", (sheet.width, sheet.height + y + patch + gap), "white")
    made.paste(sheet)
    draw = ImageDraw.Draw(made)
    for k, left, top in places:
        corner = (left, sheet.height + top)
        draw.rectangle((*corner, corner[0] + patch, corner[1] + patch), fill=classes.colours[k], outline="black")
        draw.text((left + patch + 6, corner[1]), classes.names[k], fill="black", font=font)
    return made
