import warnings

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from gangen import colour
from gangen.data import Augment, Batch, Crop, Kept, Whole, open_folder, open_pairs
from gangen.data.degrade import Bicubic
from gangen.errors import DataError
from tests.data.pictures import landscape, negative, write


def samples(dataset):
    return {dataset[index].name: dataset[index] for index in range(len(dataset))}


@pytest.fixture
def paired(tmp_path):
    """Twenty pairs in two folders, half of them JPEG on one side; the target is the input's negative."""
    names = [f"sub/{number}.png" for number in range(20)]
    write(tmp_path / "sketch", names)
    write(tmp_path / "color", names, lambda number: negative(landscape(number)))
    return tmp_path


def opened(root, **options):
    return open_pairs(root, input_folder="sketch", target_folder="color", size=16, **options)


def divided(folder):
    """Pairs in train/ and val/, which lie outside the folders of inputs and targets, or inside; names of both."""
    for part, names in (("train", ["1.png", "2.png"]), ("val", ["1.png"])):
        for side in ("sketch", "color"):
            write(folder / "outside" / part / side, names)
            write(folder / "inside" / side / part, names)
    return "outside", "inside"


def test_pairs_are_made_by_name_whatever_the_suffix(paired):
    train, val = opened(paired, validation=0.3)
    both = samples(train) | samples(val)
    assert len(train) + len(val) == len(both) == 20
    for name, sample in both.items():
        assert sample.input.shape == sample.target.shape == (3, 16, 16)
        assert torch.allclose(sample.input, -sample.target, atol=0.02)
        number = int(name.removeprefix("sub/"))
        assert round((sample.input[2].mean().item() + 1) * 127.5) == number
    (paired / "color" / "sub" / "3.png").rename(paired / "color" / "sub" / "3.webp")
    negative(landscape(3)).save(paired / "color" / "sub" / "3.webp", lossless=True)
    assert sorted(set(samples(opened(paired)[0])) | set(samples(opened(paired)[1]))) == sorted(both)


def test_folders_for_training_and_validation_are_obeyed(tmp_path):
    for layout in divided(tmp_path):
        train, val = opened(tmp_path / layout)
        assert list(samples(train)) == ["1", "2"]
        assert list(samples(val)) == ["1"]
    (tmp_path / "inside" / "color" / "val" / "1.png").unlink()
    (tmp_path / "inside" / "color" / "val").rmdir()
    with pytest.raises(DataError, match="is for validation, but the other folder"):
        opened(tmp_path / "inside")


def test_missing_partners_are_counted_and_named(paired):
    for number in range(5):
        (paired / "color" / "sub" / f"{number}.png").unlink()
    with pytest.warns(UserWarning, match=r"5 pictures have no partner.*15 pairs remain.*0\.png.* and 2 more"):
        train, val = opened(paired, validation=0.3)
    assert len(train) + len(val) == 15


def test_folders_without_a_single_pair_are_refused(tmp_path):
    write(tmp_path / "sketch", ["a.png", "b.png"])
    write(tmp_path / "color", ["a_color.png"])
    with pytest.raises(DataError, match=r"none of the 2 pictures in .*sketch has a partner among the 1.*a\.png"):
        opened(tmp_path)


def test_two_files_of_one_name_are_refused(paired):
    write(paired / "sketch", ["sub/3.jpg"])
    with pytest.raises(DataError, match=r"3\.jpg and .*3\.png differ only in their suffix"):
        opened(paired)


@pytest.mark.parametrize("side", ["input-left", "input-right"])
def test_side_by_side_pictures_are_cut_in_two(tmp_path, side):
    def joined(number):
        whole = Image.new("RGB", (40, 20), "white")
        whole.paste(Image.new("RGB", (20, 20), "black"), (0, 0))
        return whole

    write(tmp_path / "train", ["1.png"], joined)
    write(tmp_path / "val", ["2.png"], joined)
    _, val = open_pairs(tmp_path, side_by_side=side, size=8)
    black, white = (val[0].input, val[0].target)[:: 1 if side == "input-left" else -1]
    assert (black == -1).all()
    assert (white == 1).all()


def test_an_odd_width_cannot_be_cut(tmp_path):
    for part in ("train", "val"):
        write(tmp_path / part, ["odd.png"], lambda number: landscape(size=(41, 20)))
    with (
        pytest.warns(UserWarning, match=r"odd\.png is 41 pixels wide"),
        pytest.raises(DataError, match=r"none of the 1 samples.*odd\.png is 41"),
    ):
        open_pairs(tmp_path, side_by_side="input-left", size=8)


def test_plain_pictures_are_drawn_after_they_are_cropped(tmp_path):
    write(tmp_path / "train", ["1.png", "2.png"])
    write(tmp_path / "val", ["1.png"])
    train, _ = open_pairs(tmp_path, size=16, draw=negative, augment=Augment(16, jitter=0.4))
    sample = train[0]
    assert torch.allclose(sample.input, -sample.target, atol=0.01)
    drawn = open_pairs(tmp_path, size=16)[0][0]
    assert (drawn.input[0] == drawn.input[1]).all()
    assert not (drawn.target[0] == drawn.target[1]).all()


def test_without_data_the_embedded_photographs_are_drawn():
    train, val = open_pairs(None, size=32)
    assert len(train) >= 200
    batch = next(iter(DataLoader(val, batch_size=4)))
    assert batch.input.shape == batch.target.shape == (4, 3, 32, 32)
    assert batch.input.mean() > 0.4, "mostly paper"


def test_a_loader_makes_batches_without_help(paired):
    batch = next(iter(DataLoader(opened(paired)[0], batch_size=3)))
    assert isinstance(batch, Batch)
    assert batch.input.shape == (3, 3, 16, 16)
    assert batch.input.dtype == torch.float32
    assert len(set(batch.name)) == len(batch.name) == 3


def test_the_generator_of_torch_alone_decides_a_training_sample(paired):
    train, val = opened(paired, augment=Augment(16, scale=(0.5, 1.0), jitter=0.2))

    def sample(dataset, seed):
        torch.manual_seed(seed)
        return dataset[0].target

    assert torch.equal(sample(train, 1), sample(train, 1))
    assert torch.equal(sample(train, 1), sample(opened(paired, augment=train.prepare.transform)[0], 1))
    assert not torch.equal(sample(train, 1), sample(train, 2))
    assert torch.equal(sample(val, 1), sample(val, 2)), "validation has nothing random"
    before = torch.get_rng_state()
    opened(paired)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.filterwarnings("ignore:cannot read")
def test_unreadable_pictures_are_replaced_and_counted_from_every_worker(tmp_path, workers):
    paths = write(tmp_path / "train", [f"{number}.png" for number in range(8)])
    write(tmp_path / "val", ["0.png"])
    for path in (paths[2], paths[3], paths[7]):
        path.write_bytes(b"broken")
    train, _ = open_pairs(tmp_path, size=8)
    loader = DataLoader(train, batch_size=2, num_workers=workers)
    for _ in range(2):
        names = [name for batch in loader for name in batch.name]
        assert names == [f"{number}.png" for number in (0, 1, 4, 4, 4, 5, 6, 0)]
    assert train.skipped() == ["2.png", "3.png", "7.png"]


def test_each_unreadable_picture_is_named_once(tmp_path):
    paths = write(tmp_path / "train", [f"{number}.png" for number in range(4)])
    write(tmp_path / "val", ["0.png"])
    paths[1].write_bytes(b"broken")
    train, _ = open_pairs(tmp_path, size=8)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(3):
            samples(train)
    assert [str(warning.message).count("1.png") for warning in told] == [1]


def test_when_nothing_can_be_read_it_ends_at_once(tmp_path):
    for path in write(tmp_path / "train", ["1.png", "2.png"]) + write(tmp_path / "val", ["1.png"]):
        path.write_bytes(b"broken")
    with (
        pytest.warns(UserWarning, match="cannot read"),
        pytest.raises(DataError, match=r"none of the 2 samples can be read.*2\.png"),
    ):
        open_pairs(tmp_path, size=8)


def test_a_pair_of_two_sizes_is_skipped_and_both_are_named(paired):
    landscape(size=(40, 31)).save(paired / "color" / "sub" / "7.png")

    def read_all():
        parts = opened(paired, validation=0.3)
        return [len(samples(part)) for part in parts], [name for part in parts for name in part.skipped()]

    with pytest.warns(UserWarning, match=r"sketch.*7\.png is 40x30 and .*color.*7\.png is 40x31"):
        read, skipped = read_all()
    assert sum(read) == 19
    assert skipped == ["sub/7"]


def test_small_pictures_are_enlarged_counted_and_the_first_are_named(tmp_path):
    write(tmp_path / "train", [f"{number}.png" for number in range(6)])
    write(tmp_path / "val", ["0.png"], lambda number: landscape(size=(64, 64)))
    train, val = open_pairs(tmp_path, size=64)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert {sample.target.shape for sample in samples(train).values()} == {(3, 64, 64)}
        samples(val)
    assert [str(warning.message)[:14] for warning in told] == [
        f"{number}.png is 40x30"[:14] for number in range(3)
    ]
    assert int(train.enlarged.sum()) == 6
    assert int(val.enlarged.sum()) == 0


def test_the_fingerprint_follows_the_data(paired):
    train, val = opened(paired, validation=0.3)
    again, _ = opened(paired, validation=0.3)
    before = train.fingerprint()
    assert again.fingerprint() == before != val.fingerprint()
    for side in ("sketch", "color"):
        (paired / side / f"{train.source.names[0]}.png").unlink()
    assert opened(paired, validation=0.3)[0].fingerprint() != before


def test_an_index_beyond_the_end_is_an_error(paired):
    train, _ = opened(paired)
    assert train[-1].name == train[len(train) - 1].name
    for index in (len(train), -len(train) - 1):
        with pytest.raises(IndexError):
            train[index]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"input_folder": "a"}, "give both or neither"),
        ({"side_by_side": "left"}, '"input-left" or "input-right"'),
        ({"side_by_side": "input-left", "draw": negative}, "one of these only"),
        ({"root": None, "side_by_side": "input-left"}, "embedded photographs are no pairs"),
        ({"root": "/nowhere/at/all"}, "no folder /nowhere/at/all"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(tmp_path, options, told):
    with pytest.raises(DataError, match=told):
        open_pairs(**{"root": tmp_path, **options})


def test_inputs_may_be_small_pictures_of_the_targets(tmp_path):
    write(tmp_path / "train", ["1.png", "2.png"])
    write(tmp_path / "val", ["1.png"], lambda number: landscape(size=(43, 30)))
    given = {"draw": Bicubic(4), "scale": 4, "size": 16, "augment": Crop(16), "prepare": Whole(4)}
    train, val = open_pairs(tmp_path, **given)
    assert (train[0].input.shape, train[0].target.shape) == ((3, 4, 4), (3, 16, 16))
    assert (val[0].input.shape, val[0].target.shape) == ((3, 7, 10), (3, 28, 40))
    averaged = torch.nn.functional.avg_pool2d(val[0].target, 4)
    # A ramp's small picture is the ramp.
    assert torch.allclose(val[0].input[:, 2:-2, 2:-2], averaged[:, 2:-2, 2:-2], atol=0.02)
    with pytest.raises(DataError, match=r"1\.png: an input of 4x4 and a target of 16x16 pixels; expected 2 times"):
        open_pairs(tmp_path, **{**given, "scale": 2})[0][0]


def test_small_and_large_pictures_may_be_given(tmp_path):
    for part in ("train", "val"):
        write(tmp_path / part / "small", ["1.png", "2.png"], lambda number: landscape(number, (20, 15)))
        write(tmp_path / part / "large", ["1.png", "2.png"], lambda number: landscape(number, (60, 45)))
    given = {"input_folder": "small", "target_folder": "large", "size": 30, "augment": Crop(30)}
    train, val = open_pairs(tmp_path, scale=3, prepare=Whole(3), **given)
    assert (train[0].input.shape, train[0].target.shape) == ((3, 10, 10), (3, 30, 30))
    assert (val[0].input.shape, val[0].target.shape) == ((3, 15, 20), (3, 45, 60))
    with (
        pytest.warns(UserWarning, match=r"small.*1\.png is 20x15 and .*60x45: the target must be exactly 2 times"),
        pytest.raises(DataError, match="none of the 2 samples"),
    ):
        open_pairs(tmp_path, scale=2, **given)


def test_a_folder_for_validation_alone_leaves_all_else_for_training(tmp_path):
    write(tmp_path / "mine", [f"{number}.png" for number in range(6)])
    write(tmp_path / "test", ["a.png", "b.png"])
    train, val = open_pairs(tmp_path / "mine", size=16, validation_folder=tmp_path / "test")
    assert (len(train), list(samples(val))) == (6, ["a.png", "b.png"])
    embedded, val = open_pairs(None, size=16, validation_folder=tmp_path / "test")
    assert (len(embedded), len(val)) == (300, 2)
    for side in ("sketch", "color"):
        write(tmp_path / "pairs" / side, ["1.png", "2.png", "3.png"])
        write(tmp_path / "judge" / side, ["9.png"])
    train, val = opened(tmp_path / "pairs", validation_folder=tmp_path / "judge")
    assert (len(train), list(samples(val))) == (3, ["9"])


def test_what_lies_in_the_folder_for_validation_is_not_learned(tmp_path):
    write(tmp_path / "mine", ["1.png", "2.png", "judge/3.png", "judge/4.png"])
    train, val = open_pairs(tmp_path / "mine", size=16, validation_folder=tmp_path / "mine" / "judge")
    assert (list(samples(train)), list(samples(val))) == (["1.png", "2.png"], ["3.png", "4.png"])
    (tmp_path / "link").symlink_to(tmp_path / "mine" / "judge")
    train, _ = open_pairs(tmp_path / "mine", size=16, validation_folder=tmp_path / "link")
    assert list(samples(train)) == ["1.png", "2.png"]


def test_absolute_folders_are_not_both_for_training_and_for_validation(tmp_path):
    for side in ("sketch", "color"):
        write(tmp_path / "pairs" / side, ["1.png", "2.png"])
        write(tmp_path / "judge" / side, ["9.png"])
    folders = {
        name: tmp_path / "pairs" / side for name, side in (("input_folder", "sketch"), ("target_folder", "color"))
    }
    with pytest.raises(DataError, match=r"nothing is left to learn from.*judge.*absolute folder"):
        open_pairs(tmp_path / "pairs", size=16, validation_folder=tmp_path / "judge", **folders)


def test_all_of_a_data_set_are_its_samples_for_training_and_those_for_validation(tmp_path):
    for layout in divided(tmp_path):
        _, everything = opened(tmp_path / layout, validation_folder=tmp_path / layout)
        assert list(samples(everything)) == ["train/1", "train/2", "val/1"]


def test_kept_pictures_are_read_once_as_far_as_there_is_room(tmp_path):
    paths = write(tmp_path, ["1.png", "2.png"], lambda number: landscape(number, (500, 500)))
    kept = Kept(open_folder(tmp_path), 1)  # MiB: one of 750,000 bytes, not two
    before = [kept.read(index)[0].tobytes() for index in (0, 1)]
    for number, path in enumerate(paths):
        landscape(number + 100, (500, 500)).save(path)
    after = [kept.read(index)[0].tobytes() for index in (0, 1)]
    assert after[0] == before[0]
    assert after[1] != before[1]
    assert (kept.names, kept.fingerprint()) == (kept.source.names, kept.source.fingerprint())


def test_real_pairs_open(shared):
    train, val = open_pairs(shared / "data" / "openmoji", input_folder="sketch", target_folder="color", size=64)
    assert (len(train), len(val)) == (1975, 220)
    sample = val[0]
    colourful = colour.saturation(torch.stack([sample.input, sample.target]))
    assert colourful[0] < 0.01
