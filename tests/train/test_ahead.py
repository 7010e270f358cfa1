"""The thread that fetches the next batch: ahead, but not further; its errors; its end."""

import sys
import threading
from collections.abc import Iterator
from itertools import islice
from threading import Thread

import pytest
import torch

from gangen.train.ahead import Ahead
from gangen.train.feed import Feed, _Row
from tests.train.toys import Toys


def test_the_next_item_is_fetched_meanwhile_and_none_beyond() -> None:
    asked = [threading.Event() for _ in range(4)]

    def counted() -> Iterator[int]:
        for number, event in enumerate(asked):
            event.set()
            yield number

    ahead = Ahead(counted())
    assert next(ahead) == 0
    assert asked[1].wait(10)
    assert not asked[2].wait(0.2)
    assert next(ahead) == 1
    assert asked[2].wait(10)
    ahead.close()


def test_an_error_comes_where_its_item_would_have_and_again() -> None:
    def torn() -> Iterator[int]:
        yield 0
        raise OSError("torn")

    ahead = Ahead(torn())
    assert next(ahead) == 0
    for _ in range(2):
        with pytest.raises(OSError, match="torn"):
            next(ahead)


def test_after_its_end_nothing_is_fetched_and_no_thread_is_left() -> None:
    items = iter(range(10))
    ahead = Ahead(items)
    assert next(ahead) == 0
    ahead.close()
    assert not ahead._thread.is_alive()
    assert next(items) <= 2


def test_a_feed_that_is_closed_or_forgotten_leaves_neither_thread_nor_worker() -> None:
    closed, forgotten = Feed(Toys(8), 2, seed=0, workers=1), Feed(Toys(8), 2, seed=0, workers=1)
    for feed in (closed, forgotten):
        next(feed)
    workers = [worker for feed in (closed, forgotten) for worker in feed._batches[0]._items._workers]
    assert all(worker.is_alive() for worker in workers)
    closed.close()
    del feed, forgotten
    assert not any(worker.is_alive() for worker in workers)
    assert "gangen's next batch" not in {thread.name for thread in threading.enumerate()}


def test_what_others_draw_meanwhile_does_not_change() -> None:
    """The thread orders the samples of each pass while a loss may draw its noise."""

    def drawn() -> list[float]:
        torch.manual_seed(0)
        return [float(torch.rand(())) for _ in range(20_000)]

    expected = drawn()
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        ordered = Thread(target=lambda: list(islice(_Row(2, 2, 0, 0, 0, 1), 2000)))
        ordered.start()
        found = drawn()
        ordered.join()
    finally:
        sys.setswitchinterval(before)
    assert found == expected
