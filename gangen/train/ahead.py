"""Fetching the next batch by a thread, while the present one is learned from."""

from __future__ import annotations

from collections.abc import Iterator
from queue import SimpleQueue
from threading import Semaphore, Thread
from typing import Any

_PATIENCE = 2.0
"""Seconds that closing waits for an item that is being fetched."""


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
        self._wanted = Semaphore()
        self._open = True
        self._thread = Thread(target=self._fetch, name="gangen's next batch", daemon=True)
        self._thread.start()

    def __iter__(self) -> Ahead:
        return self

    def __next__(self) -> Any:
        item, error = self._fetched.get()
        if error is not None:
            self._fetched.put((None, error))  # for whoever asks again: nothing comes any more
            raise error
        self._wanted.release()
        return item

    def close(self) -> None:
        """Fetch nothing any more."""
        self._open = False
        self._wanted.release()
        self._thread.join(_PATIENCE)

    def _fetch(self) -> None:
        while self._wanted.acquire() and self._open:
            try:
                self._fetched.put((next(self._items), None))
            except BaseException as error:  # it is raised where the item is asked for
                self._fetched.put((None, error))
                return
