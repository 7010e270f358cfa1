import pytest
import torch
from torch.utils.data import DataLoader

from gangen.data import open_classes, open_same
from gangen.errors import DataError
from tests.data.pictures import write


def folders(root, counts, part="train"):
    for name, count in counts.items():
        write(root / part / name, [f"{name}-{number}.png" for number in range(count)])
    return root


def test_folders_name_the_classes(tmp_path):
    folders(tmp_path, {"10": 2, "9": 3, "dog": 2})
    folders(tmp_path, {"9": 1, "10": 1, "dog": 1}, "val")
    train, val = open_classes(tmp_path, size=8)
    assert train.classes.names == ("9", "10", "dog"), "numbers in the order of their values"
    assert val.classes == train.classes
    assert (len(train), len(val)) == (7, 3)
    batch = next(iter(DataLoader(train, batch_size=7)))
    assert batch.input.shape == (7, 3, 8, 8)
    assert batch.target.dtype == torch.int64
    assert [train.classes.names[k] for k in batch.target.tolist()] == [name.split("/")[0] for name in batch.name]


@pytest.mark.parametrize("head", ["", "id,Label,File\n"])
def test_a_table_tells_the_classes(tmp_path, head):
    """By its path inside the folder, by its name, or by its name without the suffix."""
    write(tmp_path / "pictures", [f"{number}.png" for number in range(20)])
    spelt = ["pictures/{}.png", "{}.png", "{}", "{}"]
    rows = [(spelt[number % 4].format(number), "ab"[number % 2]) for number in range(20)]
    lines = [f"7,{label},{name}" if head else f"{name},{label}" for name, label in rows]
    (tmp_path / "classes.csv").write_text(head + "\n".join(lines) + "\n,,\n")  # as spreadsheets end
    train, val = open_classes(tmp_path, labels="classes.csv", size=8, validation=0.4)
    for data in (train, val):
        for index in range(len(data)):
            number = int(data[index].name.split("/")[1].split(".")[0])
            assert data.classes.names[data[index].target] == "ab"[number % 2]
    assert len(train) + len(val) == 20


def test_a_function_tells_the_classes(tmp_path):
    write(tmp_path, [f"{kind}_{number}.png" for kind in ("cat", "dog") for number in range(20)])
    train, val = open_classes(tmp_path, labels=lambda path: path.stem.split("_")[0], size=8, validation=0.3)
    assert train.classes.names == ("cat", "dog")
    assert all(
        sample.name.startswith(train.classes.names[sample.target]) for sample in (train[0], val[0], train[-1])
    )


def test_the_embedded_faces():
    train, val = open_classes(None, size=25)
    assert len(train) + len(val) == 200
    assert train.classes.names == ("face", "no face")
    counts = torch.tensor(train.numbers + val.numbers).bincount().tolist()
    assert counts == [100, 100]
    assert not set(train.source.names) & set(val.source.names)


def test_few_pictures_and_empty_folders_are_named(tmp_path):
    folders(tmp_path, {"many": 5, "one": 1})
    folders(tmp_path, {"many": 2}, "val")
    (tmp_path / "train" / "none").mkdir()
    with pytest.warns(UserWarning, match="class") as told:
        open_classes(tmp_path, size=8)
    text = " ".join(str(warning.message) for warning in told)
    assert "no picture in the folder of class none" in text
    assert "one picture only of class one" in text
    assert "no picture of class one is held out" in text


def test_what_cannot_be_told_apart_is_refused(tmp_path):
    folders(tmp_path / "single", {"only": 20})
    with pytest.raises(DataError, match="one class only, only"):
        open_classes(tmp_path / "single", validation=0.5)
    folders(tmp_path / "new", {"a": 3, "b": 3})
    folders(tmp_path / "new", {"c": 1}, "val")
    with pytest.raises(DataError, match="class c is held out"):
        open_classes(tmp_path / "new")
    write(tmp_path / "loose", ["1.png", "a/2.png", "b/3.png"])
    with pytest.raises(DataError, match=r"1 pictures lie right in .*loose, in no class's folder: 1\.png"):
        open_classes(tmp_path / "loose")
    (tmp_path / "t.csv").write_text("1.png,a\n")
    with pytest.raises(DataError, match=r"2\.png is not in .*t\.csv"):
        open_classes(tmp_path / "loose", labels=tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("1.png\n")
    with pytest.raises(DataError, match=r"t\.csv has no picture and class on each line"):
        open_classes(tmp_path / "loose", labels=tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("1.png,a\na/2.png,\nb/3.png,b\n")
    with pytest.raises(DataError, match=r"no picture and class on each line \(such as \['a/2\.png', ''\]\)"):
        open_classes(tmp_path / "loose", labels=tmp_path / "t.csv")
    with pytest.raises(DataError, match=r"cannot read the table of classes .*none\.csv"):
        open_classes(tmp_path / "loose", labels="none.csv")


def test_names_that_are_of_two_classes_are_refused(tmp_path):
    write(tmp_path, [f"{kind}/{number}.png" for kind in "ab" for number in range(12)])
    (tmp_path / "t.csv").write_text("".join(f"{kind}/{n},{kind}\n" for kind in "ab" for n in range(12)))
    train, _ = open_classes(tmp_path, labels="t.csv", size=8, validation=0.3)
    assert all(
        sample.name[0] == train.classes.names[sample.target] for sample in (train[k] for k in range(len(train)))
    )
    (tmp_path / "t.csv").write_text("".join(f"{n},{kind}\n" for kind in "ab" for n in range(12)))
    with pytest.raises(DataError, match=r"png is a and b in .*t\.csv"):
        open_classes(tmp_path, labels="t.csv")


def persons(root, count=8, each=3):
    for number in range(count):
        write(root / f"p{number}", [f"{k}.png" for k in range(each)])
    return root


def test_pairs_tell_whether_both_are_of_one_class(tmp_path):
    train, val = open_same(persons(tmp_path), size=8, validation=0.4, rounds=4)
    for pairs in (train, val):
        for index in range(len(pairs)):
            sample = pairs[index]
            one, other = sample.name.split(" | ")
            assert sample.input.shape == (6, 8, 8)
            assert one != other
            assert int(sample.target) == (one.split("/")[0] == other.split("/")[0])
    assert not set(train.labels) & set(val.labels), "validation's classes were never seen"
    assert set(train.labels) | set(val.labels) == {f"p{number}" for number in range(8)}


def test_validation_pairs_stay_and_half_of_them_are_the_same(tmp_path):
    _, val = open_same(persons(tmp_path), size=8, validation=0.4, rounds=4)
    first = [val[index] for index in range(len(val))]
    torch.manual_seed(5)
    again = [val[index] for index in range(len(val))]
    assert [sample.name for sample in first] == [sample.name for sample in again]
    assert sum(int(sample.target) for sample in first) == len(val) / 2
    assert len({sample.name for sample in first}) > 0.8 * len(val)


def test_training_pairs_are_drawn_anew_and_balanced(tmp_path):
    train, _ = open_same(persons(tmp_path), size=8, validation=0.4)
    torch.manual_seed(0)
    drawn = [train[0] for _ in range(200)]
    assert 70 < sum(int(sample.target) for sample in drawn) < 130
    assert len({sample.name for sample in drawn}) > 10
    torch.manual_seed(0)
    assert [train[0].name for _ in range(200)] == [sample.name for sample in drawn]


def test_too_little_for_pairs_is_told(tmp_path):
    with pytest.raises(DataError, match="make no pairs"):
        open_same(persons(tmp_path, each=1), size=8, validation=0.4)
    folders(tmp_path / "both", {"a": 2, "b": 2})
    folders(tmp_path / "both", {"a": 2, "c": 2}, "val")
    with pytest.warns(UserWarning, match="class a is in training and in validation"):
        open_same(tmp_path / "both", size=8)


def test_the_only_picture_of_a_class_begins_no_validation_pair(tmp_path):
    persons(tmp_path, count=16)
    for number in range(6):
        write(tmp_path / f"lonely-{number}", ["0.png"])
    train, val = open_same(tmp_path, size=8, validation=0.5, rounds=2)
    assert any(label.startswith("lonely") for label in val.labels)
    drawn = [val[index] for index in range(len(val))]
    assert sum(int(sample.target) for sample in drawn) == len(val) / 2
    assert not any(sample.name.startswith("lonely") for sample in drawn)
    place = next(k for k, label in enumerate(train.labels) if label.startswith("lonely"))
    assert all(int(train[place].target) == 0 for _ in range(20))
    with pytest.raises(DataError, match="rounds=0"):
        open_same(tmp_path, rounds=0)
