"""How contestants are timed: in turn, round after round, so that unrest meets all alike."""

from __future__ import annotations

import ctypes
import math
import multiprocessing
import os
import re
import resource
import statistics
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from gangen.train.memory import keep_freed_memory

GPU = torch.cuda.is_available()
"""Whether there is one; then it is what is measured."""
FLOAT32 = "TF32" if GPU else "float32"
"""What products of float32 are computed in, once `gangen.train.launch` was called."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_MAPS, _MAPPED = 65536, 32 * 2**20
"""The parameters of mallopt(3), and what glibc comes to by itself for a program with large tensors: as many
maps, for what is larger than that."""


@dataclass(frozen=True)
class Timing:
    """Seconds that one contestant took, round by round."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median round."""
        return statistics.median(self.seconds)

    def ratio(self, other: Timing) -> Ratio:
        """How many times as long `other` took, round by round."""
        return Ratio.of([theirs / ours for ours, theirs in zip(self.seconds, other.seconds, strict=True)])


@dataclass(frozen=True)
class Ratio:
    """A median of ratios, and where it lies with 95% confidence."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, ratios: list[float]) -> Ratio:
        """From one a round: the interval between two of them that holds the median with 95% confidence, or more.

        By order statistics: how many of n lie below the median is binomial. Of fewer than 6 there is none, and the
        least and the greatest are told.
        """
        ordered, lowest = sorted(ratios), 0
        outside = 2 * 0.5 ** len(ratios)
        while True:
            outside += 2 * math.comb(len(ratios), lowest + 1) * 0.5 ** len(ratios)
            if outside > 0.05:
                break
            lowest += 1
        return cls(statistics.median(ratios), ordered[lowest], ordered[-1 - lowest])

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.lowest:.2f} to {self.highest:.2f})"


def in_turn(
    contestants: Mapping[str, Callable[[], float | None]],
    rounds: int,
    warmup: int = 1,
    as_they_come: Collection[str] = (),
) -> dict[str, Timing]:
    """Let each work once in each round: those with memory as gangen keeps it, then those with it as it comes.

    Where there are both kinds, each works once untimed right before it is timed, so that none is timed on memory
    that was just given back, or on what another left.

    Args:
        contestants: what is timed, by name. One that gives seconds is believed: what else a round needs is not
            measured.
        rounds: how often each is timed.
        warmup: rounds before, which do not count.
        as_they_come: names of those who have memory as any Python program has it, rather than as
            `gangen.train.launch` sets it.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    kinds = [[name for name in contestants if (name in as_they_come) == usual] for usual in (False, True)]
    for turn in range(warmup + rounds):
        for usual, names in enumerate(kinds):
            if names and all(kinds):
                (memory_as_it_comes if usual else keep_freed_memory)()
            for name in names:
                if all(kinds):
                    contestants[name]()
                begun = now()
                told = contestants[name]()
                if turn >= warmup:
                    seconds[name].append(now() - begun if told is None else told)
    return {name: Timing(tuple(each)) for name, each in seconds.items()}


@dataclass(frozen=True)
class Apart:
    """What was measured of a contestant in a process of its own.

    Attributes:
        timing: of its rounds.
        gflop: GFLOP of a round.
        mebibytes: the most memory of its process; see `peak_memory`.
    """

    timing: Timing
    gflop: float
    mebibytes: float


def in_turn_apart(
    contestants: Mapping[str, Callable[[], Callable[[], float]]], rounds: int, warmup: int = 1
) -> dict[str, Apart]:
    """As `in_turn`, each in a process of its own, which only works when it has its turn.

    What one library sets there, such as how memory is kept and how many threads there are, neither helps nor
    hinders another.

    Args:
        contestants: each makes, in its process, what works and gives the seconds that count. They can be pickled.
        rounds: how often each is timed.
        warmup: rounds before, which do not count.
    """
    spawn = multiprocessing.get_context("spawn")
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    with ExitStack() as stack:
        pipes = {}
        for name, make in contestants.items():
            pipes[name], theirs = spawn.Pipe()
            process = spawn.Process(target=_take_turns, args=(make, theirs), daemon=True)
            process.start()
            theirs.close()  # so that reading ends with the process, whatever ends it
            stack.callback(process.kill)
        for turn in range(warmup + rounds):
            for name, pipe in pipes.items():
                pipe.send(False)
                took = pipe.recv()
                if turn >= warmup:
                    seconds[name].append(took)
        ended = {}
        for name, pipe in pipes.items():
            pipe.send(True)
            ended[name] = pipe.recv()
    return {name: Apart(Timing(tuple(each)), *ended[name]) for name, each in seconds.items()}


def _take_turns(make: Callable[[], Callable[[], float]], pipe: Any) -> None:
    """Be a contestant: at each False work and tell the seconds, at a True tell the memory and the GFLOP of it."""
    work = make()
    while not pipe.recv():
        if GPU:
            work()  # what is given back below is found again, which takes time
        took = work()
        give_back_memory()
        pipe.send(took)
    most = peak_memory()  # before the work is counted, which needs more
    pipe.send((giga_flop(work), most))


def give_back_memory() -> None:
    """Leave what torch keeps of a GPU's memory, but does not use, to other processes."""
    if GPU:
        torch.cuda.empty_cache()


def giga_flop(work: Callable[[], object]) -> float:
    """GFLOP of some work, as torch counts them, a multiply-add as two."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() / 1e9


def memory_as_it_comes() -> None:
    """Have glibc hand freed memory back as it would in a program that never said otherwise.

    It adapts its thresholds to what a program frees, up to 32 MiB; told once, it adapts no more. This is where
    it ends up with tensors that large: the fastest that it comes to by itself.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None and not any(name.startswith("MALLOC_") for name in os.environ):
        mallopt(_MMAP_MAX, _MAPS)
        mallopt(_MMAP_THRESHOLD, _MAPPED)
        mallopt(_TRIM_THRESHOLD, 2 * _MAPPED)
        ctypes.CDLL(None).malloc_trim(0)


def now() -> float:
    """The clock, once the GPU has done what it was given."""
    if GPU:
        torch.cuda.synchronize()
    return time.perf_counter()


def device() -> torch.device:
    """Where it is measured."""
    return torch.device("cuda" if GPU else "cpu")


def peak_memory() -> float:
    """MiB: the most that this process has had resident, or on a GPU the most that torch has given out."""
    if GPU:
        return torch.cuda.max_memory_allocated() / 2**20
    # getrusage would tell the most of the process that started this one, too, where that had more.
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text())[1]) / 1024  # type: ignore[index]
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
