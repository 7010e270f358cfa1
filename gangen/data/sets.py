"""Which samples are for training and which for validation: of photographs, folders, shards and streams."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from gangen.data.folders import parts, split
from gangen.data.photos import open_photographs
from gangen.data.shards import PAIR, Shards, is_packed, open_shards
from gangen.data.sources import Arranged, Files, Source, match_folders, open_folder
from gangen.data.streamed import is_stream, open_streamed
from gangen.data.streams import Chunks
from gangen.errors import DataError

S = TypeVar("S", Files, Shards)


@dataclass(frozen=True)
class Opened:
    """What a data set consists of.

    Attributes:
        training: samples for training; those for validation where these come from `chunks`.
        held_out: samples for validation.
        paired: whether samples are pairs already, rather than pictures from which inputs are drawn.
        chunks: of a stream for training; None where nothing is streamed.
    """

    training: Source
    held_out: Source
    paired: bool
    chunks: Chunks | None = None


def open_sets(
    root: str | Path | None,
    arranged: Arranged,
    *,
    validation: float = 0.1,
    validation_folder: str | Path | None = None,
    targets: bool = False,
) -> Opened:
    """Training and validation samples; see `open_pairs`.

    Args:
        root: where they are.
        arranged: how the pictures of a sample lie there.
        validation: the share of names held out where nothing says which.
        validation_folder: a folder for validation alone.
        targets: of pairs that were packed as such, take the targets alone.

    Raises:
        DataError: there are none, or folders contradict each other.
    """
    paired = arranged.input_folder is not None or arranged.halves is not None
    if root is None:
        embedded, strips = open_photographs()
        return Opened(embedded, strips if validation_folder is None else open_folder(validation_folder), False)
    if is_stream(root):
        chunks, apart, joined = open_streamed(str(root), arranged, validation, targets)
        apart = apart if validation_folder is None else _all(validation_folder, arranged)
        return Opened(apart, apart, paired or joined, chunks)
    if is_packed(root):
        return _packed(root, arranged, validation, validation_folder, targets)
    found, held_out = open_files(root, arranged, validation_folder is None)
    if validation_folder is not None:
        return Opened(found, _all(validation_folder, arranged), paired)
    return Opened(*_divided(found, held_out, validation), paired)


def _packed(
    root: str | Path, arranged: Arranged, validation: float, validation_folder: str | Path | None, targets: bool
) -> Opened:
    if arranged.input_folder is not None:
        raise DataError(f"{root} holds shards, which know their pairs: leave input_folder and target_folder out.")
    found, apart = open_shards(root, arranged.halves, arranged.scale)
    if found.parts != PAIR:
        paired = arranged.halves is not None
        if validation_folder is not None:
            return Opened(found, _all(validation_folder, arranged), paired)
        return Opened(*_divided(found, apart, validation), paired)
    if validation_folder is not None:
        elsewhere = _all(validation_folder, arranged)
        if not isinstance(elsewhere, Shards) or elsewhere.parts != PAIR:
            raise DataError(f"{root} holds packed pairs, and {validation_folder} does not. Pack it likewise.")
        apart = elsewhere
    training, held_out = _divided(found, apart, validation)
    if targets:
        return Opened(training.only("target"), held_out.only("target"), False)
    return Opened(training, held_out, True)


def _divided(found: S, apart: S | None, validation: float) -> tuple[S, S]:
    """Training and validation samples, where need be by a share of the names."""
    if apart is not None:
        return found, apart
    names, held_out_names = split(found.names, validation)
    return found.select(names), found.select(held_out_names)


def check_folder(root: str | Path) -> None:
    """Refuse what labels are not read from.

    Raises:
        DataError: `root` is shards or a stream.
    """
    if is_stream(root) or is_packed(root):
        raise DataError(f"{root}: labels are read from folders, not from shards or streams. Name a folder.")


def open_files(root: str | Path, arranged: Arranged, held_out: bool = True) -> tuple[Files, Files | None]:
    """Training samples of a folder, and those for validation, or None where a share must be split off.

    Args:
        root: the folder.
        arranged: how samples lie in it.
        held_out: whether those for validation are wanted.
    """
    if arranged.input_folder is None or arranged.target_folder is None:
        folder, apart = parts(root)
        training = open_folder(folder, arranged.halves)
        return training, open_folder(apart, arranged.halves) if apart is not None and held_out else None
    inputs, held_out_inputs = parts(root, arranged.input_folder)
    targets, held_out_targets = parts(root, arranged.target_folder)
    training = match_folders(inputs, targets, arranged.scale)
    if not held_out or (held_out_inputs is None and held_out_targets is None):
        return training, None
    if held_out_inputs is None or held_out_targets is None:
        raise DataError(
            f"{held_out_inputs or held_out_targets} is for validation, but the other folder of the pairs, "
            f"{targets if held_out_targets is None else inputs}, has none beside it. Add it, or take both away."
        )
    return training, match_folders(held_out_inputs, held_out_targets, arranged.scale)


def _all(root: str | Path, arranged: Arranged) -> Files | Shards:
    """All samples of a folder, wherever in it they lie."""
    if is_packed(root):
        found, apart = open_shards(root, arranged.halves, arranged.scale)
        return found if apart is None else found.joined(apart)
    if arranged.input_folder is None or arranged.target_folder is None:
        return open_folder(root, arranged.halves)
    root = Path(root)
    return match_folders(root / arranged.input_folder, root / arranged.target_folder, arranged.scale)
