"""Which pictures a folder holds, and which of them are for training."""

from __future__ import annotations

import hashlib
import math
import os
import unicodedata
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from gangen import images
from gangen.errors import DataError

VALIDATION_NAMES = ("val", "valid", "validation")
"""Sub-folders that are taken for validation beside train/."""

_OF_SYSTEMS = ("__MACOSX", "lost+found", "$RECYCLE.BIN", "System Volume Information")
"""Folders that systems make for themselves, some of which nobody may look into."""

TEST_NAMES = ("test",)
"""Sub-folders of a data set that nothing is learned from, nor chosen by."""


def find_pictures(folder: str | Path, *, but: Collection[str] = ()) -> list[Path]:
    """List the pictures of a folder and of all folders inside it.

    Hidden files and folders (a leading dot) are left out, links are followed. The order is that of the paths
    relative to `folder` with forward slashes, so it is the same on every system. One warning counts the pictures
    of kinds that are not read, such as HEIC.

    Args:
        folder: where to look.
        but: names of folders, right in `folder`, that are left out, with a warning: `TEST_NAMES` where something
            is to be learned.

    Raises:
        DataError: the folder is missing or holds no picture, which says what it does hold; or a folder in it
            cannot be looked into, or a name is not UTF-8.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}{_holdings_above(folder)}. Check the path.")
    found: list[Path] = []
    seen: set[str] = set()
    others: Counter[str] = Counter()
    for here, folders, names in os.walk(folder, followlinks=True, onerror=_refuse):
        real = os.path.realpath(here)
        if real in seen:  # a link to a folder above would otherwise be walked for ever
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".") and name not in _OF_SYSTEMS]
        if Path(here) == folder:
            _warn_of_left_out(folder, sorted({*but} & {*folders}))
            folders[:] = [name for name in folders if name not in but]
        shown = [name for name in names if not name.startswith(".")]
        found += [Path(here, name) for name in shown if images.is_picture(name)]
        suffixes = (Path(name).suffix.lower() for name in shown)
        others.update(suffix for suffix in suffixes if suffix in images.OTHER_SUFFIXES)
    if not found:
        raise DataError(
            f"no picture in {folder}: looked for {' '.join(images.SUFFIXES)}, but it holds "
            f"{_holdings(folder)}. Point to the folder that the pictures are in."
        )
    for path in found:
        _check_name(path)
    if others:
        counted = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common())
        warnings.warn(
            f"{folder}: left out pictures of kinds that are not read: {counted}. Convert them to JPEG or PNG.",
            stacklevel=2,
        )
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def _refuse(error: OSError) -> None:
    raise DataError(
        f"cannot look into {error.filename}: {error.strerror}. Check that it may be read, or take it out."
    ) from error


def _warn_of_left_out(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        warnings.warn(
            f"{folder / name} is left out: nothing is learned from a folder of that name. Rename it to use it.",
            stacklevel=3,
        )


def _check_name(path: Path) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"the name of {str(path)!a} is not UTF-8, as names from old archives are. Rename it (convmv does "
            "whole folders)."
        ) from error


def parts(root: str | Path, inside: str | Path = "") -> tuple[Path, Path | None]:
    """Find the training and the validation folder of a data set.

    Looked for in this order: `root/train/inside`, then `root/inside/train`, each with val/, valid/ or
    validation/ in the place of train/; else `root/inside` as a whole.

    Returns:
        The training folder, and the validation folder or None where a share must be split off.

    Raises:
        DataError: there is a validation folder, but no train/ beside it.
    """
    root, inside = Path(root), Path(inside)
    if inside.is_absolute():
        root, inside = inside, Path()
    for before, after in ((root, inside), (root / inside, Path())):
        held_out = next(
            (before / name / after for name in VALIDATION_NAMES if (before / name / after).is_dir()), None
        )
        train = before / "train" / after
        if train.is_dir():
            return train, held_out
        if held_out is not None:
            raise DataError(f"{held_out} has no {train} beside it. Name the training pictures' folder train/.")
    return root / inside, None


def split(
    names: Sequence[str], validation: float = 0.1, seed: int = 0, least: int = 0
) -> tuple[list[str], list[str]]:
    """Split names into training and validation by a hash of each name alone.

    A name's part depends on nothing but the name, `validation` and `seed`: adding or removing pictures never
    moves another one, and a larger share only takes from training. So no picture that once trained a network
    comes to judge it later.

    Args:
        names: the samples' names.
        validation: the share held out, above 0 and below 1. Few names may get a share that is off by some.
        seed: another number gives another split.
        least: names that validation gets at any rate, as long as training keeps as many.

    Returns:
        The names for training and those for validation, each in the order given.

    Raises:
        DataError: the share is out of range, or one of the two parts would be empty.
    """
    if not 0 < validation < 1:
        raise DataError(
            f"validation={validation} is no share to hold out. Give a number between 0 and 1, like 0.1."
        )
    places = {name: _place(name, seed) for name in names}
    if 2 * least <= len(names):
        # Up to the place of the last one that is needed, or down to that of the first one that is to stay
        ordered = sorted(places.values())
        low, high = (ordered[least - 1], ordered[-least]) if least else (-1.0, 2.0)
        validation = min(max(validation, math.nextafter(low, 2.0)), high)
    train = [name for name in names if places[name] >= validation]
    held_out = [name for name in names if places[name] < validation]
    if not train or not held_out:
        raise DataError(_cannot_split(places, validation))
    return train, held_out


def name_within(path: Path, folder: Path) -> str:
    """Name a picture by its path inside a folder: forward slashes, and one spelling of accents (NFC)."""
    return unicodedata.normalize("NFC", path.relative_to(folder).as_posix())


def fingerprint(names: Iterable[str], files: Iterable[Path]) -> str:
    """Hash names and file sizes (sha256, hex): another set of pictures gets another fingerprint.

    The contents are not read, so an edit that keeps a file's length goes unseen.
    """
    told = hashlib.sha256()
    for name in names:
        told.update(f"{name}\n".encode())
    for file in files:
        told.update(f"{file.stat().st_size}\n".encode())
    return told.hexdigest()


def _place(name: str, seed: int) -> float:
    """A number in [0, 1) that belongs to a name."""
    told = hashlib.sha256(f"{seed}:{unicodedata.normalize('NFC', name)}".encode()).digest()
    return int.from_bytes(told[:8], "big") / 2**64


def _cannot_split(places: dict[str, float], validation: float) -> str:
    """Say why a split would leave a part empty, and which share would not."""
    remedy = "Or put them into train/ and val/ folders yourself."
    if len(places) < 2:
        return f"{len(places)} picture cannot be split into training and validation. Add pictures. {remedy}"
    ordered = sorted(places.values())
    share = (ordered[0] + ordered[1]) / 2 if ordered[0] >= validation else (ordered[-2] + ordered[-1]) / 2
    empty = "validation" if ordered[0] >= validation else "training"
    return (
        f"of {len(places)} pictures, validation={validation} leaves none for {empty}. "
        f"With validation={share:.4g} (--validation {share:.4g}) each part gets some. {remedy}"
    )


def _holdings(folder: Path) -> str:
    """Say in a few words what a folder holds."""
    entries = sorted(folder.iterdir())
    folders = [entry.name for entry in entries if entry.is_dir()]
    kinds = Counter(entry.suffix or "no suffix" for entry in entries if not entry.is_dir())
    told = []
    if folders:
        told.append(f"{len(folders)} folders ({', '.join(folders[:5])}{', ...' if len(folders) > 5 else ''})")
    if kinds:
        told.append("files: " + ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5)))
    return " and ".join(told) or "nothing"


def _holdings_above(folder: Path) -> str:
    """Say what there is instead of a missing folder, in the nearest one that exists."""
    if folder.exists():
        return ": it is a file"
    above = next((parent for parent in folder.absolute().parents if parent.is_dir()), None)
    return "" if above is None or above == above.parent else f"; {above} holds {_holdings(above)}"
