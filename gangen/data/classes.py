"""Data sets for classification: each sample a picture and its class."""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image

from gangen import images
from gangen.data.augment import Augment, Centre, Size, Transform
from gangen.data.batch import Batch
from gangen.data.folders import TEST_NAMES, find_pictures, fingerprint, name_within, parts, split
from gangen.data.readable import Readable
from gangen.data.sets import check_folder
from gangen.data.sources import Kept, Source
from gangen.errors import DataError
from gangen.labels import Classes

_NAMED = 5

LabelOf = Callable[[Path], str]
"""From a picture's path to the name of its class."""


class Labelled(Protocol):
    """A source of single pictures that knows the class of each: `ClassFiles`, or one of your own."""

    @property
    def labels(self) -> Sequence[str]:
        """The name of each sample's class."""
        ...

    @property
    def names(self) -> Sequence[str]:
        """A unique name for each sample."""
        ...

    def read(self, index: int) -> tuple[Image.Image, ...]:
        """Read a sample's picture."""
        ...

    def fingerprint(self) -> str:
        """A short text that changes when the data do."""
        ...

    def select(self, names: Collection[str]) -> Labelled:
        """Keep the samples of these names, in the present order."""
        ...


@dataclass(frozen=True)
class ClassFiles:
    """Pictures in files, each of a class.

    Attributes:
        names: the samples' names.
        paths: the file of each.
        labels: the name of each one's class.
    """

    names: Sequence[str]
    paths: Sequence[Path]
    labels: Sequence[str]

    def read(self, index: int) -> tuple[Image.Image]:
        """Read a sample's picture; raises PictureError where that is impossible."""
        return (images.read(self.paths[index]),)

    def select(self, names: Collection[str]) -> ClassFiles:
        """Keep the samples of these names, in the present order."""
        wanted = set(names)
        kept = [index for index, name in enumerate(self.names) if name in wanted]
        return replace(
            self,
            names=[self.names[i] for i in kept],
            paths=[self.paths[i] for i in kept],
            labels=[self.labels[i] for i in kept],
        )

    def fingerprint(self) -> str:
        """Hash of the names, the classes and the files' sizes."""
        return fingerprint([*self.names, *self.labels], self.paths)


@dataclass(frozen=True)
class Arrays:
    """Pictures in memory, each of a class; see `ClassFiles`."""

    names: Sequence[str]
    pictures: Sequence[Image.Image]
    labels: Sequence[str]

    def read(self, index: int) -> tuple[Image.Image]:
        """Give a sample's picture."""
        return (self.pictures[index],)

    def select(self, names: Collection[str]) -> Arrays:
        """Keep the samples of these names, in the present order."""
        wanted = set(names)
        kept = [index for index, name in enumerate(self.names) if name in wanted]
        return Arrays(
            [self.names[i] for i in kept], [self.pictures[i] for i in kept], [self.labels[i] for i in kept]
        )

    def fingerprint(self) -> str:
        """Hash of the names, the classes and the pixels."""
        told = hashlib.sha256("\n".join([*self.names, *self.labels]).encode())
        for picture in self.pictures:
            told.update(picture.tobytes())
        return told.hexdigest()


class ClassSet(Readable):
    """A map-style data set of pictures and their classes.

    `dataset[index]` is a `Batch` without the leading dimension: input (3, H, W) in [-1, 1], target () int64, the
    class's number in `classes`. What is random about it comes from torch's global generator alone.

    Args:
        source: where the pictures come from.
        labels: the name of each sample's class.
        transform: what a picture goes through, such as `Augment`.
        classes: what is told apart.

    Raises:
        DataError: not one sample can be read, or a label is none of the classes.
    """

    def __init__(self, source: Source, labels: Sequence[str], transform: Transform, classes: Classes) -> None:
        self.transform, self.classes = transform, classes
        numbers = {name: number for number, name in enumerate(classes.names)}
        unknown = sorted(set(labels) - set(numbers))
        if unknown:
            raise DataError(
                f"class {', '.join(unknown[:_NAMED])} is held out for validation, but there is no picture of it "
                f"to learn from, only of {', '.join(classes.names[:_NAMED])}, ... Add some, or take it away."
            )
        self.numbers = [numbers[label] for label in labels]
        super().__init__(source, transform)

    def __getitem__(self, index: int) -> Batch:
        """Sample `index`, or the next readable one after it; raises IndexError beyond the length."""
        index, (picture,) = self.read(index)
        (varied,) = self.transform(picture)
        return Batch(images.to_tensor(varied), torch.tensor(self.numbers[index]), self.source.names[index])


def open_classes(
    root: str | Path | None,
    *,
    labels: LabelOf | str | Path | None = None,
    size: Size = 64,
    augment: Transform | None = None,
    prepare: Transform | None = None,
    validation: float = 0.1,
    keep: int = 0,
) -> tuple[ClassSet, ClassSet]:
    """Open training and validation pictures with their classes.

    Validation is what lies in val/, valid/ or validation/ beside train/; where there is none, a share of the names
    by hash (see `split`).

    Args:
        root: the data set's folder, or None for 200 small grey pictures that ship with scikit-image, half of them
            faces ("Labeled Faces in the Wild", Huang et al. 2007).
        labels: how the class of a picture is told. None: it is the name of the folder that it lies in, right in
            root, train/ or val/. A text file: a CSV inside root or elsewhere, with picture and class in the
            first two columns, or in those that its first line calls name, file, image or picture, and label or
            class. A function: from a picture's path to the name.
        size: side of the samples' squares, or (height, width), in pixels.
        augment: what training samples go through; `Augment(size)` when None.
        prepare: what validation samples go through; `Centre(size)` when None.
        validation: the share of names held out where no folder says which.
        keep: MiB of training pictures that stay decoded in memory, in each worker.

    Raises:
        DataError: the folder does not hold what is described above, there is one class only, or validation has
            one that training has not.
    """
    found = find_classes(root, labels)
    train, held_out = found if len(found) == 2 else _apart(found[0], validation)
    names = sorted(set(train.labels), key=_natural)
    if len(names) < 2:
        raise DataError(
            f"there is one class only, {names[0]}: nothing can be told apart. Add pictures of another."
        )
    _warn_of_few(train.labels, held_out.labels)
    classes = Classes(tuple(names))
    source: Source = Kept(train, keep) if keep else train
    return (
        ClassSet(source, train.labels, augment or Augment(size), classes),
        ClassSet(held_out, held_out.labels, prepare or Centre(size), classes),
    )


def find_classes(root: str | Path | None, labels: LabelOf | str | Path | None) -> list[Labelled]:
    """The sources for training and validation, or a single one that is yet to be split; see `open_classes`."""
    if root is None:
        return [_faces()]
    check_folder(root)
    root = Path(root)
    train, held_out = parts(root)
    label_of = _from_table(root, Path(labels)) if isinstance(labels, str | Path) else labels
    return [_open(place, label_of) for place in (train, held_out) if place is not None]


def _apart(source: Labelled, validation: float) -> tuple[Labelled, Labelled]:
    train, held_out = split(source.names, validation)
    return source.select(train), source.select(held_out)


def _open(folder: Path, label_of: LabelOf | None) -> ClassFiles:
    paths = find_pictures(folder, but=TEST_NAMES)
    if label_of is None:
        loose = [path.name for path in paths if path.parent == folder]
        if loose:
            raise DataError(
                f"{len(loose)} pictures lie right in {folder}, in no class's folder: {', '.join(loose[:_NAMED])}. "
                "Put each into a folder that is named like its class, or tell the classes by a CSV or a function."
            )
        filled = {path.relative_to(folder).parts[0] for path in paths}
        entries = {entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")}
        empty = sorted(entries - filled - {*TEST_NAMES})
        if empty:
            warnings.warn(f"no picture in the folder of class {', '.join(empty)} in {folder}", stacklevel=4)
        label_of = _first_folder(folder)
    return ClassFiles(
        [name_within(path, folder) for path in paths], paths, [str(label_of(path)) for path in paths]
    )


def _first_folder(folder: Path) -> LabelOf:
    return lambda path: path.relative_to(folder).parts[0]


def _from_table(root: Path, table: Path) -> LabelOf:
    """Read classes from a CSV; pictures are found by their path inside root, or by their name alone."""
    path = table if table.is_file() and not (root / table).is_file() else root / table
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file) if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"cannot read the table of classes {path}: {error}. Expected a CSV: picture,class."
        ) from error
    heads = [head.strip().casefold() for head in rows[0]] if rows else []
    name_at = next((heads.index(head) for head in ("name", "file", "image", "picture") if head in heads), None)
    label_at = next((heads.index(head) for head in ("label", "class") if head in heads), None)
    if name_at is None or label_at is None:
        name_at, label_at = 0, 1
    else:
        rows = rows[1:]
    told = (name_at, label_at)
    short = next((row for row in rows if len(row) <= max(told) or not all(row[at].strip() for at in told)), None)
    if not rows or short is not None:
        raise DataError(f"{path} has no picture and class on each line (such as {short}). Expected picture,class.")
    said: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        name, label = row[name_at].strip(), row[label_at].strip()
        for spelling in {name, Path(name).with_suffix("").as_posix(), Path(name).name, Path(name).stem}:
            said[spelling].add(label)

    def label_of(picture: Path) -> str:
        inside = picture.relative_to(root)
        for spelling in (inside.as_posix(), inside.with_suffix("").as_posix(), picture.name, picture.stem):
            if len(said.get(spelling, ())) == 1:
                return next(iter(said[spelling]))
            if spelling in said:
                both = " and ".join(sorted(said[spelling]))
                raise DataError(
                    f"{picture} is {both} in {path}. Leave one, or name pictures by their paths there."
                )
        raise DataError(f"{picture} is not in {path}. Add a line for it, or take the picture away.")

    return label_of


def _warn_of_few(train: Sequence[str], held_out: Sequence[str]) -> None:
    counts = Counter(train)
    single = sorted(name for name, count in counts.items() if count == 1)
    if single:
        warnings.warn(f"there is one picture only of class {', '.join(single)} to learn from", stacklevel=3)
    unseen = sorted(set(counts) - set(held_out))
    if unseen:
        warnings.warn(f"no picture of class {', '.join(unseen)} is held out for validation", stacklevel=3)


def _natural(name: str) -> tuple[int, str]:
    """Numbers in the order of their values, before all other names."""
    return (int(name), "") if name.isdecimal() else (2**62, name)


def _faces() -> Arrays:
    found = importlib.util.find_spec("skimage")
    path = Path(found.origin).parent / "data" / "lfw_subset.npy" if found and found.origin else None
    if path is None or not path.is_file():
        raise DataError(
            "the embedded faces are those of scikit-image, which is not installed. "
            'Install it with: pip install "gangen[samples]", or name your own pictures with --data.'
        )
    levels = (np.load(path, allow_pickle=False) * 255).round().clip(0, 255).astype(np.uint8)
    labels = ["face"] * 100 + ["no face"] * (len(levels) - 100)
    names = [f"{label.replace(' ', '-')}-{number}" for number, label in enumerate(labels)]
    return Arrays(names, [Image.fromarray(level).convert("RGB") for level in levels], labels)
