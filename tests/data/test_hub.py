"""Data sets as the Hugging Face hub has them, from files on this machine."""

import io
from itertools import islice

import pytest
import torch

from gangen.data import HubChunks, Stream, open_hub, open_pairs, open_pictures
from gangen.errors import DataError
from gangen.train.feed import Feed
from tests.data.pictures import landscape, negative

datasets = pytest.importorskip("datasets", reason="streaming from the hub is an extra of its own")


def cell(picture):
    content = io.BytesIO()
    picture.save(content, "PNG")
    return {"bytes": content.getvalue(), "path": None}


def write_split(folder, split, rows, files=1, **columns):
    """A split in parquet files, as the hub keeps them."""
    features = datasets.Features({name: datasets.Image() for name in columns} | {"label": datasets.Value("int64")})
    for file in range(files):
        own = range(file, rows, files)
        table = {name: [cell(make(number)) for number in own] for name, make in columns.items()}
        data = datasets.Dataset.from_dict(table | {"label": list(own)}, features=features)
        data.to_parquet(folder / f"{split}-{file:05d}-of-{files:05d}.parquet")


def batches(data, count, **options):
    return list(islice(Feed(data, 2, seed=3, **options), count))


def values(tensor):
    return sorted({round(float(value)) for value in (tensor[:, 2].mean(dim=(1, 2)) + 1) * 127.5})


def test_a_data_set_of_the_hub_is_streamed(tmp_path):
    write_split(tmp_path, "train", 24, files=3, image=landscape)
    write_split(tmp_path, "validation", 4, image=lambda number: landscape(100 + number))
    write_split(tmp_path, "test", 4, image=lambda number: landscape(200 + number))
    train, held_out = open_pictures(f"hf:{tmp_path}", size=16)
    assert isinstance(train, Stream)
    alone = batches(train, 60)
    assert values(torch.cat([batch.target for batch in alone])) == list(range(24))
    assert values(torch.stack([held_out[n].target for n in range(len(held_out))])) == [100, 101, 102, 103]
    for workers in (1, 2):
        again = batches(train, 60, workers=workers)
        assert all(torch.equal(a.target, b.target) for a, b in zip(alone, again, strict=True))
    feed = Feed(train, 2, seed=3)
    for _ in range(7):
        next(feed)
    rest = batches(train, 53, start=feed.position)
    assert all(torch.equal(a.target, b.target) for a, b in zip(alone[7:], rest, strict=True))
    assert rest[0].name == alone[7].name


def test_columns_are_inputs_and_targets(tmp_path):
    columns = {"drawing": landscape, "photo": lambda number: negative(landscape(number))}
    write_split(tmp_path, "train", 80, files=2, **columns)
    train, held_out = open_pairs(f"hf:{tmp_path}", input_folder="drawing", target_folder="photo", size=16)
    batch = next(Feed(train, 2, seed=3))
    assert torch.allclose(batch.input, -batch.target, atol=0.02)
    # No split for validation: the first samples of the files are held out, and never learned from.
    assert len(held_out) == 64
    assert train.divided(1) == 2  # a lane for each file
    seen = values(torch.cat([batch.input for batch in batches(train, 24)]))
    assert len(seen) == 16
    assert not set(seen) & set(values(torch.stack([held_out[n].input for n in range(64)])))
    with pytest.raises(
        DataError, match=r"has 2 columns of pictures \(drawing, photo\): which are input and target"
    ):
        open_pairs(f"hf:{tmp_path}", size=16)
    with pytest.raises(DataError, match="has no column of pictures 'sketch', but drawing, photo"):
        open_pairs(f"hf:{tmp_path}", input_folder="sketch", target_folder="photo", size=16)


def test_columns_called_input_and_target_need_no_flags(tmp_path):
    write_split(tmp_path, "train", 80, input=landscape, target=lambda number: negative(landscape(number)))
    train, _ = open_pairs(f"hf:{tmp_path}", size=16)
    batch = next(Feed(train, 2, seed=3))
    assert torch.allclose(batch.input, -batch.target, atol=0.02)


def test_pictures_in_folders_are_streamed_by_their_paths(tmp_path):
    for number in range(100):
        landscape(number).save(tmp_path / f"{number:02d}.png")
    train, held_out = open_pictures(f"hf:{tmp_path}", size=16)
    held = values(torch.stack([held_out[n].target for n in range(len(held_out))]))
    seen = values(torch.cat([batch.target for batch in batches(train, 150)]))
    assert sorted([*held, *seen]) == list(range(100))


def test_a_row_does_not_lead_out_of_its_data_set(tmp_path):
    (tmp_path / "data").mkdir()
    landscape(7).save(tmp_path / "secret.png")
    landscape(8).save(tmp_path / "data" / "own.png")
    cells = [
        {"bytes": None, "path": str(tmp_path / "secret.png")},
        {"bytes": None, "path": "http://10.0.0.1/x.png"},
    ]
    cells += [None, {"bytes": None, "path": str(tmp_path / "data" / "own.png")}]
    features = datasets.Features({"image": datasets.Image()})
    table = datasets.Dataset.from_dict({"image": [*cells, cell(landscape(0))]}, features=features)
    raws = list(HubChunks(str(tmp_path / "data"), table.to_iterable_dataset(), ["image"]).read(0))
    assert "secret.png, which lies outside the data set" in raws[0].trouble
    assert "http://10.0.0.1/x.png, which lies outside the data set" in raws[1].trouble
    assert "has no picture" in raws[2].trouble
    assert [raw.trouble for raw in raws[3:]] == [None, None]
    (tmp_path / "data" / "own.png").unlink()
    gone = list(HubChunks(str(tmp_path / "data"), table.to_iterable_dataset(), ["image"]).read(0, 3))
    assert "own.png, which does not exist" in gone[0].trouble


def test_a_changed_data_set_has_another_fingerprint(tmp_path):
    prints = []
    for count in (70, 70, 71):
        write_split(tmp_path, "train", count, image=landscape)
        prints.append(open_hub(str(tmp_path))[0].fingerprint())
    assert prints[0] == prints[1] != prints[2]


def test_libraries_that_run_scripts_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "__version__", "3.6.0")
    with pytest.raises(DataError, match=r"datasets 3\.6\.0 may run what a data set brings along"):
        open_hub(str(tmp_path))


def test_what_cannot_be_streamed_is_named(tmp_path):
    with pytest.raises(DataError, match=r"hf:.*nowhere cannot be opened: .*Expected OWNER/NAME"):
        open_pictures(f"hf:{tmp_path / 'nowhere'}", size=16)
    write_split(tmp_path, "train", 5, image=landscape)
    with pytest.raises(DataError, match="has 5 samples only, of which none would remain"):
        open_pictures(f"hf:{tmp_path}", size=16)
