"""A stream's batches for one process: its lanes shared among workers, and the place in each, to go on from."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple
from itertools import islice
from typing import Any

from torch.utils.data import IterableDataset, default_collate, get_worker_info

from gangen.data.streams import Place, Stream
from gangen.errors import DataError, UserError

Position = dict[str, Any]
"""Where in a stream a training is: "lanes", their number; "batches", taken by all processes; "places", by lane."""


class Lanes(IterableDataset[Any]):
    """Batches of the lanes that belong to one process; each with its lane's number, the place behind it, and the
    names of samples that could not be read on the way.

    Batch m of all processes together comes from lane m modulo the number of lanes.

    Args:
        stream: where samples come from.
        batch_size: samples a batch.
        seed: of everything random.
        position: where to begin; None for the beginning.
        rank: of this process.
        world: how many processes there are.

    Attributes:
        position: as given, with the places of this process's lanes alone.

    Raises:
        DataError: the lanes cannot be divided among the processes.
    """

    def __init__(
        self, stream: Stream, batch_size: int, seed: int, position: Position | None, rank: int, world: int
    ) -> None:
        lanes = position["lanes"] if position else stream.divided(world)
        if lanes % world:
            raise DataError(
                f"the stream was begun in {lanes} lanes, which {world} processes cannot share. Go on with a "
                "number of processes that divides it."
            )
        batches = position["batches"] if position else 0
        own = {(batches + rank + turn * world) % lanes for turn in range(lanes // world)}
        places = {lane: place for lane, place in (position or {"places": {}})["places"].items() if lane in own}
        self.stream, self.batch_size, self.seed, self.rank, self.world = stream, batch_size, seed, rank, world
        self.position: Position = {"lanes": lanes, "batches": batches, "places": places}

    def readers(self, workers: int) -> int:
        """How many of so many workers can share this process's lanes evenly."""
        own = self.position["lanes"] // self.world
        found = max((count for count in range(1, workers + 1) if own % count == 0), default=0)
        if found < workers:
            warnings.warn(
                f"{workers} workers cannot share the {own} lanes of a process evenly: {found} read.", stacklevel=3
            )
        return found

    def __iter__(self) -> Iterator[tuple[Any, int, tuple[int, ...], list[str]] | UserError]:
        worker = get_worker_info()
        turn, step = (worker.id, worker.num_workers) if worker else (0, 1)
        lanes, first, places = (self.position[name] for name in ("lanes", "batches", "places"))
        begun: dict[int, Iterator[tuple[Any, Place]]] = {}
        told = 0
        while True:
            lane = (first + self.rank + turn * self.world) % lanes
            if lane not in begun:
                begun[lane] = self.stream.lane(lane, lanes, self.seed, Place(*places.get(lane, ())))
            try:
                samples, behind = zip(*islice(begun[lane], self.batch_size), strict=True)
            except UserError as error:  # which would cross from a worker to the main process in pieces
                while True:
                    yield error
            skipped = self.stream.skipped()
            yield default_collate(list(samples)), lane, astuple(behind[-1]), skipped[told:]
            told = len(skipped)
            turn += step

    def advanced(self, lane: int, place: Sequence[int]) -> Position:
        """The position once this process has taken its next batch, from `lane`, and each other one its own."""
        places: Mapping[int, Any] = {**self.position["places"], lane: list(place)}
        self.position = {**self.position, "batches": self.position["batches"] + self.world, "places": places}
        return self.position


def merged(positions: Sequence[Position | int]) -> Position | int:
    """One position from those of all processes, each of which knows the places in its own lanes."""
    first = positions[0]
    if isinstance(first, int):
        return first
    places = {lane: place for one in positions if isinstance(one, dict) for lane, place in one["places"].items()}
    return {**first, "places": places}
