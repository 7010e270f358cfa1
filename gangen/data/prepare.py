"""From pictures as they were read to a sample as a network sees it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image

from gangen import images
from gangen.data.augment import Transform, needed
from gangen.data.batch import Batch
from gangen.errors import DataError

Draw = Callable[[Image.Image], Image.Image]
"""Makes the input from the target: takes an "RGB" picture, gives one of its size, or of 1/scale of its sides.

All its chance comes from torch's global generator.
"""


@dataclass(frozen=True)
class Prepare:
    """What becomes of a sample's pictures before a network sees them.

    Attributes:
        transform: what they go through together, such as `Augment`.
        draw: makes the input from the target, where a sample is a single picture.
        scale: by how much targets are larger than inputs.
    """

    transform: Transform
    draw: Draw | None = None
    scale: int = 1

    @property
    def enough(self) -> int:
        """What the transform needs; see `Augment.enough`."""
        return needed(self.transform)

    def __call__(self, pictures: Sequence[Image.Image], name: str) -> Batch:
        """The sample as tensors, without the leading dimension.

        Raises:
            DataError: input and target are not as `scale` says.
        """
        pictures = self.transform(*pictures)
        given, target = pictures if self.draw is None else (self.draw(pictures[0]), pictures[0])
        if (self.scale * given.width, self.scale * given.height) != target.size:
            raise DataError(
                f"{name}: an input of {given.width}x{given.height} and a target of {target.width}x{target.height} "
                f"pixels; expected {self.scale} times the input. Give the scale that they were made with, and "
                "sizes that are multiples of it."
            )
        return Batch(images.to_tensor(given), images.to_tensor(target), name)
