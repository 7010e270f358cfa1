"""The inputs that can be made from pictures, by the names under which a trained generator remembers its own."""

from __future__ import annotations

from collections.abc import Callable

from gangen.colour import grey
from gangen.data.degrade import Bicubic, Crappify, OldPhotograph, Practical
from gangen.data.pictures import itself
from gangen.data.prepare import Draw
from gangen.data.sketch import sketch

DRAWN: dict[str, Callable[[int], Draw]] = {
    "sketch": lambda scale: sketch,
    "grey": lambda scale: grey,
    "photograph": lambda scale: itself,
    "bicubic": Bicubic,
    "practical": Practical,
    "crappify": lambda scale: Crappify(),
    "old-photograph": lambda scale: OldPhotograph(),
}
"""From the "input" in a pipeline's config, and the generator's scale, to what makes such inputs from targets."""

WITHOUT_CHANCE = ("sketch", "grey", "photograph", "bicubic")
"""Those of them that chance has no part in: the same from any seed."""
