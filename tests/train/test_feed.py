import random
import subprocess
import sys
from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch

from gangen.data import Batch
from gangen.errors import DataError
from gangen.train.feed import Feed
from tests.conftest import ROOT
from tests.train.toys import Toys


def names(feed: Feed, batches: int) -> list[str]:
    return [name for batch in islice(feed, batches) for name in batch.name]


def test_every_pass_holds_every_sample_once_in_a_new_order() -> None:
    seen = names(Feed(Toys(10), 5, seed=0), 6)
    passes = [seen[i : i + 10] for i in (0, 10, 20)]
    assert all(Counter(one) == Counter(f"toy-{i}" for i in range(10)) for one in passes)
    assert passes[0] != passes[1] != passes[2]


def test_no_batch_is_short_where_the_size_does_not_divide_the_data() -> None:
    batches = list(islice(Feed(Toys(10), 4, seed=0), 5))
    assert [len(batch.input) for batch in batches] == [4] * 5
    assert Counter(name for batch in batches for name in batch.name) == Counter({f"toy-{i}": 2 for i in range(10)})


@pytest.mark.parametrize("workers", [0, 2])
def test_a_feed_that_begins_later_gives_the_same_bits(workers: int) -> None:
    whole = list(islice(Feed(Toys(10), 4, seed=3), 7))
    part = list(islice(Feed(Toys(10), 4, seed=3, start=16, workers=workers), 3))
    for one, other in zip(whole[4:], part, strict=True):
        assert one.name == other.name
        assert torch.equal(one.input, other.input)


def test_two_processes_together_see_what_one_sees() -> None:
    one = [set(batch.name) for batch in islice(Feed(Toys(12), 6, seed=0), 4)]
    two = [
        [set(batch.name) for batch in islice(Feed(Toys(12), 3, seed=0, rank=rank, world=2), 4)] for rank in (0, 1)
    ]
    for whole, left, right in zip(one, *two, strict=True):
        assert left | right == whole
        assert not left & right


def test_a_sample_differs_from_pass_to_pass_and_leaves_the_generators_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    feed = Feed(Toys(1), 1, seed=0)
    first, second = next(feed), next(feed)
    assert not torch.equal(first.input, second.input)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("workers", [0, 2])
def test_every_kind_of_chance_comes_from_the_seed(workers: int) -> None:
    """torch's, Python's and numpy's: the same for any number of workers, new for each sample and pass."""

    class Chances(Toys):
        def __getitem__(self, index: int):  # type: ignore[no-untyped-def]
            drawn = [torch.rand(()).item(), random.random(), np.random.rand()]  # noqa: NPY002
            return Batch(torch.tensor(drawn), torch.zeros(1), str(index))

    alone = [batch.input for batch in islice(Feed(Chances(2), 2, seed=0), 2)]
    again = [batch.input for batch in islice(Feed(Chances(2), 2, seed=0, workers=workers), 2)]
    assert all(map(torch.equal, alone, again))
    assert all(column.unique().numel() == 4 for column in torch.cat(alone).T)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_of_the_data_arrives_in_one_piece(workers: int) -> None:
    class Broken(Toys):
        def __getitem__(self, index: int):  # type: ignore[no-untyped-def]
            raise DataError("toy-3.png is torn; replace it")

    with pytest.raises(DataError, match=r"^toy-3\.png is torn; replace it$"):
        next(Feed(Broken(), 2, seed=0, workers=workers))


def test_an_empty_data_set_is_refused() -> None:
    with pytest.raises(DataError, match="empty"):
        Feed(Toys(0), 2, seed=0)


PROGRAM = """
from gangen.errors import DataError
from gangen.train.feed import Feed
from tests.train.toys import Toys

class Broken(Toys):
    def __getitem__(self, index):
        raise DataError("torn")

feed = Feed(Broken(), 2, seed=0, workers=2)
try:
    next(feed)
except DataError as error:
    kept = error
"""


@pytest.mark.slow
def test_a_program_that_keeps_a_feed_ends() -> None:
    """Workers heed no signal; whoever waits for them at the end must have sent them home first."""
    subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, timeout=60, check=True)
