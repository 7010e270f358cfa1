"""Real photographs that come with scikit-image, for trying a recipe without data and without a network."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from gangen import images
from gangen.errors import DataError

# The colour photographs of scenes among the files inside the package itself: others that scikit-image knows
# are downloaded when asked for. One of the stereo pair only: its other half shows the same motorcycle.
_FILES = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")
_LEFT = ("chelsea",)  # what is held out of the others is their right-hand side; the cat's is out of focus


def embedded_photographs() -> list[tuple[str, Image.Image]]:
    """Give five colour photographs of 300 to 512 px on the shorter side, as (name, "RGB" picture).

    Raises:
        DataError: scikit-image is not installed, or without its pictures.
    """
    found = importlib.util.find_spec("skimage")  # importing it would take a second and is not needed
    folder = Path(found.origin).parent / "data" if found and found.origin else None
    paths = [folder / name for name in _FILES if (folder / name).is_file()] if folder else []
    if not paths:
        raise DataError(
            "the embedded photographs are those of scikit-image, which is not installed. "
            'Install it with: pip install "gangen[samples]", or train on your own pictures with --data.'
        )
    return [(path.stem, images.read(path)) for path in paths]


@dataclass(frozen=True)
class Photographs:
    """A source of pictures that are kept in memory, each sample a single one.

    Attributes:
        names: the samples' names.
        pictures: for each sample its picture; several samples may share one, to be cropped at random.
    """

    names: Sequence[str]
    pictures: Sequence[Image.Image]

    def read(self, index: int) -> tuple[Image.Image]:
        """Give a sample's picture."""
        return (self.pictures[index],)

    def fingerprint(self) -> str:
        """Hash of the names and pixels."""
        told = hashlib.sha256("\n".join(self.names).encode())
        for picture in {id(picture): picture for picture in self.pictures}.values():
            told.update(picture.tobytes())
        return told.hexdigest()


def open_photographs(crops: int = 60, held_out: float = 0.25) -> tuple[Photographs, Photographs]:
    """Divide the embedded photographs into training and validation that share no pixel.

    A strip at one side of every photograph is held out and never seen in training. Validation is thus honest
    about places, but not about subjects: it shows other parts of the same scenes.

    Args:
        crops: samples a photograph gives in one pass; each is all of it but the strip, for `Augment` to crop.
        held_out: the strip's share of the width; it is cut into squares, from the top.

    Returns:
        Training, with 5 times `crops` samples, and validation, with a few squares of each photograph.
    """
    training: list[tuple[str, Image.Image]] = []
    squares: list[tuple[str, Image.Image]] = []
    for name, photograph in embedded_photographs():
        width, height = photograph.size
        side = round(held_out * width)
        border, start = (side, 0) if name in _LEFT else (0, width - side)
        kept = photograph.crop((border, 0, border + width - side, height))
        training += [(f"{name}-{number}", kept) for number in range(crops)]
        for number in range(height // side):
            square = photograph.crop((start, number * side, start + side, (number + 1) * side))
            squares.append((f"{name}-held-out-{number}", square))
    return _source(training), _source(squares)


def _source(samples: list[tuple[str, Image.Image]]) -> Photographs:
    return Photographs([name for name, _ in samples], [picture for _, picture in samples])
