import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from gangen.data import Augment, Centre, Codes, open_masks
from gangen.errors import DataError
from gangen.labels import IGNORED
from tests.data.pictures import landscape

NAMES = ["road", "car", "sky", "Void"]
SIZE = (40, 30)


def mask_of(number, size=SIZE):
    """Four quarters of levels 0 to 3; where a pixel was, its level tells."""
    levels = np.zeros((size[1], size[0]), np.uint8)
    levels[: size[1] // 2, size[0] // 2 :] = 1
    levels[size[1] // 2 :, : size[0] // 2] = 2
    levels[size[1] // 2 :, size[0] // 2 :] = 3
    return Image.fromarray(levels)


def make(folder, names=("a", "b", "c"), labels=mask_of, parts=("train", "val")):
    """Write pictures, labels and codes.txt."""
    for part in parts:
        for number, name in enumerate(names):
            picture, label = folder / part / "images" / f"{name}.jpg", folder / part / "labels" / f"{name}.png"
            for path in (picture, label):
                path.parent.mkdir(parents=True, exist_ok=True)
            landscape(number, SIZE).save(picture)
            labels(number).save(label)
    (folder / "codes.txt").write_text("\n".join(NAMES) + "\n")
    return folder


def test_pictures_and_labels_of_equal_names_belong_together(tmp_path):
    train, val = open_masks(make(tmp_path), size=(30, 40), augment=Centre((30, 40)))
    assert train.classes.names == ("road", "car", "sky")
    assert (len(train), len(val)) == (3, 3)
    batch = next(iter(DataLoader(train, batch_size=3)))
    assert batch.input.shape == (3, 3, 30, 40)
    assert batch.target.shape == (3, 30, 40)
    assert batch.target.dtype == torch.int64
    for rows, columns, label in ((0, 0, 0), (0, 20, 1), (15, 0, 2), (15, 20, IGNORED)):
        assert (batch.target[:, rows : rows + 15, columns : columns + 20] == label).all()


@pytest.mark.parametrize("layout", ["part first", "folder first", "share"])
def test_layouts(tmp_path, layout):
    make(tmp_path / "given")
    root = tmp_path / layout
    for part in ("train", "val"):
        for kind in ("images", "labels"):
            place = {"part first": root / part / kind, "folder first": root / kind / part, "share": root / kind}
            place[layout].parent.mkdir(parents=True, exist_ok=True)
            if not place[layout].exists():
                (tmp_path / "given" / part / kind).rename(place[layout])
    train, val = open_masks(root, codes=NAMES, size=8, validation=0.4)
    assert len(train) + len(val) == (3 if layout == "share" else 6)
    assert set(train[0].target.unique().tolist()) <= {0, 1, 2, IGNORED}


def test_a_function_may_tell_where_labels_are(tmp_path):
    make(tmp_path, parts=("train",))
    for path in sorted((tmp_path / "train/labels").glob("*.png")):
        path.rename(tmp_path / f"{path.stem}_L.png")
    for given in (tmp_path, tmp_path / "train"):
        found = open_masks(
            given,
            labels=lambda path: tmp_path / f"{path.stem}_L.png",
            codes=NAMES,
            pictures=None if given.name == "train" else "train/images",
            size=8,
            validation=0.4,
        )
        assert sorted(name[-5] for data in found for name in data.source.names) == ["a", "b", "c"]


def test_label_pictures_among_the_others_are_no_pictures(tmp_path):
    make(tmp_path / "made", parts=("train",))
    root = tmp_path / "all"
    (root / "photos").mkdir(parents=True)
    (root / "masks").mkdir()
    for name in "abc":
        (tmp_path / f"made/train/images/{name}.jpg").rename(root / f"photos/{name}.jpg")
        (tmp_path / f"made/train/labels/{name}.png").rename(root / f"masks/{name}.png")
    given = {"codes": NAMES, "size": 8, "validation": 0.65}
    data = open_masks(root, labels=lambda path: root / "masks" / f"{path.stem}.png", **given)
    assert sorted(name for part in data for name in part.source.names) == [f"photos/{name}.jpg" for name in "abc"]
    with pytest.raises(DataError, match=r"label pictures of .*masks are its pictures themselves"):
        open_masks(root, labels="masks", pictures="masks", **given)


def test_labels_lie_inside_the_data_wherever_the_pictures_are(tmp_path, monkeypatch):
    make(tmp_path / "made", parts=("train",))
    (tmp_path / "made/train/images").rename(tmp_path / "pictures")
    (tmp_path / "elsewhere/labels").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere")
    train, val = open_masks(
        tmp_path / "made/train", pictures=tmp_path / "pictures", codes=NAMES, size=8, validation=0.4
    )
    assert len(train) + len(val) == 3


def test_masks_move_with_their_pictures_and_are_never_mixed(tmp_path):
    """The picture's colours tell the place that a pixel was at, so they tell the level that it must have."""
    data, _ = open_masks(make(tmp_path), size=(24, 32), augment=Augment((24, 32), scale=(0.4, 1.0), jitter=0.0))
    seen = set()
    for seed in range(12):
        torch.manual_seed(seed)
        picture, target, _ = data[0]
        column, row = (picture[:2] + 1) * 127.5 / 4
        clear = ((column - 20).abs() > 1.5) & ((row - 15).abs() > 1.5)  # JPEG and smoothing blur the borders
        right = (row > 15).long() * 2 + (column > 20).long()
        right = right.where(right < 3, IGNORED)
        assert (target == right)[clear].float().mean() > 0.99
        assert set(target.unique().tolist()) <= {0, 1, 2, IGNORED}
        seen.add(bool(column[12, 0] < column[12, -1]))
    assert seen == {True, False}, "some are mirrored"


@pytest.mark.parametrize("kind", ["grey", "palette", "colours", "16 bits", "black and white", "0 and 255"])
def test_all_kinds_of_label_pictures(tmp_path, kind):
    colours = {(255, 0, 0): "road", (0, 255, 0): "car", (0, 0, 255): "sky", (0, 0, 0): "Void"}

    def labels(number):
        mask = mask_of(number)
        if kind == "palette":
            mask = mask.convert("P")
            mask.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0, 0, 0, 200])
        if kind == "colours":
            return Image.fromarray(np.array(list(colours), np.uint8)[np.asarray(mask)])
        if kind == "16 bits":
            return Image.fromarray(np.asarray(mask).astype(np.uint16))
        if kind == "black and white":
            return mask.point(lambda level: 255 * (level == 1)).convert("1")
        if kind == "0 and 255":
            return mask.point(lambda level: 255 * (level == 1))
        return mask

    two = kind in ("black and white", "0 and 255")
    codes = ["not", "car"] if two else colours if kind == "colours" else NAMES
    data, _ = open_masks(make(tmp_path, labels=labels), codes=codes, size=(30, 40), augment=Centre((30, 40)))
    expected = [0, 1, 0, 0] if two else [0, 1, 2, IGNORED]
    assert data[0].target[[3, 3, 20, 20], [3, 30, 3, 30]].tolist() == expected
    if kind == "colours":
        assert data.classes.colours == ((255, 0, 0), (0, 255, 0), (0, 0, 255))


def test_levels_may_have_gaps_and_names(tmp_path):
    make(tmp_path, labels=lambda number: mask_of(number).point(lambda level: [0, 7, 255, 9][level % 4]))
    codes = tmp_path / "levels.txt"
    codes.write_text("0 road\n7 a car\n255 void\n9 road\n")
    data, _ = open_masks(tmp_path, codes="levels.txt", size=(30, 40), augment=Centre((30, 40)))
    assert data.classes.names == ("road", "a car")
    assert data[0].target[[3, 3, 20, 20], [3, 30, 3, 30]].tolist() == [0, 1, IGNORED, 0]


def test_a_level_outside_the_codes_is_named_with_its_file(tmp_path):
    make(tmp_path)
    labels = mask_of(0)
    labels.putpixel((5, 5), 77)
    labels.save(tmp_path / "train/labels/b.png")
    train, _ = open_masks(tmp_path, size=8)
    with pytest.raises(DataError, match=r"b\.png: 1 of 1200 pixels have level 77, which is none .* 0, 1, 2, 3"):
        [train[index] for index in range(len(train))]


def test_labels_in_colours_need_codes_of_colours(tmp_path):
    other = Image.new("L", SIZE, 9)
    make(tmp_path, labels=lambda number: Image.merge("RGB", [mask_of(number), other, other]))
    with pytest.raises(DataError, match=r"colour \(0, 9, 9\).*codes name the levels"):
        open_masks(tmp_path, size=8)


def test_a_mask_of_another_size_is_named_with_both_sizes(tmp_path):
    make(tmp_path)
    mask_of(0, (20, 30)).save(tmp_path / "train/labels/c.png")
    train, _ = open_masks(tmp_path, size=8)
    with pytest.raises(DataError, match=r"c\.png is 20x30 pixels, and its picture .*c\.jpg is 40x30"):
        train[2]


def test_missing_masks_are_named_and_left_out(tmp_path):
    make(tmp_path, names=list("abcdef"))
    for name in "bcdef":
        (tmp_path / f"train/labels/{name}.png").unlink()
    with pytest.warns(UserWarning, match=r"5 pictures have no label picture .* 1 remain: no .*b\.png.* 2 more"):
        train, _ = open_masks(tmp_path, size=8)
    assert len(train) == 1
    (tmp_path / "train/labels/a.png").rename(tmp_path / "train/labels/z.png")
    with pytest.raises(DataError, match="none of the 6 pictures"):
        open_masks(tmp_path, size=8)


def test_an_unreadable_mask_is_replaced_and_counted(tmp_path):
    make(tmp_path)
    (tmp_path / "train/labels/b.png").write_bytes(b"broken")
    train, _ = open_masks(tmp_path, size=8)
    with pytest.warns(UserWarning, match=r"cannot read .*labels/b\.png.*next readable"):
        assert train[1].name == "c.jpg"
    assert train.skipped() == ["b.jpg"]
    assert train.replaced(1)


def test_codes_that_say_nothing_are_refused(tmp_path):
    empty = tmp_path / "codes.txt"
    empty.write_text("\n\n")
    with pytest.raises(DataError, match="holds no codes"):
        Codes.of(empty)
    with pytest.raises(DataError, match=r"cannot read the codes .*none\.txt"):
        Codes.of(tmp_path / "none.txt")
    with pytest.raises(DataError, match="0 classes in the codes"):
        Codes.of(["void", "VOID"])
    with pytest.raises(DataError, match="300 classes"):
        Codes.of([f"class {k}" for k in range(300)])


def test_fingerprint_tells_other_classes(tmp_path):
    make(tmp_path)
    one, other = (open_masks(tmp_path, codes=codes, size=8)[0] for codes in (NAMES, [*NAMES[:2], "air", "Void"]))
    assert one.fingerprint() != other.fingerprint()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert one.fingerprint() == open_masks(tmp_path, size=8, augment=Centre(9))[0].fingerprint()


def test_grey_levels_are_read_from_colour_pictures_and_colours_from_palettes(tmp_path):
    levels = mask_of(0)
    for mode in ("RGB", "RGBA"):
        levels.convert(mode).save(tmp_path / f"{mode}.png")
        assert (
            Codes.of(NAMES).read(tmp_path / f"{mode}.png").tobytes()
            == Codes.of(NAMES).read(grey(tmp_path)).tobytes()
        )
    painted = levels.copy().convert("P")
    painted.putpalette([128, 64, 128, 0, 0, 142, 70, 130, 180, 0, 0, 0])
    painted.save(tmp_path / "palette.png")
    colours = {(128, 64, 128): "road", (0, 0, 142): "car", (70, 130, 180): "sky", (0, 0, 0): "Void"}
    assert (
        Codes.of(colours).read(tmp_path / "palette.png").tobytes()
        == Codes.of(NAMES).read(grey(tmp_path)).tobytes()
    )


def grey(folder):
    mask_of(0).save(folder / "grey.png")
    return folder / "grey.png"


def test_labels_that_lie_across_are_told_of_the_cameras_note(tmp_path):
    make(tmp_path, names=("a", "b"))
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "train" / "images" / "a.jpg"
    Image.open(path).save(path, exif=exif)
    with pytest.raises(DataError, match=r"EXIF says to turn the picture; turn the labels too"):
        open_masks(tmp_path, size=(30, 40))[0][0]


@pytest.mark.parametrize("size", [16, 17, 30])
def test_masks_lie_where_their_pictures_do(tmp_path, size):
    """Stripes of 8 pixels, as light in the picture as their level says, whose edges reducing must not part."""
    levels = np.tile(np.repeat(np.array([0, 2], np.uint8), 8), (64, 4))

    def labels(number):
        return Image.fromarray(levels)

    make(tmp_path, names=("a",), labels=labels)
    for part in ("train", "val"):
        (tmp_path / part / "images" / "a.jpg").unlink()
        Image.fromarray(levels * 127).convert("RGB").save(tmp_path / part / "images" / "a.png")
    _, held_out = open_masks(tmp_path, size=size)
    light = held_out[0].input.mean(0) > 0
    assert light.float().mean().item() == pytest.approx(0.5, abs=0.05)
    assert (light == (held_out[0].target == 2)).all()
