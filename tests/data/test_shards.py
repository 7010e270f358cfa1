import json
import tarfile
from itertools import islice

import numpy as np
import pytest
import torch

from gangen import images
from gangen.data import (
    Arranged,
    itself,
    open_classes,
    open_masks,
    open_pairs,
    open_pictures,
    open_same,
    open_shards,
    pack,
    remote,
)
from gangen.errors import DataError, PictureError
from gangen.train.feed import Feed
from tests.data.pictures import landscape, negative, write

PAIRED = Arranged("sketch", "color")


@pytest.fixture
def folder(tmp_path):
    """Twelve pairs for training and three for validation, some of them JPEG, some in a sub-folder."""
    for part, count in (("train", 12), ("val", 3)):
        names = [f"{'sub/' * (n % 2)}{n}.v2.{'jpg' if n % 3 else 'png'}" for n in range(count)]
        write(tmp_path / "pictures" / part / "sketch", names)
        write(tmp_path / "pictures" / part / "color", names, lambda number: negative(landscape(number)))
    return tmp_path / "pictures"


def batches(data, count=6, **options):
    return list(islice(Feed(data, 4, seed=5, **options), count))


def equal(one, other):
    return all(
        a.name == b.name and torch.equal(a.input, b.input) and torch.equal(a.target, b.target)
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_a_training_on_shards_sees_what_one_on_the_folder_sees(folder, tmp_path, workers):
    done = pack(folder, tmp_path / "shards", PAIRED, shard_size=8000)
    assert done.samples == {"train": 12, "val": 3}
    assert done.shards == len(list((tmp_path / "shards").glob("*.tar"))) > 2
    loose = open_pairs(folder, input_folder="sketch", target_folder="color", size=16)
    packed = open_pairs(tmp_path / "shards", size=16)
    assert [len(part) for part in packed] == [12, 3]
    assert equal(batches(loose[0]), batches(packed[0], workers=workers))
    assert equal([loose[1][n] for n in range(3)], [packed[1][n] for n in range(3)])
    begun = batches(packed[0], 2, start=8, workers=workers)
    assert equal(batches(loose[0])[2:4], begun)


def test_processes_share_shards_without_overlap(folder, tmp_path):
    pack(folder, tmp_path / "shards", PAIRED, shard_size=8000)
    train, _ = open_pairs(tmp_path / "shards", size=16)
    seen = [
        name
        for rank in (0, 1)
        for batch in islice(Feed(train, 3, seed=0, rank=rank, world=2), 2)
        for name in batch.name
    ]
    assert sorted(seen) == sorted(train.source.names)


def test_single_pictures_are_split_by_name_as_in_a_folder(tmp_path):
    write(tmp_path / "pictures", [f"{number}.png" for number in range(20)])
    pack(tmp_path / "pictures", tmp_path / "shards")
    loose, packed = open_pictures(tmp_path / "pictures", size=16), open_pictures(tmp_path / "shards", size=16)
    for one, other in zip(loose, packed, strict=True):
        assert one.source.names == other.source.names
        assert equal(batches(one, 3), batches(other, 3))


def test_pictures_side_by_side_are_cut_from_shards_too(tmp_path):
    write(tmp_path / "pictures", ["1.png", "2.png", "3.png"])
    pack(tmp_path / "pictures", tmp_path / "shards")
    ways = [
        open_pairs(root, side_by_side="input-left", size=16, validation=0.5)[0]
        for root in (tmp_path / "pictures", tmp_path / "shards")
    ]
    assert equal(*(batches(way, 2) for way in ways))


def test_of_packed_pairs_the_targets_alone_can_be_drawn_from(folder, tmp_path):
    pack(folder, tmp_path / "shards", PAIRED)
    train, held_out = open_pairs(tmp_path / "shards", draw=itself, size=16, always_draw=True)
    paired = open_pairs(tmp_path / "shards", size=16)[1]
    drawn = train[0]
    assert torch.equal(drawn.input, drawn.target)
    assert torch.equal(held_out[0].target, paired[0].target)


def test_of_packed_pairs_the_inputs_are_not_drawn(folder, tmp_path):
    pack(folder, tmp_path / "shards", PAIRED)
    drawn, _ = open_pairs(tmp_path / "shards", draw=itself, size=16)
    given, _ = open_pairs(tmp_path / "shards", size=16)
    assert equal(batches(drawn), batches(given))


def test_all_packed_samples_can_be_for_validation(folder, tmp_path):
    pack(folder, tmp_path / "shards", PAIRED)
    _, held_out = open_pairs(folder, input_folder="sketch", target_folder="color", size=16)
    _, everything = open_pairs(tmp_path / "shards", size=16, validation_folder=tmp_path / "shards")
    assert len(everything) == 15
    assert torch.equal(everything[12].input, held_out[0].input)
    _, streamed = open_pairs(
        f"stream:{tmp_path / 'shards'}", size=16, validation_folder=f"stream:{tmp_path / 'shards'}"
    )
    assert len(streamed) == 15
    with pytest.raises(DataError, match="not all of a data set of the hub"):
        open_pairs(tmp_path / "shards", size=16, validation_folder="hf:owner/name")


def test_pairs_for_validation_suit_the_training(folder, tmp_path):
    pack(folder, tmp_path / "pairs", PAIRED)
    singles = folder / "val" / "color"
    _, held_out = open_pairs(singles, draw=itself, size=16, validation_folder=tmp_path / "pairs")
    assert torch.equal(held_out[0].input, held_out[0].target)  # the packed targets alone
    with pytest.raises(DataError, match="color holds single pictures, where the training has pairs"):
        open_pairs(tmp_path / "pairs", size=16, validation_folder=singles)


def test_equal_folders_make_equal_shards_that_webdataset_reads(folder, tmp_path):
    for name in ("one", "two"):
        pack(folder, tmp_path / name, PAIRED)
    for path in sorted((tmp_path / "one").iterdir()):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    with tarfile.open(tmp_path / "one" / "train-00000.tar") as shard:
        members = {member.name: shard.extractfile(member).read() for member in shard}
    assert len(members) == 24
    # One key up to the first dot for both files of a sample, and the files byte for byte
    assert members["000000000.input.png"] == (folder / "train" / "sketch" / "0.v2.png").read_bytes()
    assert members["000000000.target.png"] == (folder / "train" / "color" / "0.v2.png").read_bytes()


def add(shard, name, picture):
    temporary = shard.with_suffix(".png")
    picture.save(temporary)
    with tarfile.open(shard, "a") as opened:
        opened.add(temporary, name)
    temporary.unlink()


def test_shards_of_others_are_listed(tmp_path):
    for number in range(6):
        add(tmp_path / f"train-{number % 2:04d}.tar", f"a/{number}.png", landscape(number))
    add(tmp_path / "val-0000.tar", "7.png", landscape(7))
    add(tmp_path / "test-0000.tar", "8.png", landscape(8))
    with tarfile.open(tmp_path / "train-0000.tar", "a") as shard:
        link = tarfile.TarInfo("a/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        shard.addfile(link)
        shard.addfile(tarfile.TarInfo("a/0.json"))
    training, held_out = open_shards(tmp_path)
    assert training.names == ["a/0", "a/2", "a/4", "a/1", "a/3", "a/5"]  # shard after shard
    assert held_out.names == ["7"]
    assert np.array_equal(training.read(3)[0], landscape(1))


def test_pairs_of_others_are_listed(tmp_path):
    add(tmp_path / "faces.tar", "../../1.input.png", landscape(1))
    add(tmp_path / "faces.tar", "../../1.target.png", negative(landscape(1)))
    training, held_out = open_shards(tmp_path)
    assert held_out is None
    assert training.names == ["../../1"]  # a name like any other: nothing is unpacked
    assert [np.asarray(picture)[0, 0, 2] for picture in training.read(0)] == [1, 254]
    add(tmp_path / "faces.tar", "2.png", landscape(2))
    with pytest.warns(UserWarning, match=r"1 samples do not have an input and a target .*faces\.tar:2"):
        assert open_shards(tmp_path)[0].names == ["../../1"]


def test_samples_of_several_pictures_are_refused(tmp_path):
    for part in ("left", "right"):
        add(tmp_path / "views.tar", f"1.{part}.png", landscape(1))
    with pytest.raises(DataError, match=r"such as views\.tar:1: left, right\. Expected one in each"):
        open_shards(tmp_path)


def test_keys_may_repeat_in_another_shard(tmp_path):
    for shard in ("faces-0.tar", "faces-1.tar"):
        for number in range(2):
            add(tmp_path / shard, f"{number}.png", landscape(10 * int(shard[6]) + number))
    shards, _ = open_shards(tmp_path)
    assert shards.names == ["faces-0.tar:0", "faces-0.tar:1", "faces-1.tar:0", "faces-1.tar:1"]
    assert [np.asarray(shards.read(n)[0])[0, 0, 2] for n in range(4)] == [0, 1, 10, 11]


@pytest.mark.parametrize(
    ("names", "sets"),
    [
        (("train-0000.tar", "val-0000.tar", "test-0000.tar"), (1, 1)),
        (("train-00000-of-00002.tar", "train-00001-of-00002.tar", "validation_00-of-01.tar"), (2, 1)),
        (("imagenet1k-train-0000.tar", "imagenet1k-validation-00.tar", "imagenet1k-test-00.tar"), (1, 1)),
        (("faces_train_1.tar", "faces.valid.1.tar"), (1, 1)),
        (("part-a-0.tar", "part-b-0.tar", "test-0.tar"), (2, 0)),
        (("00000.tar", "00001.tar"), (2, 0)),
    ],
)
def test_sets_are_told_by_the_names_of_shards(tmp_path, names, sets):
    for number, name in enumerate(names):
        add(tmp_path / name, f"{number}.png", landscape(number))
    training, held_out = open_shards(tmp_path)
    assert (len(training.names), len(held_out.names) if held_out else 0) == sets


def test_a_list_that_breaks_off_is_told_of(tmp_path):
    for number in range(3):
        add(tmp_path / "faces.tar", f"{number}.png", landscape(number))
    whole, _ = open_shards(tmp_path)
    content = bytearray((tmp_path / "faces.tar").read_bytes())
    header = whole.places[1, 0, 1] - 512
    content[header : header + 512] = b"x" * 512
    (tmp_path / "faces.tar").write_bytes(content)
    with pytest.warns(UserWarning, match=r"faces\.tar is damaged .*what lies behind is left out"):
        assert open_shards(tmp_path)[0].names == ["0"]
    (tmp_path / "faces.tar").write_bytes(content[:700])
    with pytest.raises(DataError, match=r"faces\.tar cannot be listed|no picture in .*faces\.tar"):
        open_shards(tmp_path)


def test_shards_that_cannot_be_told_apart_are_named(tmp_path):
    add(tmp_path / "train-0.tar", "1.png", landscape(1))
    add(tmp_path / "more-0.tar", "2.png", landscape(2))
    with pytest.warns(UserWarning, match=r"more-0\.tar left out: called neither train nor val"):
        assert open_shards(tmp_path)[0].names == ["1"]
    (tmp_path / "train-0.tar").rename(tmp_path / "val-0.tar")
    (tmp_path / "more-0.tar").unlink()
    with pytest.raises(DataError, match="shards for validation, but none called train"):
        open_shards(tmp_path)


def packed_singles(tmp_path):
    write(tmp_path / "pictures", ["1.png", "2.png", "3.png"])
    pack(tmp_path / "pictures", tmp_path / "shards")
    return tmp_path / "shards"


def test_a_damaged_shard_costs_the_pictures_in_the_damage_alone(tmp_path):
    shards = packed_singles(tmp_path)
    source, _ = open_shards(shards)
    shard = shards / "all-00000.tar"
    content = bytearray(shard.read_bytes())
    place = source.places[1, 0, 1]
    content[place + 100] ^= 1
    shard.write_bytes(content)
    with pytest.raises(PictureError, match=r"2\.png in .*all-00000\.tar: its checksum does not hold"):
        source.read(1)
    assert np.array_equal(source.read(0)[0], landscape(0))
    shard.write_bytes(content[: source.places[2, 0, 1] + 10])
    with pytest.raises(PictureError, match=r"3\.png in .*the shard ends before it"):
        source.read(2)
    shard.unlink()
    with pytest.raises(DataError, match=r"all-00000\.tar cannot be read: .*No such file") as error:
        source.read(0)
    assert not isinstance(error.value, PictureError)  # or a storage out of reach would pass for damaged pictures


@pytest.mark.parametrize("name", ["../secret.tar", "/etc/secret.tar", "https://x/secret.tar", "..\\secret.tar"])
def test_an_index_does_not_lead_out_of_its_folder(tmp_path, name):
    index = packed_singles(tmp_path) / "index.json"
    index.write_text(index.read_text().replace("all-00000.tar", name.replace("\\", "\\\\")))
    with pytest.raises(DataError, match="no name of a shard beside it"):
        open_shards(index.parent)


@pytest.mark.parametrize(
    "change",
    [
        lambda index: index.update(format=7),
        lambda index: index["sets"].clear(),
        lambda index: index["sets"]["all"].pop("shards"),
        lambda index: index["sets"]["all"]["samples"].clear(),
        lambda index: index["sets"]["all"]["samples"][0].pop(),
        lambda index: index["sets"]["all"]["samples"][1].__setitem__(0, index["sets"]["all"]["samples"][0][0]),
        lambda index: index["sets"]["all"]["samples"][0][1].__setitem__(1, -7),
        lambda index: index["sets"]["all"]["samples"][0][1].__setitem__(0, 3),
        lambda index: index["sets"]["all"]["samples"][0][1].__setitem__(2, 2**70),
        lambda index: index["sets"]["all"].update(parts=["x"]),
        lambda index: index.update(sets=[1]),
    ],
)
def test_a_damaged_index_is_named(tmp_path, change):
    path = packed_singles(tmp_path) / "index.json"
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))
    with pytest.raises(DataError, match=r"index\.json .*Pack it again"):
        open_shards(path.parent)
    path.write_text(path.read_text()[:-20])
    with pytest.raises(DataError, match=r"index\.json is damaged"):
        open_shards(path.parent)


def test_an_index_of_somebody_else_is_no_business_of_ours(tmp_path):
    shards = packed_singles(tmp_path)
    (shards / "index.json").write_text('[{"name": "all-00000.tar"}]')
    assert open_shards(shards)[0].names == ["000000000", "000000001", "000000002"]


def test_a_broken_connection_is_made_again(tmp_path, monkeypatch):
    shards = packed_singles(tmp_path)
    source, _ = open_shards(shards)
    monkeypatch.setattr(remote, "PATIENCE", (0.0, 0.0))
    fetch, failures = remote._fetch, [ConnectionResetError("by peer"), TimeoutError("too late")]

    def broken(*place):
        if failures:
            raise failures.pop()
        return fetch(*place)

    monkeypatch.setattr(remote, "_fetch", broken)
    with pytest.warns(UserWarning, match=r"all-00000\.tar cannot be read: TimeoutError: too late\. Trying again"):
        assert np.array_equal(source.read(0)[0], landscape(0))
    failures += [ConnectionResetError("by peer")] * 3
    with pytest.raises(DataError, match="by peer, 3 times"), pytest.warns(UserWarning, match="Trying again"):
        source.read(0)
    monkeypatch.setattr(remote, "_fetch", lambda *place: bytes(10**6))
    with pytest.raises(DataError, match="does not answer ranges of bytes"):
        source.read(0)


def test_signed_addresses_stay_signed():
    assert remote.join("https://x/y/?key=1", "all-0.tar") == "https://x/y/all-0.tar?key=1"
    assert remote.join("folder?", "all-0.tar") == "folder?/all-0.tar"


def test_shards_lie_behind_urls_too(folder, tmp_path):
    import fsspec

    pack(folder, tmp_path / "shards", PAIRED)
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "shards"), "/pictures/packed", recursive=True)
    try:
        far, near = (open_pairs(root, size=16) for root in ("memory://pictures/packed", tmp_path / "shards"))
        assert equal(batches(far[0]), batches(near[0]))
        memory.rm("/pictures/packed/val-00000.tar")
        with pytest.raises(DataError, match=r"memory://pictures/packed/val-00000\.tar cannot be read"):
            far[1].source.read(0)
    finally:
        memory.rm("/pictures", recursive=True)
    with pytest.raises(DataError, match=r"memory://pictures/packed/index\.json cannot be read.*need the index"):
        open_pairs("memory://pictures/packed", size=16)


def test_an_archive_beside_its_pictures_is_left_alone(tmp_path):
    write(tmp_path / "data", ["1.png", "2.png", "3.png"])
    add(tmp_path / "data" / "all.tar", "9.png", landscape(9))
    train, held_out = open_pictures(tmp_path / "data", size=16, validation=0.4)
    assert sorted([*train.source.names, *held_out.source.names]) == ["1.png", "2.png", "3.png"]


def test_labels_are_not_read_from_shards(tmp_path):
    shards = packed_singles(tmp_path)
    for opening in (open_classes, open_masks, open_same):
        for root in (shards, f"stream:{shards}", "https://example.org/shards", "hf:owner/name"):
            with pytest.raises(DataError, match="labels are read from folders, not from shards or streams"):
                opening(root)


def test_nothing_is_overwritten(folder, tmp_path):
    out = tmp_path / "shards"
    pack(folder, out, PAIRED)
    with pytest.raises(DataError, match="is not empty"):
        pack(folder, out, PAIRED)
    with pytest.raises(DataError, match="is not empty"):
        pack(folder, folder, PAIRED)
    with pytest.raises(KeyboardInterrupt):
        pack(folder, tmp_path / "cut", PAIRED, each=interrupted)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pictures", "shards"]


def interrupted():
    raise KeyboardInterrupt


def test_what_cannot_be_opened_is_left_out(tmp_path):
    write(tmp_path / "pictures", ["1.png", "2.png"])
    (tmp_path / "pictures" / "3.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.warns(UserWarning, match=r"3\.png is left out: .*No such file"):
        done = pack(tmp_path / "pictures", tmp_path / "shards")
    assert (done.samples, done.skipped) == ({"all": 2}, ["3.png"])
    assert open_shards(tmp_path / "shards")[0].names == ["1.png", "2.png"]


def test_what_shards_do_not_offer_is_refused(folder, tmp_path):
    pack(folder, tmp_path / "shards", PAIRED)
    with pytest.raises(DataError, match="which know their pairs: leave input_folder and target_folder out"):
        open_pairs(tmp_path / "shards", input_folder="sketch", target_folder="color", size=16)
    with pytest.raises(DataError, match="holds pairs of pictures, which have no halves"):
        open_pairs(tmp_path / "shards", side_by_side="input-left", size=16)


def test_the_fingerprint_tells_of_contents(tmp_path):
    write(tmp_path / "pictures", ["1.png", "2.png", "3.png"])
    pack(tmp_path / "pictures", tmp_path / "one")
    changed = landscape(0)
    changed.putpixel((0, 0), (9, 9, 9))
    images.save(changed, tmp_path / "pictures" / "1.png")
    pack(tmp_path / "pictures", tmp_path / "two")
    pack(tmp_path / "pictures", tmp_path / "three", shard_size=1)
    one, two, three = (open_shards(tmp_path / name)[0].fingerprint() for name in ("one", "two", "three"))
    assert one != two
    assert len(list((tmp_path / "three").glob("*.tar"))) == 3
    assert three == two
