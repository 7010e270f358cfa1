"""Finding the samples of shards: by the index that `gangen pack` has written, or by listing them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from gangen import images
from gangen.data.folders import VALIDATION_NAMES
from gangen.data.listing import list_shards
from gangen.data.remote import is_url, join, read_whole
from gangen.data.shards import PAIR, SINGLE, UNKNOWN, Shards
from gangen.data.sources import Halves
from gangen.errors import DataError

INDEX = "index.json"
FORMAT = 1


def is_packed(root: str | Path) -> bool:
    """Whether it is a URL, or a folder of shards: with our index, or without pictures and folders beside them."""
    if is_url(root):
        return True
    folder = Path(root)
    if not folder.is_dir() or not any(folder.glob("*.tar")):
        return False
    # An archive beside the pictures that came in it is none of our business.
    loose = any(
        path.is_dir() or images.is_picture(path.name) for path in folder.iterdir() if not path.name.startswith(".")
    )
    return not loose or _is_ours(folder / INDEX)


def open_shards(root: str | Path, halves: Halves | None = None, scale: int = 1) -> tuple[Shards, Shards | None]:
    """Open the shards of a folder or URL.

    What `gangen pack` has written is known from its index. Shards of others are listed, see `list_shards`, which
    needs a folder.

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
    sets = _indexed(place)
    if sets is None:
        sets = list_shards(Path(root))
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


def _is_ours(index: Path) -> bool:
    """Whether a file begins as `gangen pack` writes an index, of which it may be too long to read it for this."""
    try:
        with index.open(encoding="utf-8") as file:
            return file.read(64).startswith('{"format": ')
    except (OSError, UnicodeDecodeError):
        return False


def _indexed(root: str) -> dict[str, Shards] | None:
    """The sets that an index names; None where a folder has none of ours."""
    place = join(root, INDEX)
    if not is_url(root) and not Path(place).is_file():
        return None
    try:
        index = json.loads(read_whole(place))
    except ValueError as error:  # a DataError is one, too
        unread = isinstance(error, DataError)
        cause = f"{error}" if unread else f"{place} is damaged: {error}. Pack it again."
        hint = " Shards behind a URL need the index that `gangen pack` writes." if is_url(root) and unread else ""
        raise DataError(cause + hint) from error
    if not is_url(root) and not (isinstance(index, dict) and "sets" in index):
        return None  # somebody else's
    try:
        if index["format"] != FORMAT:
            raise ValueError(f"format {index['format']}, expected {FORMAT}")
        sets = {str(name): _set(root, told) for name, told in index["sets"].items()}
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(f"{place} is damaged or of another version of gangen: {error}. Pack it again.") from error
    if not sets:
        raise DataError(f"{place} names no samples. Pack it again.")
    return sets


def _set(root: str, told: dict[str, Any]) -> Shards:
    """The samples that one entry of an index names; an error where it makes no sense."""
    parts, files = tuple(told["parts"]), [str(shard["file"]) for shard in told["shards"]]
    if parts not in (SINGLE, PAIR):
        raise ValueError(f"parts are {parts}")
    # Whoever writes an index must not choose which other files are read.
    outside = [file for file in files if not re.fullmatch(r"[^/\\:?#]+\.tar", file) or file.startswith(".")]
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
