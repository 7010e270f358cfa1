import io
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice

import pytest
import torch

from gangen.data import (
    Augment,
    Batch,
    Prepare,
    Raw,
    ShardChunks,
    Stream,
    from_noise,
    itself,
    open_pairs,
    open_pictures,
    open_shards,
    pack,
    remote,
)
from gangen.errors import DataError
from gangen.train.feed import Feed, first_samples
from gangen.train.streaming import merged
from tests.data.pictures import landscape, write
from tests.train.toys import Toys


def file_of(number):
    content = io.BytesIO()
    landscape(number).save(content, "PNG")
    return content.getvalue()


@dataclass
class Memory:
    """Chunks in memory; what was read of them is counted."""

    sizes: list[int]
    damaged: tuple[str, ...] = ()
    breaks: dict[tuple[int, int], int] = field(default_factory=dict)
    read_of: Counter = field(default_factory=Counter)

    @property
    def count(self):
        return len(self.sizes)

    def read(self, chunk, start=0, step=1):
        for number in range(start, self.sizes[chunk], step):
            if self.breaks.get((chunk, number), 0):
                self.breaks[chunk, number] -= 1
                raise ConnectionResetError("by peer")
            name = f"{chunk}-{number}"
            self.read_of[name] += 1
            yield Raw(name, (b"no picture" if name in self.damaged else file_of(number),))

    def fingerprint(self):
        return str(self.sizes)


def stream(chunks, **options):
    options = {"window": 4} | options
    return Stream(chunks, Prepare(Augment(16), itself), **options)


def taken(data, count, size=2, **options):
    return list(islice(Feed(data, size, seed=3, **options), count))


def names(batches):
    return [name for batch in batches for name in batch.name]


def equal(one, other):
    return len(one) == len(other) and all(
        a.name == b.name and torch.equal(a.input, b.input) for a, b in zip(one, other, strict=True)
    )


SIZES = [5, 8, 3, 6, 7, 4, 9, 6, 5, 11]  # 64 samples in 10 chunks


def test_each_pass_gives_every_sample_once_in_an_order_of_its_own():
    data = stream(Memory(SIZES), lanes=1)
    both = names(taken(data, 64))
    assert len(set(both[:64])) == len(set(both[64:])) == 64
    assert both[:64] != both[64:]
    assert both[:64] != sorted(both[:64])
    assert names(taken(data, 64)) == both


@pytest.mark.parametrize("workers", [0, 1, 3, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 4))])
def test_the_samples_do_not_depend_on_the_workers(workers):
    alone = taken(stream(Memory(SIZES)), 40)
    assert equal(alone, taken(stream(Memory(SIZES)), 40, workers=workers))


@pytest.mark.parametrize("world", [2, 4])
def test_processes_share_a_stream_without_overlap(world):
    alone = taken(stream(Memory(SIZES), lanes=8), 24)
    shares = [taken(stream(Memory(SIZES), lanes=8), 24 // world, rank=rank, world=world) for rank in range(world)]
    # Batch m of all processes together is batch m of one
    assert equal(alone, [shares[m % world][m // world] for m in range(24)])


def test_in_a_pass_no_two_processes_read_one_chunk():
    shares = [Memory([4] * 16), Memory([4] * 16)]
    for rank, chunks in enumerate(shares):
        taken(stream(chunks), 16, rank=rank, world=2)
    read = [{name.split("-")[0] for name in chunks.read_of} for chunks in shares]
    assert [len(one) for one in read] == [8, 8]
    assert not read[0] & read[1]


@pytest.mark.slow
def test_no_sample_is_favoured_by_a_lane_of_few_chunks():
    data = Stream(Memory(SIZES), lambda pictures, name: Batch(torch.zeros(1), torch.zeros(1), name), window=4)
    seen = Counter(names(taken(data, 60, size=64)))
    by_chunk = [sum(seen[f"{chunk}-{n}"] for n in range(size)) / size for chunk, size in enumerate(SIZES)]
    assert max(by_chunk) < 1.4 * min(by_chunk)  # dealt once and for all, some are seen twice as often


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("begun", [1, 7, 30, 61])
def test_a_stream_goes_on_where_it_was_left(workers, begun):
    whole = taken(stream(Memory(SIZES)), begun + 30)
    feed = Feed(stream(Memory(SIZES)), 2, seed=3, workers=workers)
    for _ in range(begun):
        next(feed)
    chunks = Memory(SIZES)
    rest = taken(stream(chunks), 30, start=feed.position, workers=workers)
    assert equal(whole[begun:], rest)


def test_going_on_does_not_read_again_what_lies_before():
    feed = Feed(stream(Memory([100] * 8), window=16), 2, seed=3)
    for _ in range(8 * 40):  # 80 samples of each chunk
        next(feed)
    chunks = Memory([100] * 8)
    taken(stream(chunks, window=16), 1, start=feed.position)
    assert sum(chunks.read_of.values()) <= 32  # two windows


def test_other_processes_go_on_with_the_places_of_all():
    whole = taken(stream(Memory(SIZES)), 40)
    feeds = [Feed(stream(Memory(SIZES), lanes=8), 2, seed=3, rank=rank, world=2) for rank in (0, 1)]
    for _ in range(10):
        for feed in feeds:
            next(feed)
    position = merged([feed.position for feed in feeds])
    assert position["batches"] == 20
    assert equal(whole[20:], taken(stream(Memory(SIZES)), 20, start=position))
    four = [taken(stream(Memory(SIZES)), 5, start=position, rank=rank, world=4) for rank in range(4)]
    assert equal(whole[20:], [four[m % 4][m // 4] for m in range(20)])
    with pytest.raises(DataError, match="begun in 8 lanes, which 3 processes cannot share"):
        taken(stream(Memory(SIZES)), 1, start=position, world=3)


def test_lanes_may_outnumber_chunks():
    batches = taken(stream(Memory([40]), lanes=4), 20)
    middle = position_after(Memory([40]), 9, lanes=4)
    assert sorted(names(batches), key=lambda name: int(name[2:])) == [f"0-{number}" for number in range(40)]
    assert equal(batches[9:], taken(stream(Memory([40]), lanes=4), 11, start=middle))


def position_after(chunks, count, **options):
    feed = Feed(stream(chunks, **options), 2, seed=3)
    for _ in range(count):
        next(feed)
    return feed.position


def test_the_number_of_lanes_suits_the_processes():
    many, some, one = Memory([1] * 100), Memory([1] * 10), Memory([1])
    assert [stream(many).divided(world) for world in (1, 2, 3, 8)] == [8, 16, 24, 64]
    # No more than there are chunks, unless there are fewer chunks than processes
    assert [stream(some).divided(world) for world in (1, 2, 3, 8, 16)] == [8, 10, 9, 8, 16]
    assert [stream(one).divided(world) for world in (1, 2)] == [1, 2]
    with pytest.raises(DataError, match=r"in 4 lanes cannot be divided among 3 processes\. Set lanes=3"):
        stream(Memory([1]), lanes=4).divided(3)


def test_what_cannot_be_read_is_left_out_and_named():
    data = stream(Memory([6, 6], damaged=("0-1", "1-4")), lanes=1)
    with pytest.warns(UserWarning, match=r"cannot read 0-1: .*It is left out"):
        seen = names(taken(data, 5))
    assert set(seen) == {f"{chunk}-{number}" for chunk in (0, 1) for number in range(6)} - {"0-1", "1-4"}
    assert sorted(data.skipped()) == ["0-1", "1-4"]
    far = stream(Memory([6, 6], damaged=("0-1", "1-4")), lanes=1)
    feed = Feed(far, 2, seed=3, workers=1)
    for _ in range(5):
        next(feed)
    assert sorted(far.skipped()) == ["0-1", "1-4"]
    with pytest.raises(DataError, match="gave no sample that can be read"), pytest.warns(UserWarning, match="0-0"):
        taken(stream(Memory([1], damaged=("0-0",)), lanes=1), 1)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_stream_of_too_few_samples_is_refused(workers):
    with pytest.raises(DataError, match="too few for 8 lanes"):
        taken(stream(Memory([3]), lanes=8), 8, workers=workers)


def test_a_broken_connection_is_made_again(monkeypatch):
    monkeypatch.setattr(remote, "PATIENCE", (0.0, 0.0))
    whole = taken(stream(Memory(SIZES)), 30)
    with pytest.warns(
        UserWarning, match=r"from sample 2 on, cannot be read: ConnectionResetError: by peer\. Trying"
    ):
        broken = taken(stream(Memory(SIZES, breaks={(0, 2): 2, (3, 0): 1, (3, 4): 2})), 30)
    assert equal(whole, broken)
    warned = pytest.warns(UserWarning, match="Trying again")
    with (
        warned,
        pytest.raises(DataError, match=r"sample 2 on, .*: ConnectionResetError: by peer, 3 times\. --resume"),
    ):
        taken(stream(Memory(SIZES, breaks={(0, 2): 3})), 30)


def test_what_waiting_does_not_mend_ends_a_stream_at_once():
    class Gone(Memory):
        def read(self, chunk, start=0, step=1):
            raise FileNotFoundError(f"chunk-{chunk}.parquet")

    with pytest.raises(DataError, match=r"FileNotFoundError: chunk-\d\.parquet\. Is it still there"):
        taken(stream(Gone([5])), 1)


def test_more_workers_than_lanes_can_use_are_told_of():
    with pytest.warns(UserWarning, match="3 workers cannot share the 8 lanes of a process evenly: 2 read"):
        taken(stream(Memory(SIZES)), 1, workers=3)


def test_a_place_in_a_folder_is_none_in_a_stream():
    feed = Feed(stream(Memory(SIZES)), 2, seed=3)
    next(feed)
    with pytest.raises(DataError, match="the data are streamed and were not"):
        Feed(Toys(10), 2, seed=3, start=feed.position)
    with pytest.raises(DataError, match="the data are streamed and were not"):
        Feed(stream(Memory(SIZES)), 2, seed=3, start=8)


def test_first_samples_are_those_of_the_first_lane():
    data = stream(Memory(SIZES))
    first = first_samples(data, 2, seed=3)
    assert equal([first], taken(data, 1))


def test_shards_can_be_streamed(tmp_path):
    write(tmp_path / "pictures" / "train", [f"{number}.png" for number in range(20)])
    write(tmp_path / "pictures" / "val", ["a.png", "b.png"])
    pack(tmp_path / "pictures", tmp_path / "shards", shard_size=6000)
    train, held_out = open_pictures(f"stream:{tmp_path / 'shards'}", size=16)
    assert isinstance(train, Stream)
    loose, _ = open_pictures(tmp_path / "pictures", size=16)
    seen = {*names(taken(train, 40))}
    assert sorted(name.split(" in ")[0] for name in seen) == sorted(loose.source.names)
    assert [held_out[n].name for n in range(2)] == ["a.png", "b.png"]
    assert train.fingerprint() == open_shards(tmp_path / "shards")[0].fingerprint()
    noise = from_noise(train, 5)
    assert next(Feed(noise, 2, seed=3)).input.shape == (2, 5)


def test_a_damaged_shard_costs_a_stream_its_damaged_samples_alone(tmp_path):
    write(tmp_path / "pictures", [f"{number}.png" for number in range(4)])
    pack(tmp_path / "pictures", tmp_path / "shards")
    shards, _ = open_shards(tmp_path / "shards")
    shard = tmp_path / "shards" / "all-00000.tar"
    content = bytearray(shard.read_bytes())
    content[shards.places[1, 0, 1] + 60] ^= 1
    shard.write_bytes(content[: shards.places[3, 0, 1] + 9])
    found = list(ShardChunks(shards).read(0))
    assert [raw.trouble is None for raw in found] == [True, False, True, False]
    assert "checksum" in found[1].trouble
    assert "ends before it" in found[3].trouble


def test_a_stream_of_packed_pairs_knows_them(tmp_path):
    from gangen.data import Arranged

    for side in ("in", "out"):
        write(tmp_path / "pictures" / side, [f"{number}.png" for number in range(12)])
    pack(tmp_path / "pictures", tmp_path / "shards", Arranged("in", "out"))
    place = f"stream:{tmp_path / 'shards'}"
    paired, held_out = open_pairs(place, size=16, validation=0.3)
    assert len({*names(taken(paired, 20))}) == 12 - len(held_out)
    drawn, _ = open_pairs(place, draw=itself, size=16, validation=0.3, always_draw=True)
    sample = next(iter(drawn))
    assert torch.equal(sample.input, sample.target)
    given, _ = open_pairs(place, draw=itself, size=16, validation=0.3)  # only what has no input is drawn
    assert given.prepare.draw is None
    with pytest.raises(DataError, match="no shards"):
        open_pairs(f"stream:{tmp_path / 'pictures'}", size=16)
    with pytest.raises(DataError, match="shards know their pairs"):
        open_pairs(place, input_folder="in", target_folder="out", size=16)
