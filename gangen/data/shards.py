"""Pictures in shards: tar files of many samples, as WebDataset lays them out, read in place from a disk or a URL.

A folder of millions of files is slow to list and to copy. A shard is read by ranges of bytes, nothing is
unpacked, and any sample can be had at any time: so order, exact resume, and the share of each process and
worker are those of a folder. `gangen.data.packing` writes shards and their index.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
import warnings
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gangen import images
from gangen.data.folders import VALIDATION_NAMES
from gangen.data.sources import Halves, arrange, first_few
from gangen.errors import DataError, PictureError

INDEX = "index.json"
FORMAT = 1
PAIR = ("input", "target")
SINGLE = ("picture",)
UNKNOWN = -1
"""In the place of a checksum that no index tells."""

_SHARD = re.compile(r"(?P<set>.*?)[-_.]?\d+\.tar")


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
            PictureError: the shard cannot be read there or is damaged, or what lies there is no picture, or
            input and
                target do not fit.
        """
        called = [self._called(index, part) for part in range(len(self.parts))]
        pictures = [images.decode(self._bytes(index, part), name) for part, name in enumerate(called)]
        return arrange(pictures, called, self.halves, self.scale)

    def _called(self, index: int, part: int) -> str:
        what = "" if len(self.parts) == 1 else f" ({self.parts[part]})"
        return f"{self.names[index]}{what} in {join(self.root, self.files[self.places[index, part, 0]])}"

    def _bytes(self, index: int, part: int) -> bytes:
        shard, first, count, checksum = self.places[index, part].tolist()
        name = self._called(index, part)
        try:
            content = read_range(join(self.root, self.files[shard]), first, count)
        except Exception as error:  # each protocol has errors of its own
            raise PictureError(f"cannot read {name}: {type(error).__name__}: {error}.") from error
        if len(content) < count:
            raise PictureError(f"cannot read {name}: the shard ends before it. Fetch it again.")
        if checksum != UNKNOWN and zlib.crc32(content) != checksum:
            raise PictureError(f"cannot read {name}: its checksum does not hold. Fetch the shard again.")
        return content

    def only(self, part: str) -> Shards:
        """The samples reduced to one of their parts."""
        place = self.parts.index(part)
        return replace(self, parts=SINGLE, places=self.places[:, place : place + 1])

    def joined(self, other: Shards) -> Shards:
        """These samples, and those of another set of the same root, with the sets' numbers before their names."""
        names = [f"{number}/{name}" for number, found in enumerate((self, other)) for name in found.names]
        places = other.places + np.array([len(self.files), 0, 0, 0])
        return replace(
            self, names=names, files=[*self.files, *other.files], places=np.concatenate([self.places, places])
        )

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


def is_packed(root: str | Path) -> bool:
    """Whether `root` is a URL or a folder of shards: with an index, or without pictures or folders beside them."""
    if is_url(root):
        return True
    folder = Path(root)
    if not folder.is_dir() or not any(folder.glob("*.tar")):
        return False
    # An archive beside the pictures that came in it is none of our business.
    return (folder / INDEX).is_file() or not any(
        path.is_dir() or images.is_picture(path.name) for path in folder.iterdir() if not path.name.startswith(".")
    )


def open_shards(root: str | Path, halves: Halves | None = None, scale: int = 1) -> tuple[Shards, Shards | None]:
    """Open the shards of a folder or URL.

    What `gangen pack` has written is known from its index. Shards of others are listed once, which needs a
    folder: in each sample the pictures are taken, one, or two that are called KEY.input.SUFFIX and
    KEY.target.SUFFIX.

    Args:
        root: the folder, or a URL that fsspec knows, such as https:// (s3:// and others with their packages).
        halves: which half of a single picture is the input.
        scale: by how much targets are larger than their inputs.

    Returns:
        Training samples, and those for validation, or None where a share must be split off.

    Raises:
        DataError: there is no shard, or the index or a shard is damaged.
    """
    place = str(root) if is_url(root) else str(Path(root))
    sets = _indexed(place) if is_url(root) or (Path(root) / INDEX).is_file() else _listed(Path(root))
    if halves is not None and any(found.parts != SINGLE for found in sets.values()):
        raise DataError(f"{place} holds pairs of pictures, which have no halves to cut. Leave side_by_side out.")
    sets = {name: replace(found, halves=halves, scale=scale) for name, found in sets.items()}
    held_out = next((sets[name] for name in VALIDATION_NAMES if name in sets), None)
    if held_out is not None and "train" not in sets:
        raise DataError(f"{place} has shards for validation, but none called train-0000.tar and so on.")
    training = sets["train"] if "train" in sets else sets[next(iter(sets))]
    if held_out is not None and held_out.parts != training.parts:
        raise DataError(f"{place}: of training and validation, one holds pairs and the other single pictures.")
    return training, held_out


def is_url(root: str | Path) -> bool:
    """Whether it names a protocol, as in https://example.org/shards."""
    return "://" in str(root)


def join(root: str, name: str) -> str:
    """A name inside a folder or URL."""
    return f"{root.rstrip('/')}/{name}"


def read_range(place: str, first: int, count: int) -> bytes:
    """Bytes of a file at a path or URL; fewer where it ends before."""
    if not is_url(place):
        with Path(place).open("rb") as file:
            file.seek(first)
            return file.read(count)
    import fsspec  # comes with huggingface_hub, which accelerate needs; opening a connection is its affair

    system, path = fsspec.core.url_to_fs(place)
    content = system.cat_file(path, start=first, end=first + count)
    return bytes(content)


def _indexed(root: str) -> dict[str, Shards]:
    place = join(root, INDEX)
    try:
        index = json.loads(_whole(place))
    except Exception as error:
        raise DataError(
            f"{place} cannot be read ({type(error).__name__}: {error}). `gangen pack` writes it beside the "
            "shards; shards behind a URL need it."
        ) from error
    try:
        if index["format"] != FORMAT:
            raise ValueError(f"format {index['format']}, expected {FORMAT}")
        sets = {str(name): _set(root, told) for name, told in index["sets"].items()}
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(f"{place} is damaged or of another version of gangen: {error}. Pack it again.") from error
    if not sets:
        raise DataError(f"{place} names no samples. Pack it again.")
    return sets


def _whole(place: str) -> bytes:
    if not is_url(place):
        return Path(place).read_bytes()
    import fsspec

    system, path = fsspec.core.url_to_fs(place)
    return bytes(system.cat_file(path))


def _set(root: str, told: dict[str, Any]) -> Shards:
    """The samples that one entry of an index names; ValueError where it makes no sense."""
    parts, files = tuple(told["parts"]), [str(shard["file"]) for shard in told["shards"]]
    if parts not in (SINGLE, PAIR):
        raise ValueError(f"parts are {parts}")
    # Whoever writes an index must not choose which other files are read.
    outside = [file for file in files if not re.fullmatch(r"[^/\\:]+\.tar", file) or file.startswith(".")]
    if outside:
        raise ValueError(f"{outside[0]!r} is no name of a shard beside it")
    names = [str(sample[0]) for sample in told["samples"]]
    places = np.array([sample[1:] for sample in told["samples"]], dtype=np.int64)
    if places.shape != (len(names), len(parts), 4) or not len(names):
        raise ValueError("samples do not have the places that they should")
    if places.min() < UNKNOWN or places[..., :3].min() < 0 or places[..., 0].max() >= len(files):
        raise ValueError("samples lie outside the shards")
    if len(set(names)) < len(names):
        raise ValueError("two samples have one name")
    return Shards(root, names, parts, files, places)


def _listed(folder: Path) -> dict[str, Shards]:
    """The samples of shards without an index, by the set that the shards' names begin with."""
    by_set: dict[str, list[str]] = {}
    for path in sorted(folder.glob("*.tar")):
        match = _SHARD.fullmatch(path.name)
        by_set.setdefault(match["set"] if match else path.stem, []).append(path.name)
    told_apart = {name: files for name, files in by_set.items() if name in ("train", *VALIDATION_NAMES)}
    other = [file for name, files in by_set.items() if name not in told_apart and name != "test" for file in files]
    if not told_apart:
        return {"all": _members(folder, other)}
    if other:
        warnings.warn(
            f"{first_few([str(folder / file) for file in other])} left out: neither train-0000.tar nor "
            "val-0000.tar or the like.",
            stacklevel=4,
        )
    return {name: _members(folder, files) for name, files in told_apart.items()}


def _members(folder: Path, files: Sequence[str]) -> Shards:
    samples: dict[str, dict[str, tuple[int, int, int, int]]] = {}
    for shard, file in enumerate(files):
        try:
            with tarfile.open(folder / file, "r:") as opened:
                for member in opened:
                    # Folders and links are no pictures; nothing is unpacked, so names lead nowhere.
                    if member.isreg() and images.is_picture(member.name):
                        key, part = _key(member.name)
                        place = (shard, member.offset_data, member.size, UNKNOWN)
                        samples.setdefault(key, {})[part] = place
        except (tarfile.TarError, OSError, EOFError) as error:
            raise DataError(
                f"{folder / file} cannot be listed: {error}. Is it a whole tar file, not compressed? Fetch or "
                "make it again."
            ) from error
    if not samples:
        raise DataError(f"no picture in {first_few([str(folder / file) for file in files])}.")
    pairs = {frozenset(found) for found in samples.values()} == {frozenset(PAIR)}
    odd = next((key for key, found in samples.items() if len(found) != 1), None)
    if odd is not None and not pairs:
        raise DataError(
            f"the sample {odd!r} in {folder} has {len(samples[odd])} pictures: {', '.join(samples[odd])}. "
            "Expected one in each sample, or KEY.input.png and KEY.target.png (of any picture's suffix)."
        )
    parts = PAIR if pairs else SINGLE
    ordered = [[found[part] for part in PAIR] if pairs else list(found.values()) for found in samples.values()]
    return Shards(str(folder), list(samples), parts, list(files), np.array(ordered, dtype=np.int64))


def _key(member: str) -> tuple[str, str]:
    """WebDataset's rule: a sample is called like its files up to the first dot after the last slash."""
    folder, slash, base = member.rpartition("/")
    stem, _, extension = base.partition(".")
    return f"{folder}{slash}{stem}", extension.rpartition(".")[0] or extension
