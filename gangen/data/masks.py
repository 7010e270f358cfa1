"""Data sets for segmentation: each sample a picture, and a label for every pixel of it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision import tv_tensors

from gangen import images
from gangen.data.augment import Augment, Centre, Size, Transform
from gangen.data.batch import Batch
from gangen.data.codes import IGNORED_LEVEL, VOID, Codes, CodesLike
from gangen.data.folders import TEST_NAMES, find_pictures, fingerprint, name_within, parts, split
from gangen.data.readable import Readable
from gangen.data.scenes import SCENES, open_scenes
from gangen.data.sets import check_folder
from gangen.data.sources import Kept, Source
from gangen.errors import DataError
from gangen.labels import IGNORED, Classes

_NAMED = 3

LabelPath = Callable[[Path], Path]
"""From a picture's path to its label picture's."""


@dataclass(frozen=True)
class LabelledFiles:
    """Pictures in files, each with a file of labels.

    Attributes:
        names: the samples' names.
        paths: for each sample its picture's and its labels' file.
        codes: what the labels mean.
    """

    names: Sequence[str]
    paths: Sequence[tuple[Path, Path]]
    codes: Codes

    def read(self, index: int) -> tuple[Image.Image, Image.Image]:
        """Read a sample: its picture, and its mask as `Codes.read` gives it.

        Raises:
            PictureError: a file cannot be read.
            DataError: the mask has another size, or labels that are none of the codes.
        """
        picture, labels = self.paths[index]
        shown, mask = images.read(picture), self.codes.read(labels)
        if shown.size != mask.size:
            turned = (
                " (EXIF says to turn the picture; turn the labels too)" if shown.size == mask.size[::-1] else ""
            )
            raise DataError(
                f"{labels} is {mask.width}x{mask.height} pixels, and its picture {picture} is "
                f"{shown.width}x{shown.height}{turned}. Bring one of them to the other's size (labels without "
                "smoothing)."
            )
        return shown, mask

    def select(self, names: Collection[str]) -> LabelledFiles:
        """Keep the samples of these names, in the present order."""
        wanted = set(names)
        kept = [index for index, name in enumerate(self.names) if name in wanted]
        return replace(self, names=[self.names[i] for i in kept], paths=[self.paths[i] for i in kept])

    def fingerprint(self) -> str:
        """Hash of the names, of the classes and of the files' sizes."""
        names = [*self.codes.classes.names, *self.names]
        return fingerprint(names, (path for paths in self.paths for path in paths))


class Masks(Readable):
    """A map-style data set of pictures and masks.

    `dataset[index]` is a `Batch` without the leading dimension: input (3, H, W) in [-1, 1], target (H, W)
    int64, the classes' numbers or `IGNORED`. What is random about it comes from torch's global generator alone.

    Args:
        source: gives a picture, and a mask as `Codes.read` does.
        transform: what both go through together, such as `Augment`.
        classes: what the mask's labels are.

    Raises:
        DataError: not one sample can be read, or the first one's labels are not as they should be.
    """

    def __init__(self, source: Source, transform: Transform, classes: Classes) -> None:
        self.transform, self.classes = transform, classes
        super().__init__(source)

    def __getitem__(self, index: int) -> Batch:
        """Sample `index`, or the next readable one after it.

        Raises:
            IndexError: the index is not below the length.
            DataError: not one sample can be read, or labels are not as they should be; names the file.
        """
        index, (picture, mask) = self.read(index)
        picture, moved = self.transform(picture, tv_tensors.Mask(torch.from_numpy(np.array(mask))))
        labels = moved.as_subclass(torch.Tensor).long()
        return Batch(
            images.to_tensor(picture),
            labels.where(labels != IGNORED_LEVEL, IGNORED),
            self.source.names[index],
        )


def open_masks(
    root: str | Path | None,
    *,
    labels: LabelPath | str | Path = "labels",
    codes: CodesLike | Codes = "codes.txt",
    pictures: str | Path | None = None,
    ignored: Sequence[str] = VOID,
    size: Size = 128,
    augment: Transform | None = None,
    prepare: Transform | None = None,
    validation: float = 0.1,
    keep: int = 0,
) -> tuple[Masks, Masks]:
    """Open training and validation pictures with their masks.

    Validation is what lies in val/, valid/ or validation/ beside train/, right in `root` (`root/train/images`) or
    else inside the folders (`root/images/train`); where there is none, a share of the names by hash (see `split`).

    Args:
        root: the data set's folder; None for drawn scenes, whose classes are `SCENES`.
        labels: the folder of label pictures inside root, in which each has the name of its picture but for the
            suffix; or a function from a picture's path to its label picture's.
        codes: what the labels mean: names in the order of their levels, names by level or by colour, or a text
            file of them (inside root, or elsewhere).
        pictures: the pictures' folder inside root; "images" when None, or, with a function, all of root where
            there is no such folder.
        ignored: names among the codes of what is not to be learned or judged.
        size: side of the samples' squares, or (height, width), in pixels.
        augment: what training samples go through; `Augment(size)` when None.
        prepare: what validation samples go through; `Centre(size)` when None.
        validation: the share of names held out where no folder says which.
        keep: MiB of training pictures that stay decoded in memory, in each worker.

    Raises:
        DataError: the folders do not hold what is described above.
    """
    if root is None:
        return _drawn(size, augment, prepare)
    found = find_masks(root, labels=labels, codes=codes, pictures=pictures, ignored=ignored)
    if len(found) == 1:
        training, kept = split(found[0].names, validation)
        found = [found[0].select(training), found[0].select(kept)]
    source: Source = Kept(found[0], keep) if keep else found[0]
    classes = found[0].codes.classes
    return (
        Masks(source, augment or Augment(size), classes),
        Masks(found[1], prepare or Centre(size), classes),
    )


def find_masks(
    root: str | Path,
    *,
    labels: LabelPath | str | Path = "labels",
    codes: CodesLike | Codes = "codes.txt",
    pictures: str | Path | None = None,
    ignored: Sequence[str] = VOID,
) -> list[LabelledFiles]:
    """The files for training and validation, or all of them where they are yet to be split; see `open_masks`."""
    check_folder(root)
    root = Path(root)
    given = codes if isinstance(codes, Codes) else Codes.of(_inside(root, codes), ignored)
    folder: str | Path = "images" if pictures is None else pictures
    train, held_out = parts(root, folder)
    if pictures is None and callable(labels) and not train.is_dir():
        train, held_out = parts(root)
    found = []
    for place in (train, held_out):
        if place is None:
            continue
        beside = labels if callable(labels) else _beside(root, place, Path(folder), Path(labels))
        found.append(_open(place, beside, given))
    return found


def _drawn(size: Size, augment: Transform | None, prepare: Transform | None) -> tuple[Masks, Masks]:
    train, held_out = open_scenes(size if isinstance(size, int) else max(size))
    return (
        Masks(train, augment or Augment(size), SCENES),
        Masks(held_out, prepare or Centre(size), SCENES),
    )


def _inside(root: Path, codes: CodesLike) -> CodesLike:
    if not isinstance(codes, str | Path) or (Path(codes).is_file() and not (root / codes).is_file()):
        return codes
    return root / codes


def _beside(root: Path, pictures: Path, folder: Path, labels: Path) -> LabelPath:
    """Find label pictures of equal names in the folder that lies beside the pictures'."""
    if folder.is_absolute() or labels.is_absolute():
        place = root / labels
    else:
        # root/train/images -> root/train/labels, and root/images/train -> root/labels/train
        ends = pictures.parts[-len(folder.parts) :] == folder.parts
        above = pictures.parents[len(folder.parts) - 1] if ends else pictures.parents[len(folder.parts)]
        place = above / labels if ends else above / labels / pictures.name
    by_stem = {name_within(path.with_suffix(""), place): path for path in find_pictures(place)}

    def label_of(picture: Path) -> Path:
        stem = name_within(picture.with_suffix(""), pictures)
        return by_stem.get(stem, place / f"{stem}.png")

    return label_of


def _open(folder: Path, label_of: LabelPath, codes: Codes) -> LabelledFiles:
    """Pair the pictures of a folder with their labels; those without are named in a warning and left out."""
    names, paths, missing = [], [], []
    labelled = {picture: Path(label_of(picture)) for picture in find_pictures(folder, but=TEST_NAMES)}
    # Where label pictures lie among the others, none is a picture to be labelled, least of all by itself
    drawn = {labels.resolve() for labels in labelled.values()}
    places = {picture: picture.resolve() for picture in labelled}
    if labelled and drawn >= {*places.values()}:
        raise DataError(
            f"the label pictures of {folder} are its pictures themselves. Name another folder of labels, or give "
            "a function from a picture's path to its label picture's."
        )
    for picture, labels in labelled.items():
        if places[picture] in drawn:
            continue
        if labels.is_file():
            names.append(name_within(picture, folder))
            paths.append((picture, labels))
        else:
            missing.append((picture, labels))
    told = ", ".join(f"{labels} (of {picture.name})" for picture, labels in missing[:_NAMED])
    told += f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
    if not names:
        raise DataError(
            f"none of the {len(missing)} pictures in {folder} has a label picture; looked for {told}. "
            "Name the folder of labels, or give a function from a picture's path to its label picture's."
        )
    if missing:
        warnings.warn(
            f"{len(missing)} pictures have no label picture and are left out, {len(names)} remain: no {told}",
            stacklevel=3,
        )
    return LabelledFiles(names, paths, codes)
