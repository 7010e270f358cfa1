"""Where the samples of hf:NAME and stream:PLACE come from, and which of them are for validation."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from PIL import Image

from gangen.data.chunks import HubChunks, ShardChunks, open_hub
from gangen.data.folders import split
from gangen.data.index import is_packed, open_shards
from gangen.data.shards import PAIR
from gangen.data.sources import Arranged, Halves, Source
from gangen.data.streams import Chunks, Raw, first_of
from gangen.errors import DataError

HUB = "hf:"
STREAM = "stream:"

HELD_OUT = 256
"""Samples of a split for validation that are kept in memory, at most."""

RESERVED = 64
"""Samples that are held out where there is no such split, and a few more to take as many from each file."""


@dataclass(frozen=True)
class Undecoded:
    """A source of samples in memory, as the bytes of their files.

    Attributes:
        samples: in their order.
        halves: which half of a single picture is the input.
        scale: by how much targets are larger than inputs.
    """

    samples: Sequence[Raw]
    halves: Halves | None = None
    scale: int = 1

    @property
    def names(self) -> Sequence[str]:
        """The samples' names."""
        return [raw.name for raw in self.samples]

    def read(self, index: int) -> tuple[Image.Image, ...]:
        """Decode a sample's pictures; raises PictureError where that is impossible."""
        return self.samples[index].decoded(self.halves, self.scale)

    def fingerprint(self) -> str:
        """Hash of the bytes."""
        told = hashlib.sha256()
        for raw in self.samples:
            for content in raw.files:
                told.update(hashlib.sha256(content).digest())
        return told.hexdigest()


@dataclass(frozen=True)
class Rest:
    """Chunks without the samples at their beginnings that are held out.

    Attributes:
        chunks: all of them.
        without: how many samples are left out of each chunk.
    """

    chunks: Chunks
    without: Sequence[int]

    @property
    def count(self) -> int:
        """How many chunks there are."""
        return self.chunks.count

    def read(self, chunk: int, start: int = 0, step: int = 1) -> Iterator[Raw]:
        """The other samples of a chunk, those of number `start`, `start + step` and so on."""
        return self.chunks.read(chunk, start + self.without[chunk], step)

    def fingerprint(self) -> str:
        """That of the chunks."""
        return self.chunks.fingerprint()


def is_stream(root: object) -> bool:
    """Whether it says that data are to be streamed. hf:// is no such word, but a protocol of fsspec's."""
    return str(root).startswith((HUB, STREAM)) and not str(root).startswith(f"{HUB}//")


def open_streamed(
    root: str, arranged: Arranged, *, validation: float, held_out: bool, always_draw: bool
) -> tuple[Chunks, Source | None, bool]:
    """Open hf:NAME (see `open_hub`) or stream:PLACE (see `open_shards`).

    What is held out of a data set of the hub is the first `HELD_OUT` samples of its split for validation, or,
    where it has none, `RESERVED` samples from the beginnings of its files; of shards it is as when they are not
    streamed.

    Args:
        root: with its prefix.
        arranged: how pictures lie; its folders are the columns of the hub's data set.
        validation: share of the shards' names that is held out, where they do not say which.
        held_out: whether anything is to be held out.
        always_draw: of pairs take the targets alone.

    Returns:
        Chunks for training, samples for validation, and whether samples are pairs.

    Raises:
        DataError: there is no such data set, or too little in it.
    """
    columns = arranged.columns
    if root.startswith(STREAM):
        if columns is not None:
            raise DataError(f"{root}: shards know their pairs. Leave input_folder and target_folder out.")
        return _shards(root.removeprefix(STREAM), arranged, validation, held_out, always_draw)
    training, apart = open_hub(root.removeprefix(HUB), columns, target=always_draw)
    paired = len(training.columns) > 1
    if paired and arranged.halves is not None:
        raise DataError(f"{root} has columns of pairs, which have no halves to cut. Leave side_by_side out.")
    if not held_out:
        return training, None, paired
    if apart is not None:
        kept, chunks = first_of(apart, HELD_OUT), training
        return chunks, Undecoded(kept, arranged.halves, arranged.scale), paired
    kept, rest = _reserve(training)
    return rest, Undecoded(kept, arranged.halves, arranged.scale), paired


def _shards(
    place: str, arranged: Arranged, validation: float, held_out: bool, always_draw: bool
) -> tuple[Chunks, Source | None, bool]:
    if not is_packed(place):
        raise DataError(f"stream:{place}: there are no shards (*.tar). `gangen pack` makes them.")
    found, apart = open_shards(place, arranged.halves, arranged.scale)
    if apart is None and held_out:
        names, held_out_names = split(found.names, validation)
        found, apart = found.select(names), found.select(held_out_names)
    if found.parts == PAIR and always_draw:
        found, apart = found.only("target"), apart and apart.only("target")
    return ShardChunks(found), apart if held_out else None, found.parts == PAIR


def _reserve(training: HubChunks) -> tuple[list[Raw], Chunks]:
    """Take some samples from the beginnings of some files, where files may be sorted; and what remains."""
    files = min(training.count, 8)
    chosen = [index * training.count // files for index in range(files)]
    without = [0] * training.count
    held_out: list[Raw] = []
    for chunk in chosen:
        found = first_of(training, -(-RESERVED // files), [chunk])
        held_out += found
        without[chunk] = len(found)
    rest = Rest(training, without)
    if not first_of(rest, 1):
        raise DataError(
            f"hf:{training.name} has {len(held_out)} samples only, of which none would remain to learn from."
        )
    return held_out, rest
