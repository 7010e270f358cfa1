"""Data sets for turning one picture into another: each sample an input and the target that belongs to it."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from PIL import Image

from gangen.data.augment import Augment, Centre, Transform
from gangen.data.batch import Batch
from gangen.data.prepare import Draw, Prepare
from gangen.data.readable import Readable
from gangen.data.sets import open_sets
from gangen.data.sketch import sketch
from gangen.data.sources import Arranged, Halves, Kept, Source
from gangen.data.streams import Stream
from gangen.errors import DataError

_NAMED = 3  # how many pictures below the crop's size are named in a warning; all are counted


class Pairs(Readable):
    """A map-style data set of (input, target) pairs.

    `dataset[index]` is a `Batch` without the leading dimension. It depends on the index and on torch's global
    generator alone, so a trainer that seeds that generator before each sample gets the same samples whatever
    the number of workers. Pictures that cannot be read are replaced and counted, see `Readable`.

    Args:
        source: where the pictures come from: samples of two pictures, or of one with `draw`.
        transform: what a sample's pictures go through together, before drawing, such as `Augment`.
        size: side of the crop in pixels, to tell which pictures are smaller and so are enlarged; 0 for no crop.
        draw: makes the input from the target, for sources of single pictures.
        scale: by how much the targets are larger than the inputs.

    Raises:
        DataError: not one sample can be read. This is found out at once, by reading until one can.
    """

    enlarged: torch.Tensor
    """(len,) uint8 in memory shared with workers: 1 where a picture was smaller than the crop"""

    def __init__(
        self, source: Source, transform: Transform, *, size: int, draw: Draw | None = None, scale: int = 1
    ) -> None:
        self.prepare = Prepare(transform, draw, scale)
        self.size = size
        self.enlarged = torch.zeros(len(source.names), dtype=torch.uint8).share_memory_()
        super().__init__(source, transform)

    def __getitem__(self, index: int) -> Batch:
        """Sample `index`, or the next readable one after it (the first follows the last).

        Raises:
            IndexError: the index is not below the length.
            DataError: not one sample can be read, or input and target are not as `scale` says.
        """
        index, pictures = self.read(index)
        if min(pictures[-1].size) < self.size:
            self._note_enlarged(index, pictures[-1])
        return self.prepare(pictures, self.source.names[index])

    def _note_enlarged(self, index: int, picture: Image.Image) -> None:
        if self.enlarged[index]:
            return
        if int(self.enlarged.sum()) < _NAMED:
            warnings.warn(
                f"{self.source.names[index]} is {picture.width}x{picture.height}, smaller than the crop of "
                f"{self.size}, and is enlarged (after {_NAMED} such pictures the rest are only counted)",
                stacklevel=3,
            )
        self.enlarged[index] = 1


def open_pairs(
    root: str | Path | None,
    *,
    input_folder: str | Path | None = None,
    target_folder: str | Path | None = None,
    side_by_side: Halves | None = None,
    draw: Draw | None = None,
    size: int = 64,
    augment: Transform | None = None,
    prepare: Transform | None = None,
    validation: float = 0.1,
    validation_folder: str | Path | None = None,
    scale: int = 1,
    keep: int = 0,
    always_draw: bool = False,
) -> tuple[Pairs | Stream, Pairs]:
    """Open training and validation pairs.

    What is taken for a pair:

    - with `input_folder` and `target_folder`: two files of equal path in these folders, but for the suffix;
    - with `side_by_side`: the two halves of each picture;
    - from shards of pairs, and from a data set of the hub with columns of pairs: these pairs;
    - else: each picture as the target, and what `draw` makes of it as the input;
    - without a `root`: the last, on crops of the embedded photographs (see `open_photographs`).

    What is taken for validation: all of `validation_folder`, which is laid out like root; else val/, valid/ or
    validation/ beside train/, right in `root` (`root/train/INPUT`) or else inside the two folders
    (`root/INPUT/train`); where there is none, a share of the names by hash (see `split`). Validation samples are
    the central squares, unless `prepare` says otherwise. Whatever is random about `draw` is decided for them by
    the seed and their number, since whoever validates asks for them as of the first pass (see
    `gangen.train.feed`).

    Args:
        root: the data set's folder; a folder or URL of shards (see `open_shards`); hf:NAME or stream:PLACE, to be
            streamed (see `open_streamed`); or None for the embedded photographs.
        input_folder: the inputs' folder inside root, such as "sketch"; an absolute path may lie elsewhere. Of a
            data set on the hub, the column.
        target_folder: the targets' folder, likewise.
        side_by_side: "input-left" or "input-right".
        draw: makes inputs from targets; a line drawing (`sketch`) when None.
        size: side of the samples in pixels.
        augment: what training samples go through; when None, `Augment(size)`, with crops of 0.3 to 0.6 of the
            shorter side for the embedded photographs.
        prepare: what validation samples go through; `Centre(size)` when None.
        validation: the share of names held out where no folder says which.
        validation_folder: a folder for validation alone; all other pictures are for training.
        scale: by how much the targets are larger than the inputs, for super-resolution.
        keep: MiB of training pictures that stay decoded in memory, in each worker; of no effect on streams.
        always_draw: draw inputs also where shards or the hub have pairs, from the targets, for what learns from
            nothing else, such as a colorization.

    Returns:
        Training samples, a map-style data set or a `Stream`, and those for validation.

    Raises:
        DataError: the folders do not hold what is described above, or the arguments contradict each other.
    """
    both = input_folder is not None and target_folder is not None
    if (input_folder is None) != (target_folder is None):
        raise DataError(f"input_folder={input_folder} and target_folder={target_folder}: give both or neither.")
    if side_by_side not in (None, "input-left", "input-right"):
        raise DataError(f'side_by_side={side_by_side!r}: expected "input-left" or "input-right".')
    if sum([both, side_by_side is not None, draw is not None]) > 1:
        raise DataError("pairs come from two folders, or from halves, or are drawn: give one of these only.")
    if root is None and (both or side_by_side is not None):
        raise DataError("the embedded photographs are no pairs: name the folder of your pictures with --data.")

    opened = open_sets(
        root,
        Arranged(input_folder, target_folder, side_by_side, scale),
        validation=validation,
        validation_folder=validation_folder,
        always_draw=always_draw,
    )
    made = None if opened.paired else draw or sketch
    if root is None:
        augment = augment or Augment(size, scale=(0.3, 0.6))
    varied = augment or Augment(size)
    train: Pairs | Stream
    if opened.training is not None:
        source = Kept(opened.training, keep) if keep else opened.training
        train = Pairs(source, varied, size=size, draw=made, scale=scale)
    elif opened.chunks is not None:
        train = Stream(opened.chunks, Prepare(varied, made, scale), halves=side_by_side, scale=scale)
    unvaried = prepare or Centre(size)
    return train, Pairs(opened.held_out, unvaried, size=0 if prepare else size, draw=made, scale=scale)
