"""Pictures in shards: tar files of many samples, as WebDataset lays them out, read in place from a disk or a URL.

A folder of millions of files is slow to list and to copy. A shard is read by ranges of bytes, nothing is
unpacked, and any sample can be had at any time: so order, exact resume, and the share of each process and
worker are those of a folder. `gangen.data.packing` writes shards and their index, `gangen.data.index` reads it,
and `gangen.data.listing` lists shards that have none.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from gangen import images
from gangen.data.remote import join, read_range
from gangen.data.sources import Halves, arrange, whole_unless_single
from gangen.errors import PictureError

PAIR = ("input", "target")
SINGLE = ("picture",)
UNKNOWN = -1
"""In the place of a checksum that no index tells."""


@dataclass(frozen=True)
class Shards:
    """Samples in shards.

    Attributes:
        root: folder or URL of the shards.
        names: the samples' names.
        parts: what a sample consists of: ("picture",) or ("input", "target").
        files: the shards' names inside root.
        places: (samples, parts, 4) int64: shard, first byte, count of bytes, their CRC-32 or `UNKNOWN`.
        halves: which half of a single picture is the input; None where pictures are not cut.
        scale: by how much a target is larger than its input.
    """

    root: str
    names: Sequence[str]
    parts: tuple[str, ...]
    files: Sequence[str]
    places: np.ndarray
    halves: Halves | None = None
    scale: int = 1

    def read(self, index: int) -> tuple[Image.Image, ...]:
        """Read a sample's pictures.

        Raises:
            PictureError: the shard is damaged there, or what lies there is no picture, or input and target do not
                fit.
            DataError: the shard cannot be reached.
        """
        called = [self._called(index, part) for part in range(len(self.parts))]
        with whole_unless_single(len(called), self.halves):
            pictures = [images.decode(self._bytes(index, part), name) for part, name in enumerate(called)]
        return arrange(pictures, called, self.halves, self.scale)

    def _called(self, index: int, part: int) -> str:
        what = "" if len(self.parts) == 1 else f" ({self.parts[part]})"
        return f"{self.names[index]}{what} in {self.shard(int(self.places[index, part, 0]))}"

    def _bytes(self, index: int, part: int) -> bytes:
        shard, first, count, checksum = self.places[index, part].tolist()
        content = read_range(self.shard(shard), first, count)
        trouble = damage(content, count, checksum)
        if trouble:
            raise PictureError(f"cannot read {self._called(index, part)}: {trouble}")
        return content

    @property
    def paired(self) -> bool:
        """Whether a sample is an input and a target."""
        return self.halves is not None or self.parts == PAIR

    def shard(self, number: int) -> str:
        """The path or URL of a shard."""
        return join(self.root, self.files[number])

    def only(self, part: str) -> Shards:
        """The samples reduced to one of their parts."""
        place = self.parts.index(part)
        return replace(self, parts=SINGLE, places=self.places[:, place : place + 1])

    def joined(self, other: Shards) -> Shards:
        """These samples, and those of another set of the same root, with the sets' numbers before their names."""
        names = [f"{number}/{name}" for number, found in enumerate((self, other)) for name in found.names]
        places = np.concatenate([self.places, other.places + np.array([len(self.files), 0, 0, 0])])
        return replace(self, names=names, files=[*self.files, *other.files], places=places)

    def select(self, names: Collection[str]) -> Shards:
        """Keep the samples of these names, in the present order."""
        wanted = set(names)
        kept = [index for index, name in enumerate(self.names) if name in wanted]
        return replace(self, names=[self.names[index] for index in kept], places=self.places[kept])

    def fingerprint(self) -> str:
        """Hash of names, sizes and, where an index tells them, checksums; not of where in the shards they lie."""
        told = hashlib.sha256("\n".join(self.names).encode())
        told.update(np.ascontiguousarray(self.places[:, :, 2:]).tobytes())
        return told.hexdigest()


def damage(content: bytes, count: int, checksum: int) -> str | None:
    """What is wrong with the bytes of a picture in a shard; None where they are as many, and as the index says."""
    if len(content) < count:
        return "the shard ends before it. Fetch it again."
    if checksum not in (UNKNOWN, zlib.crc32(content)):
        return "its checksum does not hold. Fetch the shard again."
    return None
