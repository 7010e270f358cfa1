import errno
import os
import unicodedata
from pathlib import Path

import pytest

from gangen.data.folders import find_pictures, fingerprint, parts, split
from gangen.data.sources import open_folder
from gangen.errors import DataError
from tests.data.pictures import write


def test_pictures_are_found_in_sub_folders_in_one_order(tmp_path):
    write(tmp_path, ["b/2.png", "a.JPG", "b.webp", "b/1.png"])
    write(tmp_path, [".hidden.png", ".cache/x.png", "__MACOSX/x.png"])
    (tmp_path / "notes.txt").write_text("no picture")
    found = [path.relative_to(tmp_path).as_posix() for path in find_pictures(tmp_path)]
    assert found == ["a.JPG", "b.webp", "b/1.png", "b/2.png"]


def test_links_are_followed_and_never_for_ever(tmp_path):
    write(tmp_path / "elsewhere", ["1.png"])
    write(tmp_path / "data", ["0.png"])
    (tmp_path / "data" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "loop").symlink_to(tmp_path / "data")
    assert [path.name for path in find_pictures(tmp_path / "data")] == ["0.png", "1.png"]


def test_a_folder_without_pictures_says_what_it_holds(tmp_path):
    (tmp_path / "albums").mkdir()
    (tmp_path / "list.txt").write_text("")
    with pytest.raises(DataError, match=r"no picture in .*\.jpg.*1 folders \(albums\) and files: 1 \.txt"):
        find_pictures(tmp_path)
    with pytest.raises(DataError, match=r"no folder .*pics; .* holds 1 folders \(albums\)"):
        find_pictures(tmp_path / "pics")


NAMES = [f"folder/{number:04}.png" for number in range(2000)]


def test_split_holds_out_about_the_share_and_every_name_once():
    train, held_out = split(NAMES, 0.1)
    assert sorted(train + held_out) == NAMES
    assert 150 < len(held_out) < 250


def test_adding_pictures_moves_no_other_one():
    _, before = split(NAMES[:1000], 0.1)
    _, after = split(list(reversed(NAMES)), 0.1)
    assert [name for name in reversed(after) if name in NAMES[:1000]] == before


def test_a_larger_share_only_takes_from_training():
    assert set(split(NAMES, 0.1)[1]) < set(split(NAMES, 0.2)[1])


def test_split_is_the_same_on_every_machine():
    """These were written down once; another result would mix the parts of every data set out there."""
    assert split([f"{number}.png" for number in range(20)], 0.2)[1] == ["4.png", "11.png", "14.png", "19.png"]
    assert split(NAMES, 0.1, seed=1)[1] != split(NAMES, 0.1)[1]
    accents = [f"é{number}" for number in range(50)]
    decomposed = [unicodedata.normalize("NFD", name) for name in accents]
    same = [unicodedata.normalize("NFC", name) for name in split(decomposed, 0.3)[1]]
    assert same == split(accents, 0.3)[1]


@pytest.mark.parametrize(("part", "empty"), [(0, "validation"), (1, "training")])
def test_an_empty_part_is_refused_with_a_share_that_works(part, empty):
    for start in range(0, 100, 10):
        names = split(NAMES, 0.5)[part][start : start + 5]
        with pytest.raises(DataError, match=f"none for {empty}") as caught:
            split(names, 0.5)
        share = float(str(caught.value).split("With validation=")[1].split(" ")[0])
        assert all(split(names, share))


def test_shares_out_of_range_and_single_pictures_are_refused():
    with pytest.raises(DataError, match="1 picture cannot be split"):
        split(["a"], 0.5)
    for share in (0, 1, -0.1, 20):
        with pytest.raises(DataError, match=f"validation={share} "):
            split(NAMES, share)


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_parts_are_found_outside_and_inside(tmp_path, name):
    for folder in (
        "a/train/in",
        f"a/{name}/in",
        "b/in/train",
        f"b/in/{name}",
        "c/in",
        "d/in/train",
        f"e/in/{name}",
    ):
        (tmp_path / folder).mkdir(parents=True)
    assert parts(tmp_path / "a", "in") == (tmp_path / "a/train/in", tmp_path / f"a/{name}/in")
    assert parts(tmp_path / "b", "in") == (tmp_path / "b/in/train", tmp_path / f"b/in/{name}")
    assert parts(tmp_path / "c", "in") == (tmp_path / "c/in", None)
    assert parts(tmp_path / "d", "in") == (tmp_path / "d/in/train", None)
    assert parts("unused", tmp_path / "b/in") == (tmp_path / "b/in/train", tmp_path / f"b/in/{name}")
    with pytest.raises(DataError, match=r"has no .*train beside it"):
        parts(tmp_path / "e", "in")


def test_a_test_folder_is_left_alone(tmp_path):
    for folder in ("train", "test"):
        (tmp_path / folder).mkdir()
    assert parts(tmp_path) == (tmp_path / "train", None)


def test_the_fingerprint_changes_with_names_and_files(tmp_path):
    one, two = write(tmp_path, ["1.png", "2.png"])
    prints = {fingerprint(["a"], [one]), fingerprint(["b"], [one]), fingerprint(["a", "b"], [one, two])}
    one.write_bytes(b"other")
    prints.add(fingerprint(["a"], [one]))
    assert len(prints) == 4


@pytest.mark.parametrize("validation", [0.001, 0.3, 0.999])
def test_a_split_may_be_asked_for_some_names_in_each_part(validation):
    names = [f"name-{number}" for number in range(7)]
    train, held_out = split(names, validation, least=2)
    assert min(len(train), len(held_out)) >= 2
    assert sorted(train + held_out) == names
    wide = split([f"name-{number}" for number in range(400)], 0.3)
    assert split([f"name-{number}" for number in range(400)], 0.3, least=2) == wide


def test_a_test_folder_is_not_learned_from(tmp_path):
    write(tmp_path, ["a.png", "test/b.png", "deep/test/c.png", "tests/d.png"])
    with pytest.warns(UserWarning, match=r"test is left out: nothing is learned from a folder of that name"):
        files = open_folder(tmp_path)
    assert list(files.names) == ["a.png", "deep/test/c.png", "tests/d.png"]
    assert len(find_pictures(tmp_path)) == 4, "painting goes everywhere"


def test_pictures_of_kinds_that_are_not_read_are_counted_once(tmp_path):
    write(tmp_path, ["a.png"])
    (tmp_path / "b.jfif").write_bytes((tmp_path / "a.png").read_bytes())
    for name in ("x.heic", "y.HEIC", "z.nef"):
        (tmp_path / name).write_bytes(b"")
    with pytest.warns(UserWarning, match=r"not read: 2 \.heic, 1 \.nef\. Convert them") as told:
        assert [path.name for path in find_pictures(tmp_path)] == ["a.png", "b.jfif"]
    assert len(told) == 1


def test_a_name_that_is_no_text_and_a_folder_that_is_locked_are_refused_by_name(tmp_path, monkeypatch):
    write(tmp_path, ["a.png", "locked/b.png"])
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")
    Path(odd).write_bytes((tmp_path / "a.png").read_bytes())
    with pytest.raises(DataError, match=r"caf\\udce9\.png' is not UTF-8.*Rename it"):
        find_pictures(tmp_path)
    Path(odd).unlink()
    scan = os.scandir

    def scandir(path):
        if Path(path).name == "locked":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match=r"cannot look into .*locked: Permission denied"):
        find_pictures(tmp_path)
