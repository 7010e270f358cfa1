"""Which samples are for training and which for validation: of photographs, folders, shards and streams."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from gangen.data.folders import VALIDATION_NAMES, parts, split
from gangen.data.index import is_packed, open_shards
from gangen.data.photos import open_photographs
from gangen.data.shards import PAIR, Shards
from gangen.data.sources import Arranged, Files, Source, match_folders, open_folder
from gangen.data.streamed import STREAM, is_stream, open_streamed
from gangen.data.streams import Chunks
from gangen.errors import DataError

S = TypeVar("S", Files, Shards)


@dataclass(frozen=True)
class Opened:
    """What a data set consists of.

    Attributes:
        training: samples for training; None where they are streamed.
        chunks: of the stream for training; None where nothing is streamed.
        held_out: samples for validation.
        paired: whether samples are pairs already, rather than pictures from which inputs are drawn.
    """

    training: Source | None
    chunks: Chunks | None
    held_out: Source
    paired: bool


def open_sets(
    root: str | Path | None,
    arranged: Arranged,
    *,
    validation: float = 0.1,
    validation_folder: str | Path | None = None,
    always_draw: bool = False,
) -> Opened:
    """Training and validation samples; see `open_pairs`.

    Args:
        root: where they are.
        arranged: how the pictures of a sample lie there.
        validation: the share of names held out where nothing says which.
        validation_folder: a folder for validation alone; what lies in it is not for training, where it lies in
            `root` too. Where it is `root`, nothing is for training but all for validation.
        always_draw: of pairs that know of each other, in shards and on the hub, take the targets alone.

    Raises:
        DataError: there are none, or folders contradict each other.
    """
    elsewhere = None if validation_folder is None else _all(validation_folder, arranged)
    training: Source | None
    held_out: Source | None
    chunks: Chunks | None = None
    paired = arranged.columns is not None or arranged.halves is not None
    if root is None:
        training, held_out = open_photographs()
    elif is_stream(root):
        training = None
        chunks, held_out, joined = open_streamed(
            str(root), arranged, validation=validation, held_out=elsewhere is None, always_draw=always_draw
        )
        paired = paired or joined
    elif is_packed(root):
        shards, held_out_shards = _packed(root, arranged, validation, elsewhere is None)
        paired = paired or (shards.parts == PAIR and not always_draw)
        training, held_out = _fitting(shards, paired, root), held_out_shards
    else:
        training, held_out = open_files(root, arranged, elsewhere is None)
        if held_out is None and elsewhere is None:
            training, held_out = _divided(training, validation)
        elif isinstance(elsewhere, Files) and str(root) != str(validation_folder):
            training = _without(training, elsewhere, validation_folder)
    last = elsewhere or held_out
    if last is None:
        raise DataError(f"{root}: nothing is held out for validation.")
    return Opened(training, chunks, _fitting(last, paired, validation_folder or root), paired)


def _packed(
    root: str | Path, arranged: Arranged, validation: float, held_out: bool
) -> tuple[Shards, Shards | None]:
    if arranged.columns is not None:
        raise DataError(f"{root} holds shards, which know their pairs: leave input_folder and target_folder out.")
    found, apart = open_shards(root, arranged.halves, arranged.scale)
    return _divided(found, validation) if apart is None and held_out else (found, apart)


def _fitting(source: Source, paired: bool, root: object) -> Source:
    """The samples as pairs, or as single pictures, where they can be had so."""
    if isinstance(source, Shards) and source.parts == PAIR:
        return source if paired else source.only("target")
    if paired and isinstance(source, Files | Shards) and not source.paired:
        raise DataError(f"{root} holds single pictures, where the training has pairs. Give pairs, packed alike.")
    return source


def _divided(found: S, validation: float) -> tuple[S, S]:
    """Training and validation samples, by a share of the names."""
    names, held_out_names = split(found.names, validation)
    return found.select(names), found.select(held_out_names)


def _without(training: Files, held_out: Files, folder: str | Path | None) -> Files:
    """The training samples without those of which a file is held out, by whichever path."""
    known = {os.path.realpath(path) for paths in held_out.paths for path in paths}
    samples = zip(training.names, training.paths, strict=True)
    names = [name for name, paths in samples if not known & {os.path.realpath(path) for path in paths}]
    if not names:
        raise DataError(
            f"nothing is left to learn from: all pictures for training are among those for validation alone, of "
            f"{folder}. An absolute folder of inputs or targets is the same for both; name them inside the data's."
        )
    return training.select(names) if len(names) < len(training.names) else training


def knows_pairs(root: object) -> bool:
    """Whether it names shards or a stream, which know themselves what belongs together."""
    return root is not None and (is_stream(root) or is_packed(str(root)))


def check_folder(root: str | Path) -> None:
    """Refuse what labels are not read from.

    Raises:
        DataError: `root` is shards or a stream.
    """
    if knows_pairs(root):
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
    place = str(root).removeprefix(STREAM)
    if is_stream(place):
        raise DataError(f"{root}: not all of a data set of the hub can be validated on. Name a folder or shards.")
    if place != str(root) or is_packed(place):
        found, apart = open_shards(place, arranged.halves, arranged.scale)
        return found if apart is None else found.joined(apart)
    if arranged.columns is None:
        return open_folder(root, arranged.halves)
    inputs, targets = arranged.columns
    root = Path(root)
    divided = [folder for name in ("train", *VALIDATION_NAMES) if (folder := root / name).is_dir()]
    if not divided or ((root / inputs).is_dir() and (root / targets).is_dir()):
        return match_folders(root / inputs, root / targets, arranged.scale)
    matched = [match_folders(folder / inputs, folder / targets, arranged.scale) for folder in divided]
    named = zip(divided, matched, strict=True)
    return replace(
        matched[0],
        names=[f"{folder.name}/{name}" for folder, part in named for name in part.names],
        paths=[paths for part in matched for paths in part.paths],
    )
