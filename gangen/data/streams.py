"""Samples read from their beginning to their end, for data that are larger than a disk or far away.

A stream lies in chunks: files that are read one after the other, such as shards behind a URL or the files of a
data set on the Hugging Face hub. Chunks are shared out among lanes, and each batch comes whole from one lane, in
turn. So lanes can be divided among processes and workers without overlap, and the order depends on neither.
"""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from PIL import Image
from torch.utils.data import IterableDataset

from gangen import images
from gangen.data.batch import Batch
from gangen.data.sources import Halves, arrange
from gangen.errors import DataError, PictureError, UserError
from gangen.seeding import seeded

LANES = 8
"""How many there are, unless the number of processes does not divide it."""

PATIENCE = (1.0, 4.0, 16.0, 60.0)
"""Seconds before a broken connection is tried again, and again."""

_BARREN = 10
"""Passes without a sample after which a lane gives up; one or two may happen to get empty chunks only."""

_NAMED = 3


@dataclass(frozen=True)
class Raw:
    """A sample as it was read: the bytes of its pictures' files, not yet decoded.

    Attributes:
        name: unique in the stream.
        files: of one picture, or of the input and the target.
        trouble: why they are not what they should be; None where they are.
    """

    name: str
    files: tuple[bytes, ...]
    trouble: str | None = None

    def decoded(self, halves: Halves | None = None, scale: int = 1) -> tuple[Image.Image, ...]:
        """The pictures: one, or two that fit; see `gangen.data.sources.arrange`.

        Raises:
            PictureError: there is trouble, or they cannot be read.
        """
        if self.trouble is not None:
            raise PictureError(f"cannot read {self.name}: {self.trouble}")
        called = [self.name] if len(self.files) == 1 else [f"{self.name} ({part})" for part in ("input", "target")]
        pictures = [images.decode(content, name) for content, name in zip(self.files, called, strict=True)]
        return arrange(pictures, called, halves, scale)


class Chunks(Protocol):
    """Where a stream comes from."""

    @property
    def count(self) -> int:
        """How many chunks there are, 1 or more."""
        ...

    def read(self, chunk: int, start: int = 0) -> Iterator[Raw]:
        """The samples of a chunk in their order, from number `start` on; always the same."""
        ...

    def fingerprint(self) -> str:
        """A short text that changes when the data do."""
        ...


@dataclass(frozen=True)
class Place:
    """Where in a lane it goes on: in a pass, at a sample of a chunk, which begins a window, and inside that
    window.

    Attributes:
        passes: completed passes over the lane's chunks.
        turn: which of its chunks it reads, counted in the order of this pass.
        start: samples of that chunk which earlier windows took.
        window: completed windows of this pass.
        taken: samples that were taken from the window at hand.
    """

    passes: int = 0
    turn: int = 0
    start: int = 0
    window: int = 0
    taken: int = 0


class Stream(IterableDataset[Batch]):
    """A data set that is read in one direction; a trainer takes it as it takes a map-style one.

    In each pass the chunks are dealt anew, so that none is seen more often because its lane had fewer of them;
    lanes go through their passes at their own pace. The samples of each `window` are given in random order. What
    is random about a sample depends on (seed, lane, pass, its number there) alone. Samples that cannot be read
    are left out and named.

    Args:
        chunks: where the samples come from.
        prepare: makes a `Batch` without the leading dimension from a sample's pictures and its name, such as
            `Prepare`.
        window: undecoded samples that all lanes of a process hold at once, about; more mixes them better.
        lanes: into how many it is divided; their number must be divisible by that of the processes. `LANES` when
            None, or that many for each process where they do not divide it.
        halves: which half of a single picture is the input.
        scale: by how much targets are larger than their inputs.

    Attributes:
        unreadable: (1,) int64 in memory shared with workers: how often a sample could not be read.

    Raises:
        DataError: a number is impossible.
    """

    def __init__(
        self,
        chunks: Chunks,
        prepare: Callable[[Sequence[Image.Image], str], Batch],
        *,
        window: int = 1024,
        lanes: int | None = None,
        halves: Halves | None = None,
        scale: int = 1,
    ) -> None:
        if window < 1 or (lanes is not None and lanes < 1):
            raise DataError(f"window={window}, lanes={lanes}: expected 1 or more.")
        self.chunks, self.prepare, self.window, self.lanes = chunks, prepare, window, lanes
        self.halves, self.scale = halves, scale
        self.unreadable = torch.zeros(1, dtype=torch.int64).share_memory_()

    def mapped(self, change: Callable[[Batch], Batch]) -> Stream:
        """A stream of the same samples, each changed after it was prepared, with the same chance."""
        made = copy.copy(self)
        made.prepare = _Changed(self.prepare, change)
        return made

    def __iter__(self) -> Iterator[Batch]:
        """All samples, pass after pass, for whoever needs no place in them."""
        return (sample for sample, _ in self.lane(0, 1, 0, Place()))

    def fingerprint(self) -> str:
        """That of the chunks, for a run's config."""
        return self.chunks.fingerprint()

    def divided(self, world: int) -> int:
        """The number of lanes where so many processes begin."""
        lanes = self.lanes or (LANES if LANES % world == 0 else LANES * world)
        if lanes % world:
            raise DataError(
                f"a stream in {lanes} lanes cannot be divided among {world} processes. Set lanes={world}."
            )
        return lanes

    def lane(self, number: int, lanes: int, seed: int, place: Place) -> Iterator[tuple[Batch, Place]]:
        """The samples of a lane from `place` on, endlessly, each with the place behind it.

        Raises:
            DataError: some whole passes have no sample that can be read.
        """
        size = max(1, self.window // lanes)
        barren = 0
        while barren < _BARREN:
            barren += place == Place(place.passes)  # if begun in the middle, the pass had some
            for window, at in self._windows(*self._share(number, lanes, seed, place.passes), size, place):
                with seeded(seed, number, at.passes, at.window):
                    mixed = torch.randperm(len(window)).tolist()
                for taken in range(at.taken, len(window)):
                    key = (seed, number, at.passes, at.window, taken, 0)
                    sample = self._made(window[mixed[taken]], key)
                    if sample is not None:
                        barren = 0
                        yield sample, replace(at, taken=taken + 1)
            place = Place(place.passes + 1)
        raise DataError(
            f"lane {number} of the stream gave no sample that can be read in {_BARREN} passes: too few for "
            f"{lanes} lanes, or the warnings above say why. A set so small is not to be streamed; or set lanes=1."
        )

    def _share(self, number: int, lanes: int, seed: int, passes: int) -> tuple[list[int], int, int]:
        """A lane's chunks in a pass; and where lanes outnumber chunks, which portion it takes, of how many."""
        count = self.chunks.count
        with seeded(seed, passes):
            order = torch.randperm(count).tolist()
        if lanes <= count:
            return order[number::lanes], 0, 1
        portions = len(range(number % count, lanes, count))
        return [order[number % count]], number // count, portions

    def _windows(
        self, order: Sequence[int], part: int, portions: int, size: int, place: Place
    ) -> Iterator[tuple[list[Raw], Place]]:
        """The windows of the pass at hand from `place` on."""
        window: list[Raw] = []
        at = place
        for turn in range(place.turn, len(order)):
            for number, raw in self._steadily(order[turn], place.start if turn == place.turn else 0):
                if number % portions != part:
                    continue
                if not window:
                    at = replace(at, turn=turn, start=number)
                window.append(raw)
                if len(window) == size:
                    yield window, at
                    window, at = [], replace(at, window=at.window + 1, taken=0)
        if window:
            yield window, at

    def _steadily(self, chunk: int, number: int) -> Iterator[tuple[int, Raw]]:
        """The samples of a chunk with their numbers; a connection that breaks is made again, where it broke."""
        failures = 0
        while True:
            try:
                for raw in self.chunks.read(chunk, number):
                    yield number, raw
                    number, failures = number + 1, 0
                return
            except UserError:
                raise
            except Exception as error:  # each protocol has errors of its own
                failures += 1
                if failures > len(PATIENCE):
                    raise DataError(
                        f"chunk {chunk} of the stream cannot be read on from sample {number}, tried {failures} "
                        f"times: {type(error).__name__}: {error}. --resume goes on once it can be."
                    ) from error
                time.sleep(PATIENCE[failures - 1])

    def _made(self, raw: Raw, key: tuple[int, ...]) -> Batch | None:
        try:
            pictures = raw.decoded(self.halves, self.scale)
        except PictureError as error:
            self.unreadable += 1
            if int(self.unreadable) <= _NAMED:
                rest = f"after {_NAMED} such samples the rest are only counted"
                warnings.warn(f"{error} It is left out ({rest}).", stacklevel=2)
            return None
        with seeded(*key):
            return self.prepare(pictures, raw.name)


@dataclass(frozen=True)
class _Changed:
    """What prepares samples and then changes them; a class, since workers that are not forked are sent it."""

    prepare: Callable[[Sequence[Image.Image], str], Batch]
    change: Callable[[Batch], Batch]

    def __call__(self, pictures: Sequence[Image.Image], name: str) -> Batch:
        return self.change(self.prepare(pictures, name))
