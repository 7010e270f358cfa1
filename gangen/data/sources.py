"""Where samples come from: a source names them and reads their pictures, and knows nothing of tensors."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol

from PIL import Image

from gangen import images
from gangen.data.folders import TEST_NAMES, find_pictures, fingerprint, name_within
from gangen.errors import DataError, PictureError

Halves = Literal["input-left", "input-right"]


@dataclass(frozen=True)
class Arranged:
    """How the pictures of a sample lie in folders.

    Attributes:
        input_folder: the inputs' folder inside the data set's, where pairs lie in two folders.
        target_folder: the targets', likewise.
        halves: which half of a single picture is the input, where pairs lie side by side.
        scale: by how much targets are larger than their inputs.
    """

    input_folder: str | Path | None = None
    target_folder: str | Path | None = None
    halves: Halves | None = None
    scale: int = 1

    @property
    def columns(self) -> tuple[str, str] | None:
        """The two folders, as the columns of a table; None where they are not given."""
        given = self.input_folder is not None and self.target_folder is not None
        return (str(self.input_folder), str(self.target_folder)) if given else None


class Source(Protocol):
    """Named samples of one picture each, or of two: (input, target)."""

    @property
    def names(self) -> Sequence[str]:
        """A unique name for each sample."""
        ...

    def read(self, index: int) -> tuple[Image.Image, ...]:
        """Read the "RGB" pictures of a sample; raises PictureError where that is impossible."""
        ...

    def fingerprint(self) -> str:
        """A short text that changes when the data do."""
        ...


@dataclass(frozen=True)
class Files:
    """Samples in files: one picture, one that is cut into two halves, or two that belong together.

    Attributes:
        names: the samples' names.
        paths: for each sample its file, or its input's and its target's.
        halves: which half of a single file is the input; None where files are not cut.
        scale: by how much a target in a file of its own is larger than its input.
    """

    names: Sequence[str]
    paths: Sequence[tuple[Path, ...]]
    halves: Halves | None = None
    scale: int = 1

    def read(self, index: int) -> tuple[Image.Image, ...]:
        """Read a sample's pictures.

        Raises:
            PictureError: a file cannot be read, or its width is odd so that it has no two halves, or a target
                is not `scale` times the size of its input.
        """
        paths = self.paths[index]
        with whole_unless_single(len(paths), self.halves):
            pictures = [images.read(path) for path in paths]
        return arrange(pictures, [str(path) for path in paths], self.halves, self.scale)

    @property
    def paired(self) -> bool:
        """Whether a sample is an input and a target."""
        return self.halves is not None or any(len(paths) > 1 for paths in self.paths[:1])

    def select(self, names: Collection[str]) -> Files:
        """Keep the samples of these names, in the present order."""
        wanted = set(names)
        kept = [index for index, name in enumerate(self.names) if name in wanted]
        return replace(self, names=[self.names[i] for i in kept], paths=[self.paths[i] for i in kept])

    def fingerprint(self) -> str:
        """Hash of the names and of the files' sizes."""
        return fingerprint(self.names, (path for paths in self.paths for path in paths))


@dataclass(frozen=True)
class Kept:
    """A source whose pictures stay in memory once they were read. Each worker keeps its own.

    Attributes:
        source: where they come from.
        most: MiB of pixels that are kept; those that are read when it is full are read each time.
    """

    source: Source
    most: int
    _kept: dict[int, tuple[Image.Image, ...]] = field(default_factory=dict, repr=False)
    _filled: list[int] = field(default_factory=lambda: [0], repr=False)

    @property
    def names(self) -> Sequence[str]:
        """Those of the source."""
        return self.source.names

    def read(self, index: int) -> tuple[Image.Image, ...]:
        """A sample's pictures, which are not to be changed."""
        if index in self._kept:
            return self._kept[index]
        pictures = self.source.read(index)
        needed = sum(3 * picture.width * picture.height for picture in pictures)
        if self._filled[0] + needed <= self.most * 2**20:
            self._kept[index] = pictures
            self._filled[0] += needed
        return pictures

    def fingerprint(self) -> str:
        """That of the source."""
        return self.source.fingerprint()


def open_folder(folder: str | Path, halves: Halves | None = None, *, but: Collection[str] = TEST_NAMES) -> Files:
    """All pictures in a folder `but` those in folders so named, each named by its path; see `find_pictures`."""
    folder = Path(folder)
    paths = find_pictures(folder, but=but)
    return Files([name_within(path, folder) for path in paths], [(path,) for path in paths], halves)


def match_folders(
    input_folder: str | Path, target_folder: str | Path, scale: int = 1, *, but: Collection[str] = TEST_NAMES
) -> Files:
    """Pair the pictures of two folders: equal paths inside their folder, except for the suffix, make a pair.

    Pictures without a partner are counted and the first of them named in a warning, and are left out. The targets
    are `scale` times as large as the inputs.

    Raises:
        DataError: a folder is missing or empty, no names are equal, or two pictures of a folder differ in
            nothing but their suffix.
    """
    inputs, targets = _by_stem(Path(input_folder), but), _by_stem(Path(target_folder), but)
    names = [name for name in inputs if name in targets]
    lonely = [str(path) for name, path in inputs.items() if name not in targets]
    lonely += [str(path) for name, path in targets.items() if name not in inputs]
    if not names:
        raise DataError(
            f"none of the {len(inputs)} pictures in {input_folder} has a partner among the {len(targets)} in "
            f"{target_folder}: {first_few(lonely)}. A pair needs equal names in both folders, such as "
            "a/1.jpg and b/1.png."
        )
    if lonely:
        warnings.warn(
            f"{len(lonely)} pictures have no partner of the same name and are left out, "
            f"{len(names)} pairs remain: {first_few(lonely)}",
            stacklevel=2,
        )
    return Files(names, [(inputs[name], targets[name]) for name in names], scale=scale)


def _by_stem(folder: Path, but: Collection[str]) -> dict[str, Path]:
    """The pictures of a folder by their path inside it without the suffix."""
    found: dict[str, Path] = {}
    for path in find_pictures(folder, but=but):
        name = name_within(path.with_suffix(""), folder)
        if name in found:
            raise DataError(
                f"{found[name]} and {path} differ only in their suffix, so it is unclear which belongs to the "
                f"pair {name!r}. Take one of them out."
            )
        found[name] = path
    return found


def whole_unless_single(parts: int, halves: Halves | None) -> AbstractContextManager[None]:
    """Within this block, pictures that are to be cut, or that belong to others, are read whole.

    Others are read at the size that suffices; see `gangen.images.reduced`.
    """
    return nullcontext() if parts == 1 and halves is None else images.reduced(0)


def arrange(
    pictures: Sequence[Image.Image], called: Sequence[str], halves: Halves | None = None, scale: int = 1
) -> tuple[Image.Image, ...]:
    """What a sample's files are worth: one picture, the two halves of it, or two that fit.

    Args:
        pictures: that were read.
        called: their names, for errors.
        halves: which half of a single picture is the input; None to leave it whole.
        scale: by how much the second of two is larger.

    Raises:
        PictureError: the width is odd, or the sizes do not fit.
    """
    if halves is not None:
        return _cut(pictures[0], halves, called[0])
    small, large = pictures[0], pictures[-1]
    if len(pictures) > 1 and (scale * small.width, scale * small.height) != large.size:
        told = " and ".join(
            f"{name} is {picture.width}x{picture.height}" for name, picture in zip(called, pictures, strict=True)
        )
        wanted = "a pair must be of one size. Scale one of them to the other's size."
        if scale > 1:
            wanted = f"the target must be exactly {scale} times its input. Scale or crop one of them."
        raise PictureError(f"{told}: {wanted}")
    return tuple(pictures)


def _cut(picture: Image.Image, halves: Halves, name: str) -> tuple[Image.Image, Image.Image]:
    """Cut a picture in the middle: (input, target)."""
    if picture.width % 2:
        raise PictureError(
            f"{name} is {picture.width} pixels wide, which cannot be cut into two equal halves. "
            "Make the width even, with the input and the target taking half of it each."
        )
    middle = picture.width // 2
    left = picture.crop((0, 0, middle, picture.height))
    right = picture.crop((middle, 0, picture.width, picture.height))
    return (left, right) if halves == "input-left" else (right, left)


def first_few(names: Sequence[str], count: int = 3) -> str:
    """The first few of a list, and how many more there are."""
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more
