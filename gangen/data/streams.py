"""Samples read from their beginning to their end, for data that are larger than a disk or far away.

A stream lies in chunks: files that are read one after the other, such as shards behind a URL or the files of a
data set on the Hugging Face hub. Chunks are shared out among lanes, and each batch comes whole from one lane, in
turn. So lanes can be divided among processes and workers without overlap, and with a given number of lanes the
order depends on neither.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Protocol

import torch
from PIL import Image
from torch.utils.data import IterableDataset

from gangen import images
from gangen.data import remote
from gangen.data.augment import needed
from gangen.data.batch import Batch
from gangen.data.sources import Halves, arrange, whole_unless_single
from gangen.errors import DataError, PictureError
from gangen.seeding import seeded

LANES = 8
"""How many each process has, where there are chunks enough."""

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
        with whole_unless_single(len(self.files), halves):
            pictures = [images.decode(content, name) for content, name in zip(self.files, called, strict=True)]
        return arrange(pictures, called, halves, scale)


class Chunks(Protocol):
    """Where a stream comes from."""

    @property
    def count(self) -> int:
        """How many chunks there are, 1 or more."""
        ...

    def read(self, chunk: int, start: int = 0, step: int = 1) -> Iterator[Raw]:
        """The samples of a chunk in their order, those of number `start`, `start + step` and so on."""
        ...

    def fingerprint(self) -> str:
        """A short text that changes when the data do."""
        ...


@dataclass(frozen=True)
class Place:
    """Where a lane goes on: in a pass, at a sample of a chunk that begins a window, and inside that window.

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
        window: undecoded samples that a lane holds at once; more mixes them better.
        lanes: into how many it is divided; a multiple of the number of processes. When None, `LANES` for each
            process, or fewer where there are fewer chunks, so that none is read twice.
        halves: which half of a single picture is the input.
        scale: by how much targets are larger than their inputs.

    Raises:
        DataError: a number is impossible.
    """

    def __init__(
        self,
        chunks: Chunks,
        prepare: Callable[[Sequence[Image.Image], str], Batch],
        *,
        window: int = 128,
        lanes: int | None = None,
        halves: Halves | None = None,
        scale: int = 1,
    ) -> None:
        if window < 1 or (lanes is not None and lanes < 1):
            raise DataError(f"window={window}, lanes={lanes}: expected 1 or more.")
        self.chunks, self.prepare, self.window, self.lanes = chunks, prepare, window, lanes
        self.halves, self.scale = halves, scale
        self._unreadable: dict[str, None] = {}

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
        """The number of lanes where so many processes begin.

        Raises:
            DataError: the processes cannot share the lanes that were asked for.
        """
        if self.lanes is not None:
            if self.lanes % world:
                raise DataError(
                    f"a stream in {self.lanes} lanes cannot be divided among {world} processes. Set lanes={world}."
                )
            return self.lanes
        count = self.chunks.count
        return max(world, min(LANES * world, count - count % world))

    def skipped(self) -> list[str]:
        """Names of the samples found unreadable so far, by this process and its workers, as they were found."""
        return list(self._unreadable)

    def note_skipped(self, names: Iterable[str]) -> None:
        """Names that a worker has found unreadable."""
        self._unreadable |= dict.fromkeys(names)

    def lane(self, number: int, lanes: int, seed: int, place: Place) -> Iterator[tuple[Batch, Place]]:
        """The samples of a lane from `place` on, endlessly, each with the place behind it.

        Raises:
            DataError: some whole passes have no sample that can be read.
        """
        barren = 0
        while barren < _BARREN:
            barren += place == Place(place.passes)  # if begun in the middle, the pass had some
            for window, at in self._windows(*self._share(number, lanes, seed, place.passes), place):
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
        self, order: Sequence[int], part: int, portions: int, place: Place
    ) -> Iterator[tuple[list[Raw], Place]]:
        """The windows of the pass at hand from `place` on."""
        window: list[Raw] = []
        at = place
        for turn in range(place.turn, len(order)):
            start = place.start if turn == place.turn else 0
            start += (part - start) % portions
            for number, raw in steadily(self.chunks, order[turn], start, portions):
                if not window:
                    at = replace(at, turn=turn, start=number)
                window.append(raw)
                if len(window) == self.window:
                    yield window, at
                    window, at = [], replace(at, window=at.window + 1, taken=0)
        if window:
            yield window, at

    def _made(self, raw: Raw, key: tuple[int, ...]) -> Batch | None:
        try:
            with images.reduced(needed(self.prepare)):
                pictures = raw.decoded(self.halves, self.scale)
        except PictureError as error:
            if raw.name not in self._unreadable and len(self._unreadable) < _NAMED:
                rest = f"after {_NAMED} such samples the rest are only counted"
                warnings.warn(f"{error} It is left out ({rest}).", stacklevel=2)
            self._unreadable[raw.name] = None
            return None
        with seeded(*key):
            return self.prepare(pictures, raw.name)


def steadily(chunks: Chunks, chunk: int, start: int = 0, step: int = 1) -> Iterator[tuple[int, Raw]]:
    """The samples of a chunk with their numbers; a connection that breaks is made again, where it broke.

    Raises:
        DataError: it breaks time and again, or what waiting does not mend.
    """
    number, tried = start, 0
    while True:
        try:
            for raw in chunks.read(chunk, number, step):
                yield number, raw
                number, tried = number + step, 0
            return
        except Exception as error:  # each protocol has errors of its own
            seconds = remote.PATIENCE[tried] if tried < len(remote.PATIENCE) else None
            tried += 1
            remote.wait(f"chunk {chunk} of the stream, from sample {number} on,", error, tried, seconds)


def first_of(chunks: Chunks, count: int, only: Iterable[int] | None = None) -> list[Raw]:
    """The first samples of the chunks, or of those that are named, in their order."""
    numbers = range(chunks.count) if only is None else only
    every = (raw for chunk in numbers for _, raw in steadily(chunks, chunk))
    return list(islice(every, count))


@dataclass(frozen=True)
class _Changed:
    """What prepares samples and then changes them; a class, since workers that are not forked are sent it."""

    prepare: Callable[[Sequence[Image.Image], str], Batch]
    change: Callable[[Batch], Batch]

    @property
    def enough(self) -> int:
        """What the preparation needs; see `Augment.enough`."""
        return needed(self.prepare)

    def __call__(self, pictures: Sequence[Image.Image], name: str) -> Batch:
        return self.change(self.prepare(pictures, name))
