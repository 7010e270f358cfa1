"""Writing shards: the files of a data set, byte for byte, in tar files of a size that storage likes."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gangen import files, weights
from gangen.data.index import FORMAT, INDEX
from gangen.data.sets import open_files
from gangen.data.shards import PAIR, SINGLE
from gangen.data.sources import Arranged, Files
from gangen.errors import DataError


@dataclass
class Packed:
    """What was packed.

    Attributes:
        samples: how many there are, by set.
        shards: how many files hold them.
        size: bytes of these files.
        skipped: names of samples that could not be opened.
    """

    samples: dict[str, int] = field(default_factory=dict)
    shards: int = 0
    size: int = 0
    skipped: list[str] = field(default_factory=list)


def pack(
    root: str | Path,
    out: str | Path,
    arranged: Arranged = Arranged(),  # noqa: B008 (it cannot be changed)
    shard_size: int = 256 * 2**20,
    each: Callable[[], object] = lambda: None,
) -> Packed:
    """Write the pictures of a folder as shards with an index, for `open_pairs` and the recipes without labels.

    The files go in as they are, in the order of their names, so that equal folders give equal shards. What is for
    validation (see `open_pairs`) stays apart: train-00000.tar, val-00000.tar, and so on; without such a folder all
    are called all-00000.tar, and a share of them is split off by name whenever they are opened. Each sample is
    called by a number, as in WebDataset: 000000012.png, or 000000012.input.png and 000000012.target.jpg. The index
    knows their names, places and CRC-32, and the shards' SHA-256. All is written beside `out` and takes its place
    when it is complete. A picture that cannot be opened is named and left out.

    Args:
        root: the data set's folder.
        out: folder for the shards; one that is empty or missing.
        arranged: how samples lie in the folder.
        shard_size: bytes a shard, about; no picture is cut.
        each: called after each sample, such as a progress bar's update.

    Raises:
        DataError: there is nothing to pack, or `out` is not empty.
        RunError: the disk is full or not writable.
    """
    out = Path(out)
    if shard_size < 1:
        raise DataError(f"shards of {shard_size} bytes: expected 1 or more")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} is not empty. Name a new folder for the shards.")
    training, held_out = open_files(root, arranged)
    sets = {"all": training} if held_out is None else {"train": training, "val": held_out}
    done, index = Packed(), {}
    beside = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        for name, source in sets.items():
            index[name] = _write_set(name, source, beside, shard_size, each, done.skipped)
            done.samples[name] = len(index[name]["samples"])
            done.shards += len(index[name]["shards"])
            done.size += sum(shard["bytes"] for shard in index[name]["shards"])
        files.write_json(beside / INDEX, {"format": FORMAT, "sets": index}, indent=None)
        out.parent.mkdir(parents=True, exist_ok=True)
        beside.replace(out)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return done


def _write_set(
    name: str, source: Files, out: Path, shard_size: int, each: Callable[[], object], skipped: list[str]
) -> dict[str, Any]:
    """Write the shards of one set, and give what the index says of them."""
    parts = PAIR if len(source.paths[0]) > 1 else SINGLE
    shards: list[dict[str, Any]] = []
    samples: list[list[Any]] = []
    readable = _contents(source, each, skipped)
    following = next(readable, None)
    if following is None:
        raise DataError(f"none of the {len(source.names)} samples ({name}) can be opened; the warnings say why.")
    while following is not None:
        file = f"{name}-{len(shards):05d}.tar"
        with files.replacing(out / file) as temporary:
            with tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as shard:
                while following is not None and (shard.offset == 0 or shard.offset < shard_size):
                    sample, contents = following
                    places = []
                    for part, (suffix, content) in zip(parts, contents, strict=True):
                        ending = suffix if parts == SINGLE else f".{part}{suffix}"
                        places.append([len(shards), *_add(shard, f"{len(samples):09d}{ending}", content)])
                    samples.append([sample, *places])
                    following = next(readable, None)
            sizes = {"bytes": temporary.stat().st_size, "sha256": weights.fingerprint(temporary)}
            shards.append({"file": file, **sizes})
    return {"parts": list(parts), "shards": shards, "samples": samples}


def _contents(
    source: Files, each: Callable[[], object], skipped: list[str]
) -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """Names and files of a set's samples: their suffixes and bytes. Those that cannot be opened are left out."""
    for name, paths in zip(source.names, source.paths, strict=True):
        try:
            contents = [(path.suffix.lower(), path.read_bytes()) for path in paths]
        except OSError as error:
            skipped.append(name)
            warnings.warn(f"{name} is left out: {error}", stacklevel=5)
        else:
            yield name, contents
        each()


def _add(shard: tarfile.TarFile, member: str, content: bytes) -> tuple[int, int, int]:
    """Add a file: the first of its bytes in the shard, their count, and their CRC-32."""
    told = tarfile.TarInfo(member)  # without time or owner, so that equal pictures make equal shards
    told.size = len(content)
    shard.addfile(told, io.BytesIO(content))
    padded = -(-len(content) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    return shard.offset - padded, len(content), zlib.crc32(content)
