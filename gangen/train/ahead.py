"""Fetching the next batch by a thread, while the present one is learned from."""

from __future__ import annotations

from collections.abc import Iterator
from queue import SimpleQueue
from threading import Thread, current_thread
from typing import Any


class Ahead:
    """The items of an iterator, each fetched by a thread as soon as the one before has been taken.

    A worker of torch's `DataLoader` hands over a batch tensor by tensor, and has to answer for each. Where all
    cores are busy it answers late, which costs milliseconds a batch, though the batch has long been ready. (With
    pinned memory torch has such a thread itself.)

    Args:
        items: only the thread asks it for items. It must leave the process's random generators alone, which
            others draw from meanwhile.
    """

    def __init__(self, items: Iterator[Any]) -> None:
        self._items = items
        self._fetched: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
        self._wanted: SimpleQueue[None] = SimpleQueue()  # may be put into by what a garbage collection calls
        self._open = True
        self._thread = Thread(target=self._fetch, name="gangen's next batch", daemon=True)
        self._thread.start()
        self._wanted.put(None)

    def __iter__(self) -> Ahead:
        return self

    def __next__(self) -> Any:
        if not self._open:
            raise StopIteration
        item, error = self._fetched.get()
        if error is None:
            self._wanted.put(None)
            return item
        self._open = False
        try:
            raise error
        finally:
            del error  # or it would keep this frame, and this frame it, and with them the workers

    def close(self) -> None:
        """Fetch nothing any more. What is being fetched is waited for: workers leave after it, not before."""
        self._open = False
        self._wanted.put(None)
        if current_thread() is not self._thread:
            self._thread.join()

    def _fetch(self) -> None:
        while self._open:
            self._wanted.get()
            if self._open:
                try:
                    self._fetched.put((next(self._items), None))
                except BaseException as error:  # it is raised where the item is asked for
                    self._fetched.put((None, error))
                    return
