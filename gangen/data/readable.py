"""Data sets that survive pictures which cannot be read."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch.utils.data import Dataset

from gangen import images
from gangen.data.augment import Transform, needed
from gangen.data.batch import Batch
from gangen.data.remote import PATIENCE
from gangen.data.sources import Source
from gangen.errors import DataError, PictureError, StorageError

Given = TypeVar("Given")
Read = TypeVar("Read")


class Readable(Dataset[Batch]):
    """The part that map-style data sets of gangen share: their source, and what to do where it fails.

    A picture that cannot be read does not end a training: the next readable sample takes its place, it is named in
    one warning, and `skipped()` lists it, also where a worker process met it.

    Args:
        source: where the pictures come from.
        transform: what they will go through, which may say how large they need to be read (`Augment.enough`);
            None to read them whole.

    Raises:
        DataError: not one sample can be read. This is found out at once, by reading until one can.
    """

    unreadable: torch.Tensor
    """(len,) uint8 in memory shared with workers: 1 where a sample turned out to be unreadable"""

    def __init__(self, source: Source, transform: Transform | None = None) -> None:
        self.source = source
        self._enough = needed(transform)
        self.unreadable = torch.zeros(len(source.names), dtype=torch.uint8).share_memory_()
        self.read(0)

    def __len__(self) -> int:
        """The number of samples, unreadable ones included."""
        return len(self.source.names)

    def replaced(self, index: int) -> bool:
        """Whether sample `index` was found unreadable, so that asking for it gives another one."""
        return bool(self.unreadable[index])

    def skipped(self) -> list[str]:
        """Names of the samples found unreadable so far, by this process and its workers."""
        return [self.source.names[index] for index in self.unreadable.nonzero().flatten().tolist()]

    def fingerprint(self) -> str:
        """A hash that changes when the data do, for a run's config."""
        return self.source.fingerprint()

    def read(self, start: int) -> tuple[int, tuple[Any, ...]]:
        """Read sample `start`, or the next readable one (the first follows the last); its index and its pictures.

        Raises:
            IndexError: the index is not below the length.
            DataError: not one sample can be read.
            StorageError: the storage failed, again and again, for two samples in a row: that must not pass for
                damaged pictures. Where the next one can be read, it was this one that is damaged.
        """
        count = len(self.source.names)
        if not -count <= start < max(1, count):
            raise IndexError(f"sample {start} of {count}")
        cause: PictureError | None = None
        out_of_reach: tuple[int, StorageError] | None = None
        for step in range(count):
            index = (start + step) % count
            if self.unreadable[index]:
                continue
            try:
                with images.reduced(self._enough):
                    pictures = patiently(self.source.read, index)
            except StorageError as error:
                if out_of_reach:
                    raise
                out_of_reach = index, error
            except PictureError as error:
                cause = error
                self._leave_out(index, error)
            else:
                if out_of_reach:
                    self._leave_out(*out_of_reach)
                return index, pictures
        if out_of_reach:
            raise out_of_reach[1]
        raise DataError(f"none of the {count} samples can be read; {cause or 'the warnings above say why'}")

    def _leave_out(self, index: int, error: PictureError) -> None:
        self.unreadable[index] = 1
        warnings.warn(f"{error} The next readable sample takes its place.", stacklevel=4)


def patiently(read: Callable[[Given], Read], given: Given) -> Read:
    """What `read` makes of what is given; where the storage fails it is tried again, with a warning, some times.

    Raises:
        StorageError: the storage failed each time.
    """
    for seconds in (*PATIENCE, None):
        try:
            return read(given)
        except StorageError as error:
            if seconds is None:
                raise
            warnings.warn(f"{error} Trying in {seconds:g} s.", stacklevel=4)
            time.sleep(seconds)
    raise AssertionError("the last time has no seconds to wait")


class Careful:
    """Reads one thing after another, and tells pictures that are damaged from storage that fails, as `Readable`.

    Each is tried some times. Where one still cannot be reached it is taken for damaged, a PictureError; where two
    in a row cannot, it is the storage, a StorageError.
    """

    def __init__(self) -> None:
        self._out_of_reach = False

    def __call__(self, read: Callable[[Given], Read], given: Given) -> Read:
        """What `read` makes of what is given.

        Raises:
            StorageError: neither this nor what came before could be reached.
            PictureError: it cannot be read.
        """
        try:
            found = patiently(read, given)
        except StorageError as error:
            if self._out_of_reach:
                raise
            self._out_of_reach = True
            raise PictureError(str(error)) from error
        self._out_of_reach = False
        return found
