"""Data sets of single pictures: each is the input and the target, or the target of nothing but noise."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from PIL import Image
from torch.utils.data import Dataset

from gangen.data.augment import Transform
from gangen.data.batch import Batch
from gangen.data.pairs import Pairs, open_pairs
from gangen.data.streams import Stream
from gangen.errors import DataError


def open_pictures(
    root: str | Path | None,
    *,
    size: int = 64,
    augment: Transform | None = None,
    validation: float = 0.1,
    keep: int = 0,
) -> tuple[Pairs | Stream, Pairs]:
    """Open training and validation pictures, each its own target; see `open_pairs` for the arguments."""
    return open_pairs(
        root, draw=itself, size=size, augment=augment, validation=validation, keep=keep, always_draw=True
    )


def itself(picture: Image.Image) -> Image.Image:
    """What `Pairs` draws where the input is the target."""
    return picture


def from_noise(pictures: Pairs | Stream, latent: int = 128) -> FromNoise | Stream:
    """Pictures and the noise that a generator might have made them from, streamed or not; see `FromNoise`."""
    if not isinstance(pictures, Stream):
        return FromNoise(pictures, latent)
    _check(latent)
    return pictures.mapped(partial(_with_noise, latent))


class FromNoise(Dataset[Batch]):
    """Pictures and the noise that a generator might have made them from.

    `dataset[index]` is a `Batch` without the leading dimension: input (latent,) of independent standard normal
    numbers, target (3, size, size) in [-1, 1]. The noise is drawn from torch's global generator right after the
    picture was varied, so where that is seeded before each sample, as a trainer's feed does, it depends on
    (seed, pass, sample number) only, whatever the workers or processes.

    Args:
        pictures: where the targets come from.
        latent: how many numbers make a picture.

    Raises:
        DataError: `latent` is below 1.
    """

    def __init__(self, pictures: Pairs, latent: int = 128) -> None:
        _check(latent)
        self.pictures, self.latent = pictures, latent

    def __len__(self) -> int:
        """The number of pictures, unreadable ones included."""
        return len(self.pictures)

    def __getitem__(self, index: int) -> Batch:
        """Picture `index`, or the next readable one, and its noise."""
        return _with_noise(self.latent, self.pictures[index])

    def replaced(self, index: int) -> bool:
        """Whether picture `index` was found unreadable, so that asking for it gives another one."""
        return self.pictures.replaced(index)

    def skipped(self) -> list[str]:
        """Names of the pictures found unreadable so far."""
        return self.pictures.skipped()

    def fingerprint(self) -> str:
        """A hash that changes when the pictures do, for a run's config."""
        return self.pictures.fingerprint()


def _with_noise(latent: int, picture: Batch) -> Batch:
    return Batch(torch.randn(latent), picture.target, picture.name)


def _check(latent: int) -> None:
    if latent < 1:
        raise DataError(f"latent={latent}: expected the count of numbers that make a picture, like 128")
