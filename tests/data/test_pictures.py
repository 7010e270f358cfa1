import numpy as np
import pytest
import torch

from gangen import images
from gangen.data import FromNoise, open_pictures, readable, stained_glass
from gangen.errors import DataError, StorageError
from gangen.train.feed import Feed
from tests.data.pictures import landscape, write


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, [f"{number:02d}.png" for number in range(12)], lambda number: landscape(number, (24, 20)))
    return tmp_path


def batches(folder, *, count=4, start=0, seed=0, **options):
    train, _ = open_pictures(folder, size=16)
    feed = Feed(FromNoise(train, 8), 4, seed=seed, start=start, **options)
    taken = [next(feed) for _ in range(count)]
    feed.close()
    return taken


def test_pictures_are_their_own_targets(folder):
    train, held_out = open_pictures(folder, size=16)
    assert len(train) + len(held_out) == 12
    assert len(held_out) >= 1
    batch = train[0]
    assert batch.input.shape == (3, 16, 16)
    assert torch.equal(batch.input, batch.target)


def test_noise_is_standard_normal_and_its_shape_is_told(folder):
    train, _ = open_pictures(folder, size=16)
    data = FromNoise(train, 50)
    torch.manual_seed(0)
    noise = torch.stack([data[i % len(data)].input for i in range(60)])
    assert noise.shape == (60, 50)
    assert abs(noise.mean()) < 0.1
    assert abs(noise.std() - 1) < 0.1
    assert data[0].target.shape == (3, 16, 16)
    with pytest.raises(DataError, match="latent=0"):
        FromNoise(train, 0)


def test_the_noise_of_a_sample_depends_on_seed_pass_and_sample_alone(folder):
    one = batches(folder)
    torch.rand(5)  # whatever else draws numbers
    with_workers = batches(folder, workers=2)
    assert all(torch.equal(a.input, b.input) and a.name == b.name for a, b in zip(one, with_workers, strict=True))
    halves = [batches(folder, rank=rank, world=2, count=2) for rank in (0, 1)]
    assert torch.equal(one[1].input, halves[1][0].input)  # the second process takes each second batch
    assert torch.equal(batches(folder, start=8, count=1)[0].input, one[2].input)  # a resumed run
    assert not torch.equal(batches(folder, seed=1, count=1)[0].input, one[0].input)
    # In another pass the same picture gets other noise.
    seen = {}
    for batch in batches(folder, count=6):
        for name, noise in zip(batch.name, batch.input, strict=True):
            assert all((noise != other).any() for other in seen.get(name, []))
            seen.setdefault(name, []).append(noise)
    assert max(len(noises) for noises in seen.values()) >= 2


def test_unreadable_pictures_are_named(folder):
    train, _ = open_pictures(folder, size=16)
    name = train.source.names[1]
    (folder / name).write_text("no picture")
    data = FromNoise(train, 8)
    with pytest.warns(UserWarning, match=name):
        data[1]
    assert data.skipped() == [name]
    assert data.fingerprint() == train.fingerprint()


def test_stained_glass_is_colourful_leaded_and_the_same_each_time():
    window = np.asarray(stained_glass(96, pieces=6)).astype(int)
    assert window.shape == (96, 96, 3)
    assert (window == np.asarray(stained_glass(96, pieces=6))).all()
    assert (window != np.asarray(stained_glass(96, pieces=6, seed=1))).any()
    assert (window.max(axis=2) - window.min(axis=2)).mean() > 60
    assert 0.02 < (window.max(axis=2) < 60).mean() < 0.4  # lead


def test_storage_that_fails_for_a_while_costs_no_picture(folder, monkeypatch):
    train, _ = open_pictures(folder, size=16)
    monkeypatch.setattr(readable, "PATIENCE", (0.0, 0.0))
    read, troubles = images.read, [2]

    def failing(path, *rest):
        if troubles[0]:
            troubles[0] -= 1
            raise StorageError(f"cannot read {path}: Stale file handle.")
        return read(path, *rest)

    monkeypatch.setattr(images, "read", failing)
    with pytest.warns(UserWarning, match="Stale file handle"):
        assert train[0].name == train.source.names[0]
    assert train.skipped() == []
    troubles[0] = 3  # this one alone, each time
    with pytest.warns(UserWarning, match="takes its place"):
        assert train[0].name == train.source.names[1]
    assert train.skipped() == [train.source.names[0]]
    train.unreadable[:] = 0
    troubles[0] = 99
    with pytest.raises(StorageError, match="Stale file handle"), pytest.warns(UserWarning, match="Trying"):
        train[0]
    assert train.skipped() == []
