"""Codes: what the levels, or the colours, of label pictures mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gangen import images
from gangen.errors import DataError
from gangen.labels import IGNORED, Classes, Colour

VOID = ("void", "unlabelled", "unlabeled", "ignore")
"""Names, in any case, of what is by default not to be learned or judged."""

IGNORED_LEVEL = 255
"""What stands for `IGNORED` in masks of 8 bits."""

Level = int | Colour
CodesLike = Sequence[str] | Mapping[int, str] | Mapping[Colour, str] | str | Path
"""Names in the order of their levels; names by level or by colour; or a text file with a name, or a level and a
name, on each line."""


@dataclass(frozen=True)
class Codes:
    """What label pictures mean.

    Attributes:
        classes: what is told apart.
        levels: for each level of a grey or palette picture, or each colour, its class's number, or `IGNORED`.
        either: whether level 255 stands for the second of two classes too, as in pictures of black and white.
    """

    classes: Classes
    levels: Mapping[Level, int]
    either: bool = False

    @classmethod
    def of(cls, codes: CodesLike, ignored: Sequence[str] = VOID) -> Codes:
        """Understand codes.

        Args:
            codes: see `CodesLike`. Level 255 also stands for the second of two names in a list.
            ignored: names of what is not to be learned or judged, in any case.

        Raises:
            DataError: there is no such file, or it holds no codes, or there are no or more than 255 classes.
        """
        given = _read(Path(codes)) if isinstance(codes, str | Path) else codes
        pairs = given.items() if isinstance(given, Mapping) else enumerate(given)
        named: dict[Level, str] = {level: str(name) for level, name in pairs}
        left_out = {name.casefold() for name in ignored}
        names = [name for name in named.values() if name.casefold() not in left_out]
        names = list(dict.fromkeys(names))
        if not 1 <= len(names) <= IGNORED_LEVEL:
            raise DataError(f"{len(names)} classes in the codes {list(named.values())[:5]}: expected 1 to 255.")
        places = {name: place for place, name in enumerate(names)}
        levels = {level: places.get(name, IGNORED) for level, name in named.items()}
        colours = {places[n]: c for c, n in named.items() if isinstance(c, tuple) and n in places}
        known = tuple(colours[k] for k in range(len(names))) if len(colours) == len(names) else ()
        either = not isinstance(given, Mapping) and len(named) == 2 and len(names) == 2
        return cls(Classes(tuple(names), known), levels, either)

    def read(self, path: Path) -> Image.Image:
        """Read a label picture: "L", its levels the classes' numbers, and 255 where it is ignored.

        Where the codes are levels, grey and palette pictures are read by theirs, and others whose red, green and
        blue are equal by these; where they are colours, all are read by their colours. Orientation notes are not
        applied: label pictures are drawn, not taken.

        Raises:
            PictureError: the file cannot be read.
            DataError: a level or colour is none of the codes; names it and the file, and how many pixels have it.
        """
        levels = _levels(path, by_colour=isinstance(next(iter(self.levels)), tuple))
        found = np.empty(levels.shape[:2], np.uint8)
        flat = levels if levels.ndim == 2 else (levels.astype(np.int64) << np.array([16, 8, 0])).sum(axis=2)
        present, where, counts = np.unique(flat, return_inverse=True, return_counts=True)
        table = []
        for value, count in zip(present.tolist(), counts.tolist(), strict=True):
            level = value if levels.ndim == 2 else (value >> 16, value >> 8 & 255, value & 255)
            if level not in self.levels and not (self.either and level == 255 and set(present) <= {0, 255}):
                raise DataError(self._unknown(path, level, count, levels.shape))
            place = self.levels.get(level, 1)
            table.append(IGNORED_LEVEL if place == IGNORED else place)
        found[...] = np.array(table, np.uint8)[where].reshape(found.shape)
        return Image.fromarray(found)

    def _unknown(self, path: Path, level: Level, count: int, shape: tuple[int, ...]) -> str:
        what = "colour" if isinstance(level, tuple) else "level"
        known = [str(known) for known in self.levels]
        told = ", ".join(known[:6]) + (f", ... {known[-1]}" if len(known) > 6 else "")
        pixels = f"{count} of {shape[0] * shape[1]} pixels"
        text = f"{path}: {pixels} have {what} {level}, which is none of the codes: {told}."
        if isinstance(level, tuple) != isinstance(next(iter(self.levels)), tuple):
            return f"{text} The codes name the {'levels' if what == 'colour' else 'colours'} of other pictures."
        return f"{text} Add it to the codes (as Void, to ignore it), or mend the picture."


def _levels(path: Path, *, by_colour: bool) -> NDArray[np.int32]:
    """The levels of a picture, (H, W), or its colours, (H, W, 3): those asked for, as far as it has them."""
    with images.explained(path, str(path)), Image.open(path) as opened:
        opened.load()
        if opened.mode in ("1", "L", "P", "I", "I;16", "I;16B", "I;16L") and not by_colour:
            return np.asarray(opened).astype(np.int32)
        colours = np.asarray(opened.convert("RGB")).astype(np.int32)
        grey = bool((colours == colours[..., :1]).all())
        return colours[..., 0] if grey and not by_colour else colours


def _read(path: Path) -> Sequence[str] | Mapping[int, str]:
    """Codes from a text file."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"cannot read the codes {path}: {error}. Expected a text file, a name on each line."
        ) from error
    if not lines:
        raise DataError(f"{path} holds no codes. Write the name of a class on each line, in the order of levels.")
    pairs = [line.split(maxsplit=1) for line in lines]
    if all(len(pair) == 2 and pair[0].isdecimal() for pair in pairs):
        return {int(level): name for level, name in pairs}
    return lines
