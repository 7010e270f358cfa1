"""The stream of batches: endless, the same for any number of workers, and able to begin anywhere."""

from __future__ import annotations

import ctypes
import hashlib
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from gangen.errors import DataError, UserError
from gangen.train.interrupt import SIGNALS

_DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of Linux's prctl.h."""


class Feed:
    """Batches of `data`, pass after pass, each pass in a new order.

    The samples of all passes form one endless row. The k-th batch of `world` processes together is the k-th
    stretch of `batch_size * world` samples of that row, and each process takes its own part of it; a batch may
    hold the end of one pass and the beginning of the next, so none is short. What is random about a sample is
    drawn from (seed, pass, sample number) alone.

    Args:
        data: a map-style data set.
        batch_size: samples a batch and process.
        start: where in the row to begin, in samples (over all processes).
        device: where the batches' tensors go.

    Attributes:
        position: samples that have been taken, over all processes.
        waited: seconds that were spent waiting for batches.
    """

    def __init__(
        self,
        data: Dataset[Any],
        batch_size: int,
        *,
        seed: int,
        start: int = 0,
        workers: int = 0,
        rank: int = 0,
        world: int = 1,
        device: torch.device | str = "cpu",
    ) -> None:
        length = len(data)  # type: ignore[arg-type]
        if length == 0:
            raise DataError("the data set is empty; nothing can be learned from it")
        if batch_size < 1:
            raise DataError(f"the batch size is at least 1, not {batch_size}")
        self.position, self.waited = start, 0.0
        self._stride = batch_size * world
        self._device = torch.device(device)
        loader: DataLoader[Any] = DataLoader(
            Seeded(data, seed),
            batch_sampler=_Row(length, batch_size, seed, start, rank, world),
            num_workers=workers,
            collate_fn=collate,
            pin_memory=self._device.type == "cuda",
            worker_init_fn=follower(),
            # The loader would draw from the global generator, which must not depend on when it was made.
            generator=torch.Generator(),
        )
        self._batches = iter(loader)

    def __iter__(self) -> Feed:
        return self

    def __next__(self) -> Any:
        begun = time.perf_counter()
        batch = next(self._batches)
        self.waited += time.perf_counter() - begun
        if isinstance(batch, UserError):
            raise batch
        self.position += self._stride
        return to_device(batch, self._device)

    def close(self) -> None:
        """Let the workers go."""
        del self._batches


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


@contextmanager
def seeded(*key: int) -> Iterator[None]:
    """Seed torch's (CPU), Python's and numpy's global generators from `key` within this block."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    value = int.from_bytes(digest, "little") >> 1
    saved = random.getstate(), np.random.get_state()  # noqa: NPY002 (the generator that others use)
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would reseed the accelerators as well, and they are not put back.
        torch.default_generator.manual_seed(value)
        random.seed(value)
        np.random.seed(value % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(saved[0])
            np.random.set_state(saved[1])  # noqa: NPY002


def collate(samples: list[Any]) -> Any:
    """torch's `default_collate`, unless a sample is an error: then that."""
    return next((s for s in samples if isinstance(s, UserError)), None) or default_collate(samples)


def to_device(batch: Any, device: torch.device) -> Any:
    """`batch` with its tensors on `device`; tuples (named ones too), lists and dicts are followed."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(to_device(item, device) for item in batch))
    if isinstance(batch, (list, tuple)):
        return type(batch)(to_device(item, device) for item in batch)
    if isinstance(batch, dict):
        return {key: to_device(value, device) for key, value in batch.items()}
    return batch


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
        with seeded(self.seed, passes):
            return torch.randperm(self.length).tolist()


def follower() -> Callable[[int], None]:
    """The first act of each worker of this process: leave signals to it, and share its fate.

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
    if parent is not None and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # too late for that
            os._exit(1)
