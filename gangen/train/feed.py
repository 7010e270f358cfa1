"""The stream of batches: endless, the same for any number of workers, and able to begin anywhere."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from multiprocessing.util import Finalize
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from gangen.data.streams import Place, Stream
from gangen.errors import DataError, UserError
from gangen.seeding import derived, seeded
from gangen.train.ahead import Ahead
from gangen.train.interrupt import SIGNALS
from gangen.train.streaming import Lanes, Position

_DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of Linux's prctl.h."""
_SWITCH_SECONDS = 1e-4
"""How long a worker's threads keep each other waiting; 5 ms by default. A batch's tensors are fetched one by one
from a thread of the worker, which is in the midst of the next batch by then."""


class Feed:
    """Batches of `data`, pass after pass, each pass in a new order.

    The samples of all passes form one endless row. The k-th batch of `world` processes together is the k-th
    stretch of `batch_size * world` samples of that row, and each process takes its own part of it; a batch may
    hold the end of one pass and the beginning of the next, so none is short. What is random about a sample is
    drawn from (seed, pass, sample number) alone. A `Stream` is read in its own order, see there.

    Args:
        data: a map-style data set, or a `Stream`.
        batch_size: samples a batch and process.
        start: where to begin: a `position`.
        device: where the batches' tensors go.

    Attributes:
        position: samples that have been taken, over all processes; of a stream, see `gangen.train.streaming`.
        taken: samples that all processes have taken since it was opened.
        waited: seconds that were spent waiting for batches.
    """

    def __init__(
        self,
        data: Dataset[Any] | Stream,
        batch_size: int,
        *,
        seed: int,
        start: int | Position = 0,
        workers: int = 0,
        rank: int = 0,
        world: int = 1,
        device: torch.device | str = "cpu",
    ) -> None:
        if batch_size < 1:
            raise DataError(f"the batch size is at least 1, not {batch_size}")
        self.position, self.taken, self.waited = start, 0, 0.0
        self._stride = batch_size * world
        self._device = torch.device(device)
        self._lanes: Lanes | None = None
        options: dict[str, Any] = {
            "pin_memory": self._device.type == "cuda",
            "worker_init_fn": follower(),
            # The loader would draw from the global generator, which must not depend on when it was made.
            "generator": torch.Generator(),
        }
        loader: DataLoader[Any]
        if isinstance(start, dict) != isinstance(data, Stream) and start:
            raise DataError(
                "the data are streamed and were not, or the other way round, so that there is no place to go on "
                "from. Name the data as they were, or start a new run."
            )
        if isinstance(data, Stream):
            self._lanes = Lanes(data, batch_size, seed, start if isinstance(start, dict) else None, rank, world)
            self.position = self._lanes.position
            readers = self._lanes.readers(workers)
            loader = DataLoader(self._lanes, batch_size=None, num_workers=readers, collate_fn=_same, **options)
        else:
            length = len(data)  # type: ignore[arg-type]
            if length == 0:
                raise DataError("the data set is empty; nothing can be learned from it")
            row = _Row(length, batch_size, seed, int(start), rank, world)  # type: ignore[arg-type]
            seeds = Seeded(data, seed)
            loader = DataLoader(seeds, batch_sampler=row, num_workers=workers, collate_fn=collate, **options)
        batches = iter(loader)
        self._batches = [Ahead(batches) if loader.num_workers and not loader.pin_memory else batches]
        # The workers heed no signal, so whoever waited for them at the program's end would wait for ever.
        self._let_go = Finalize(self, _release, (self._batches, batches), exitpriority=10)

    def __iter__(self) -> Feed:
        return self

    def __next__(self) -> Any:
        begun = time.perf_counter()
        batch = next(self._batches[0])
        self.waited += time.perf_counter() - begun
        if isinstance(batch, UserError):
            try:
                raise batch
            finally:
                del batch  # or the error would keep this frame, and with it the workers
        self.taken += self._stride
        if self._lanes is not None:
            batch, lane, place, skipped = batch
            self._lanes.stream.note_skipped(skipped)
            self.position = self._lanes.advanced(lane, place)
        elif isinstance(self.position, int):
            self.position += self._stride
        return to_device(batch, self._device)

    def close(self) -> None:
        """Let the workers go."""
        self._let_go()


def _release(batches: list[Any], loaded: Any) -> None:
    """Forget the batches to come, and send the workers home that load them."""
    try:
        for each in batches:
            if isinstance(each, Ahead):
                each.close()
    finally:
        batches.clear()
        if hasattr(loaded, "_shutdown_workers"):
            # As torch's iterator does when nothing refers to it; but the traceback of an error may, up to the end.
            loaded._shutdown_workers()


def first_samples(data: Any, count: int, seed: int) -> Any:
    """A batch of the first samples, as of the first pass over the data; fewer where there are fewer.

    Raises:
        UserError: one of them is at fault.
    """
    if isinstance(data, Stream):
        samples = [sample for sample, _ in islice(data.lane(0, data.divided(1), seed, Place()), count)]
    else:
        samples = [Seeded(data, seed)[0, index] for index in range(min(count, len(data)))]
    batch = collate(samples)
    if isinstance(batch, UserError):
        raise batch
    return batch


class Seeded(Dataset[Any]):
    """`data`, indexed by (pass, number): torch's, Python's and numpy's generators are seeded from both.

    The generators are put back afterwards. A `UserError` is returned rather than raised, so that it crosses
    from a worker to the main process in one piece.
    """

    def __init__(self, data: Dataset[Any], seed: int) -> None:
        self.data, self.seed = data, seed

    def __getitem__(self, key: tuple[int, int]) -> Any:
        with seeded(self.seed, *key):
            try:
                return self.data[key[1]]
            except UserError as error:
                return error


def _same(batch: Any) -> Any:
    """What is left to collate of a stream's batches."""
    return batch


def collate(samples: list[Any]) -> Any:
    """torch's `default_collate`, unless a sample is an error: then that."""
    return next((s for s in samples if isinstance(s, UserError)), None) or default_collate(samples)


def to_device(batch: Any, device: torch.device) -> Any:
    """`batch` with its tensors on `device`; tuples (named ones too), lists and dicts are followed."""
    return over_tensors(batch, lambda tensor: tensor.to(device, non_blocking=True))


def over_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """`value` with its tensors changed; tuples (named ones too), lists and dicts are followed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(over_tensors(item, change) for item in value))
    if isinstance(value, (list, tuple)):
        return type(value)(over_tensors(item, change) for item in value)
    if isinstance(value, dict):
        return {key: over_tensors(item, change) for key, item in value.items()}
    return value


class _Row:
    """Batches of (pass, number), endlessly: one process's part of the row."""

    def __init__(self, length: int, size: int, seed: int, start: int, rank: int, world: int) -> None:
        self.length, self.size, self.seed = length, size, seed
        self.start, self.rank, self.world = start, rank, world

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        orders: dict[int, list[int]] = {}
        first = self.start + self.rank * self.size
        while True:
            places = [divmod(first + i, self.length) for i in range(self.size)]
            orders = {p: orders.get(p) or self._order(p) for p in {p for p, _ in places}}
            yield [(p, orders[p][i]) for p, i in places]
            first += self.size * self.world

    def _order(self, passes: int) -> list[int]:
        # By a generator of its own: a thread may ask for it while others draw from the process's.
        own = torch.Generator().manual_seed(derived(self.seed, passes))
        return torch.randperm(self.length, generator=own).tolist()


def follower() -> Callable[[int], None]:
    """The first act of each worker of this process: leave signals to it, share its fate, hand over at once.

    Ctrl-C reaches every process of a terminal; a worker that died of it would spoil the orderly end. One whose
    parent was killed would wait for work for some seconds more, or for ever if that came before it had begun;
    Linux ends it at once (prctl(2), PR_SET_PDEATHSIG).
    """
    # Started in another way, workers are not this process's children but those of a server that outlives it.
    children = multiprocessing.get_start_method() == "fork"
    return partial(_follow, os.getpid() if children else None)


def _follow(parent: int | None, _: int) -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    sys.setswitchinterval(_SWITCH_SECONDS)
    if parent is not None and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # too late for that
            os._exit(1)
