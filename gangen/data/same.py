"""Pairs of pictures that show the same, or not: for networks that compare."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from gangen import images
from gangen.data.augment import Augment, Centre, Size, Transform
from gangen.data.batch import Batch
from gangen.data.classes import Arrays, Labelled, LabelOf, find_classes
from gangen.data.folders import split
from gangen.data.photos import open_photographs
from gangen.data.readable import Readable
from gangen.data.sources import Kept, Source
from gangen.errors import DataError
from gangen.labels import Classes

SAME = Classes(("different", "same"))
"""What is told apart: the answers' order."""

_NAMED = 5
_TRIES = 20


class SamePairs(Readable):
    """A map-style data set of pairs of pictures.

    `dataset[index]` is a `Batch` without the leading dimension: input (6, H, W) in [-1, 1], one picture's
    channels after the other's; target () int64, 1 where both are of one class and 0 where not. The first picture
    is sample `index`, the other is drawn: of the same class every second time, and of another class else; a
    picture is never paired with itself. A class of a single picture has different pairs only.

    Chance comes from torch's global generator; with `fixed` from the index alone, so that the pairs stay, and
    those that are the same and those that are not take turns. None of them then begins with the only picture of
    a class.

    Args:
        source: where the pictures come from.
        labels: the name of each sample's class.
        transform: what each picture goes through by itself, such as `Augment`.
        fixed: whether the pairs stay.
        rounds: pairs of each picture in one pass.

    Raises:
        DataError: not one sample can be read, or there are fewer than two classes, or none has two pictures.
    """

    def __init__(
        self, source: Source, labels: Sequence[str], transform: Transform, *, fixed: bool = False, rounds: int = 1
    ) -> None:
        self.transform, self.fixed, self.rounds = transform, fixed, rounds
        self.labels = list(labels)
        self._members: dict[str, list[int]] = defaultdict(list)
        for index, label in enumerate(self.labels):
            self._members[label].append(index)
        if rounds < 1:
            raise DataError(f"rounds={rounds}: expected the pairs of each picture, 1 or more.")
        if len(self._members) < 2 or max(map(len, self._members.values())) < 2:
            raise DataError(
                f"{len(self.labels)} pictures of {len(self._members)} classes make no pairs: expected two classes "
                "or more, and two pictures of one. Add some, or hold more out for validation."
            )
        every = range(len(self.labels))
        self._firsts = [index for index in every if not fixed or len(self._members[self.labels[index]]) > 1]
        super().__init__(source, transform)

    def __len__(self) -> int:
        """The number of pairs in one pass."""
        return self.rounds * len(self._firsts)

    def __getitem__(self, index: int) -> Batch:
        """Pair `index`; raises IndexError beyond the length."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"pair {index} of {len(self)}")
        index %= len(self)
        number, first = divmod(index, len(self._firsts))
        chance = torch.Generator().manual_seed(index) if self.fixed else torch.default_generator
        alike = (first + number) % 2 == 1 if self.fixed else bool(torch.rand((), generator=chance) < 0.5)
        place, (picture,) = self.read(self._firsts[first])
        other, (partner,) = self._read_other(place, alike, chance)
        shown = [images.to_tensor(self.transform(each)[0]) for each in (picture, partner)]
        return Batch(
            torch.cat(shown),
            torch.tensor(int(self.labels[place] == self.labels[other])),
            f"{self.source.names[place]} | {self.source.names[other]}",
        )

    def replaced(self, index: int) -> bool:
        """Whether the pair's first picture was found unreadable, so that asking for it gives another pair."""
        return super().replaced(self._firsts[index % len(self._firsts)])

    def _read_other(self, place: int, alike: bool, chance: torch.Generator) -> tuple[int, tuple[Any, ...]]:
        """Read a picture of the same class as that at `place`, or of another."""
        own = self.labels[place]
        for _ in range(_TRIES):
            kin = [index for index in self._members[own] if index != place]
            if not (alike and kin):
                others = [label for label in self._members if label != own]
                kin = self._members[others[int(torch.randint(len(others), (), generator=chance))]]
            other, pictures = self.read(kin[int(torch.randint(len(kin), (), generator=chance))])
            if other != place:  # as it is where the one drawn cannot be read, and this is the next one
                return other, pictures
        raise DataError(
            f"{self.source.names[place]} has no readable partner. Add pictures, or replace the broken ones."
        )


def open_same(
    root: str | Path | None,
    *,
    labels: LabelOf | str | Path | None = None,
    size: Size = 64,
    augment: Transform | None = None,
    prepare: Transform | None = None,
    validation: float = 0.25,
    rounds: int = 4,
    keep: int = 0,
) -> tuple[SamePairs, SamePairs]:
    """Open training and validation pairs, in which no class is in both: what is validated was never seen.

    Args:
        root: the data set's folder, laid out as `open_classes` has it; None for crops of the embedded
            photographs, of which are to be told whether both are of one photograph (there, the validation's
            crops share no pixel with the training's, but the photographs are the same).
        labels: see `open_classes`.
        size: side of the squares, or (height, width), in pixels.
        augment: what training pictures go through; `Augment(size)` when None.
        prepare: what validation pictures go through; `Centre(size)` when None.
        validation: the share of classes held out, by a hash of their names, where no val/ beside train/ says
            which.
        rounds: pairs of each validation picture.
        keep: MiB of training pictures that stay decoded in memory, in each worker.

    Raises:
        DataError: the folder does not hold what is described above, or too little to make pairs.
    """
    train: Labelled
    held_out: Labelled
    if root is None:
        train, held_out = (_named_by_photograph(source) for source in open_photographs())
        augment = augment or Augment(size, scale=(0.3, 0.6))
    else:
        train, held_out = _classes_apart(root, labels, validation)
    source: Source = Kept(train, keep) if keep else train
    return (
        SamePairs(source, train.labels, augment or Augment(size)),
        SamePairs(held_out, held_out.labels, prepare or Centre(size), fixed=True, rounds=rounds),
    )


def _classes_apart(
    root: str | Path, labels: LabelOf | str | Path | None, validation: float
) -> tuple[Labelled, Labelled]:
    given = find_classes(root, labels)
    if len(given) == 2:
        train, held_out = given
        both = sorted(set(train.labels) & set(held_out.labels))
        if both:
            warnings.warn(
                f"class {', '.join(both[:_NAMED])} is in training and in validation: how well classes are "
                "compared that were never seen is then not known",
                stacklevel=3,
            )
        return train, held_out
    (whole,) = given
    kept = set(split(sorted(set(whole.labels)), validation, least=2)[0])
    of = dict(zip(whole.names, whole.labels, strict=True))
    return whole.select([n for n in of if of[n] in kept]), whole.select([n for n in of if of[n] not in kept])


def _named_by_photograph(source: Any) -> Arrays:
    """The embedded photographs' samples, whose names begin with their photograph's."""
    return Arrays(source.names, source.pictures, [name.split("-")[0] for name in source.names])
