"""The thread that fetches the next batch: ahead, but not further; its errors; its end."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import islice
from threading import Thread

import pytest
import torch

from gangen.train.ahead import Ahead
from gangen.train.feed import Feed, _Row
from tests.conftest import ROOT
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


def test_an_error_comes_where_its_item_would_have_and_nothing_after_it() -> None:
    def torn() -> Iterator[int]:
        yield 0
        raise OSError("torn")

    ahead = Ahead(torn())
    assert next(ahead) == 0
    with pytest.raises(OSError, match="torn"):
        next(ahead)
    with pytest.raises(StopIteration):
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
    aheads = [feed._batches[0] for feed in (closed, forgotten)]
    left = [one for ahead in aheads for one in (ahead._thread, *ahead._items._workers)]
    del aheads, feed
    assert all(one.is_alive() for one in left)
    closed.close()
    del forgotten
    assert not any(one.is_alive() for one in left)


PROGRAM = """
import os, signal, time
from gangen.train.feed import Feed
from tests.train.toys import Toys

class Slow(Toys):
    def __getitem__(self, index):
        time.sleep({seconds})
        return super().__getitem__(index)

feed = Feed(Slow(), 2, seed=0, workers=2)
next(feed)
{end}
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seconds", "end", "status"),
    [
        (2, "feed.close()", 0),
        (2, "", 0),
        (0, "os.kill(feed._batches[0]._items._workers[0].pid, signal.SIGKILL); time.sleep(1); [*feed]", 1),
    ],
)
def test_a_program_ends_whatever_is_being_fetched(seconds: int, end: str, status: int) -> None:
    program = PROGRAM.format(seconds=seconds, end=end)
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=60, capture_output=True, text=True)
    assert ended.returncode == status
    assert ("is killed by signal" in ended.stderr) == bool(status)


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
