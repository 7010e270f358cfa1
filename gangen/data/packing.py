"""Writing shards: the files of a data set, byte for byte, in tar files of a size that storage likes."""

from __future__ import annotations

import io
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gangen import files, weights
from gangen.data.sets import open_files
from gangen.data.shards import FORMAT, INDEX, PAIR, SINGLE
from gangen.data.sources import Arranged, Files
from gangen.errors import DataError


@dataclass
class Packed:
    """What was packed.

    Attributes:
        samples: how many there are, by set.
        shards: how many files hold them.
        size: bytes of these files.
    """

    samples: dict[str, int] = field(default_factory=dict)
    shards: int = 0
    size: int = 0


def pack(
    root: str | Path,
    out: str | Path,
    arranged: Arranged = Arranged(),  # noqa: B008 (it cannot be changed)
    shard_size: int = 256 * 2**20,
    each: Callable[[], object] = lambda: None,
) -> Packed:
    """Write the pictures of a folder as shards with an index, which `open_pairs` and every recipe's --data take.

    The files go in as they are, in the order of their names, so that equal folders give equal shards. What is for
    validation (see `open_pairs`) stays apart: train-00000.tar, val-00000.tar, and so on; without such a folder all
    are called all-00000.tar, and a share of them is split off by name whenever they are opened. Each sample is
    called by a number, as in WebDataset: 000000012.png, or 000000012.input.png and 000000012.target.jpg. The index
    knows their names, places and CRC-32, and the shards' SHA-256. It is written last: without it nothing is there.

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
    if out.exists() and (not out.is_dir() or any(path for path in out.iterdir() if not _is_left_over(path))):
        raise DataError(f"{out} is not empty. Name a new folder for the shards.")
    training, held_out = open_files(root, arranged)
    sets = {"all": training} if held_out is None else {"train": training, "val": held_out}
    done, index = Packed(), {}
    for name, source in sets.items():
        index[name] = _write_set(name, source, out, shard_size, each)
        done.samples[name] = len(source.names)
        done.shards += len(index[name]["shards"])
        done.size += sum(shard["bytes"] for shard in index[name]["shards"])
    files.write_json(out / INDEX, {"format": FORMAT, "sets": index}, indent=None)
    return done


def _is_left_over(path: Path) -> bool:
    """Whether an earlier packing that did not come to its end may have left it."""
    return path.suffix in (".tar", ".tmp") and not (path.parent / INDEX).exists()


def _write_set(name: str, source: Files, out: Path, shard_size: int, each: Callable[[], object]) -> dict[str, Any]:
    """Write the shards of one set, and give what the index says of them."""
    parts = PAIR if len(source.paths[0]) > 1 else SINGLE
    shards: list[dict[str, Any]] = []
    samples: list[list[Any]] = []
    number = 0
    while number < len(source.names):
        file = f"{name}-{len(shards):05d}.tar"
        with files.replacing(out / file) as temporary:
            with tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as shard:
                while number < len(source.names) and (shard.offset == 0 or shard.offset < shard_size):
                    places = []
                    for part, path in zip(parts, source.paths[number], strict=True):
                        suffix = path.suffix.lower()
                        member = f"{number:09d}{suffix if parts == SINGLE else f'.{part}{suffix}'}"
                        places.append([len(shards), *_add(shard, member, path)])
                    samples.append([source.names[number], *places])
                    number += 1
                    each()
            shards.append(
                {"file": file, "bytes": temporary.stat().st_size, "sha256": weights.fingerprint(temporary)}
            )
    return {"parts": list(parts), "shards": shards, "samples": samples}


def _add(shard: tarfile.TarFile, member: str, path: Path) -> tuple[int, int, int]:
    """Add a file: the first of its bytes in the shard, their count, and their CRC-32."""
    content = path.read_bytes()
    told = tarfile.TarInfo(member)  # without time or owner, so that equal pictures make equal shards
    told.size = len(content)
    shard.addfile(told, io.BytesIO(content))
    padded = -(-len(content) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    return shard.offset - padded, len(content), zlib.crc32(content)
