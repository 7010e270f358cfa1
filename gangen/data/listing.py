"""Listing shards that have no index: those that others have made with WebDataset's tools."""

from __future__ import annotations

import re
import tarfile
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gangen import images
from gangen.data.folders import VALIDATION_NAMES
from gangen.data.shards import PAIR, SINGLE, UNKNOWN, Shards
from gangen.data.sources import first_few
from gangen.errors import DataError

_NUMBERS = re.compile(r"[-_.]?\d*([-_.]of[-_.]?\d+)?\.tar$")
"""What follows a set's name: -00012.tar, _12-of-64.tar, or nothing but .tar."""

_END = 20 * tarfile.BLOCKSIZE
"""Zeros that end a tar file, at most."""

Found = dict[tuple[int, str], dict[str, tuple[int, int, int, int]]]
"""By shard and key of a sample, the places of its parts."""


def list_shards(folder: Path) -> dict[str, Shards]:
    """List the shards of a folder, by the set that their names tell: "train", "val" and the like, or "all".

    A set is told by a word of the name: imagenet-train-0001.tar, val_03-of-64.tar. What is called test is never
    touched. In each sample the pictures are taken: one, or two that are called KEY.input.SUFFIX and
    KEY.target.SUFFIX. Links and folders in a shard are no pictures, and nothing is unpacked.

    Raises:
        DataError: there is no shard, or no picture in them, or samples are of another kind.
    """
    by_set: dict[str | None, list[str]] = {}
    for path in sorted(folder.glob("*.tar")):
        by_set.setdefault(_set_of(path.name), []).append(path.name)
    other = by_set.pop(None, [])
    by_set.pop("test", None)
    if by_set and other:
        warnings.warn(
            f"{first_few([str(folder / file) for file in other])} left out: called neither train nor val.",
            stacklevel=4,
        )
    sets = {str(name): files for name, files in by_set.items()} or {"all": other}
    if not any(sets.values()):
        raise DataError(f"there are no shards in {folder}: looked for *.tar other than for tests. Check the path.")
    return {name: _samples(folder, files) for name, files in sets.items()}


def _set_of(name: str) -> str | None:
    """The set that a shard's name tells; None where it tells none, or more than one."""
    words = re.split(r"[-_.]", _NUMBERS.sub("", name).lower())
    known = {word for word in words if word in ("train", "test", *VALIDATION_NAMES)}
    return known.pop() if len(known) == 1 else None


def _samples(folder: Path, files: Sequence[str]) -> Shards:
    found: Found = {}
    for shard, file in enumerate(files):
        _list(folder / file, shard, found)
    if not found:
        raise DataError(f"no picture in {first_few([str(folder / file) for file in files])}.")
    paired = any(set(parts) == set(PAIR) for parts in found.values())
    wanted = PAIR if paired else None
    whole = {
        key: parts for key, parts in found.items() if (set(parts) == set(PAIR) if paired else len(parts) == 1)
    }
    odd = [f"{files[shard]}:{key}" for (shard, key), parts in found.items() if (shard, key) not in whole]
    if not whole:
        parts = next(iter(found.values()))
        raise DataError(
            f"samples in {folder} have several pictures, such as {odd[0]}: {', '.join(parts)}. Expected one in "
            "each, or KEY.input.png and KEY.target.png (of any picture's suffix)."
        )
    if odd:
        kind = "an input and a target" if paired else "one picture"
        warnings.warn(f"{len(odd)} samples do not have {kind} and are left out: {first_few(odd)}", stacklevel=6)
    keys = Counter(key for _, key in whole)
    names = [key if keys[key] == 1 else f"{files[shard]}:{key}" for shard, key in whole]
    places = [[parts[part] for part in wanted] if wanted else list(parts.values()) for parts in whole.values()]
    return Shards(str(folder), names, PAIR if paired else SINGLE, list(files), np.array(places, dtype=np.int64))


def _list(path: Path, shard: int, found: Found) -> None:
    """Find the pictures of a shard; where it is damaged, those that lie before."""
    before, end = len(found), 0
    trouble = ""
    try:
        with tarfile.open(path, "r:") as opened:
            for member in opened:
                if member.size < 0 or member.offset_data < end:
                    raise tarfile.ReadError("a header leads backwards")
                size = member.size if member.isreg() else 0
                end = member.offset_data + -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
                if member.isreg() and images.is_picture(member.name):
                    key, part = _key(member.name)
                    found.setdefault((shard, key), {})[part] = (shard, member.offset_data, member.size, UNKNOWN)
    except (tarfile.TarError, OSError, EOFError, ValueError, OverflowError) as error:
        trouble = str(error)
    if not trouble and not _ends(path, end):
        trouble = f"its list breaks off at byte {end}"
    if trouble and len(found) == before:
        raise DataError(
            f"{path} cannot be listed: {trouble}. Is it a whole tar file, not compressed? Fetch or make it again."
        )
    if trouble:
        warnings.warn(
            f"{path} is damaged ({trouble}): what lies behind is left out. Fetch it again.", stacklevel=7
        )


def _ends(path: Path, end: int) -> bool:
    """Whether nothing but zeros follows; Python's tarfile ends without a word at a damaged header."""
    with path.open("rb") as file:
        file.seek(end)
        return not file.read(_END).strip(b"\0")


def _key(member: str) -> tuple[str, str]:
    """WebDataset's rule: a sample is called like its files up to the first dot after the last slash."""
    folder, slash, base = member.rpartition("/")
    stem, _, extension = base.partition(".")
    return f"{folder}{slash}{stem}", extension.rpartition(".")[0] or extension
