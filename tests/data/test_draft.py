"""JPEGs that are far larger than needed are decoded at a part of their size, where that is asked for."""

import io
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gangen import images
from gangen.data import Augment, Centre, from_noise, open_classes, open_masks, open_pairs, open_pictures, pack
from gangen.data.augment import needed
from gangen.data.streams import Place
from tests.data.pictures import landscape

SIZE = (960, 640)


def jpeg(number: int = 0, size: tuple[int, int] = SIZE, kind: str = "JPEG", mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    landscape(number, size).convert(mode).save(file, kind, quality=95)
    return file.getvalue()


def photographs(folder: Path, count: int = 20) -> Path:
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / f"{number}.jpg").write_bytes(jpeg(number))
    return folder


@pytest.mark.parametrize(
    ("enough", "part"), [(0, 1), (641, 1), (640, 1), (321, 1), (320, 2), (161, 2), (160, 4), (80, 8), (1, 8)]
)
def test_the_shorter_side_keeps_what_is_enough(enough: int, part: int) -> None:
    with images.reduced(enough):
        decoded = images.decode(jpeg(), "it")
    assert decoded.size == (960 // part, 640 // part)
    assert images.decode(jpeg(), "it").size == SIZE  # only within the block


@pytest.mark.parametrize(("kind", "mode"), [("JPEG", "L"), ("JPEG", "CMYK"), ("MPO", "RGB")])
def test_every_kind_of_jpeg_looks_as_it_does_whole(kind: str, mode: str) -> None:
    file = jpeg(kind=kind, mode=mode)
    whole = images.decode(file, "it").resize((240, 160), Image.Resampling.BOX)
    with images.reduced(160):
        drafted = images.decode(file, "it")
    assert (drafted.mode, drafted.size) == ("RGB", (240, 160))
    apart = np.abs(np.asarray(whole, float) - np.asarray(drafted, float))
    assert apart.mean() < 2


def test_a_picture_on_its_side_keeps_its_shorter_side() -> None:
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    landscape(0, SIZE).save(file, "JPEG", exif=exif)
    with images.reduced(160):
        assert images.decode(file.getvalue(), "it").size == (160, 240)


def test_other_formats_are_read_whole() -> None:
    file = io.BytesIO()
    landscape(0, SIZE).save(file, "PNG")
    with images.reduced(32):
        assert images.decode(file.getvalue(), "it").size == SIZE


def test_only_a_draft_needs_less_than_all() -> None:
    assert needed(Augment(64)) == needed(Centre(64)) == needed(None) == 0
    assert needed(Augment(64, scale=(0.5, 1.0), draft=True)) == 256
    assert needed(Augment((48, 64), scale=(1.0, 1.0), draft=True)) == 128


@pytest.mark.parametrize("packed", [False, True])
def test_samples_are_nearly_the_same_and_as_large(tmp_path: Path, packed: bool) -> None:
    place = photographs(tmp_path / "photographs")
    if packed:
        pack(place, tmp_path / "shards")
        place = tmp_path / "shards"
    plain, _ = open_pictures(place, size=32, augment=Augment(32, flip=False, scale=(1.0, 1.0)))
    drafted, held_out = open_pictures(
        place, size=32, augment=Augment(32, flip=False, scale=(1.0, 1.0), draft=True)
    )
    assert drafted.read(0)[1][0].size == (960 // 8, 640 // 8)
    for number in range(len(plain)):
        one, other = plain[number].target, drafted[number].target
        assert one.shape == other.shape == (3, 32, 32)
        # Where the crop begins is drawn in whole pixels of what was decoded.
        assert (one.mean((1, 2)) - other.mean((1, 2))).abs().max() < 0.1
    # What is validated on stays as it is.
    assert held_out.read(0)[1][0].size == SIZE


@pytest.mark.parametrize("noise", [False, True])
def test_a_stream_is_drafted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noise: bool) -> None:
    pack(photographs(tmp_path / "photographs"), tmp_path / "shards")
    place = f"stream:{tmp_path / 'shards'}"
    stream, _ = open_pictures(place, size=32, augment=Augment(32, draft=True))
    made = from_noise(stream, 8) if noise else stream
    sizes, decode = [], images.decode

    def seen(*arguments: Any) -> Image.Image:
        decoded = decode(*arguments)
        sizes.append(decoded.size)
        return decoded

    monkeypatch.setattr(images, "decode", seen)
    samples = list(islice(made.lane(0, 1, 0, Place()), 4))
    assert len(samples) == 4
    assert set(sizes) == {(960 // 8, 640 // 8)}


def test_what_is_kept_is_the_draft(tmp_path: Path) -> None:
    train, _ = open_pictures(photographs(tmp_path / "all"), size=32, augment=Augment(32, draft=True), keep=1)
    assert [train.read(0)[1][0].size for _ in range(2)] == [(960 // 8, 640 // 8)] * 2


def test_pictures_that_must_fit_others_are_read_whole(tmp_path: Path) -> None:
    photographs(tmp_path / "pairs" / "target")
    (tmp_path / "pairs" / "input").mkdir()
    for number in range(20):
        landscape(number, SIZE).save(tmp_path / "pairs" / "input" / f"{number}.png")
    augment = Augment(32, draft=True)
    pairs, _ = open_pairs(
        tmp_path / "pairs", input_folder="input", target_folder="target", size=32, augment=augment
    )
    assert [picture.size for picture in pairs.read(0)[1]] == [SIZE, SIZE]
    halves, _ = open_pairs(photographs(tmp_path / "halves"), side_by_side="input-left", size=32, augment=augment)
    assert [picture.size for picture in halves.read(0)[1]] == [(480, 640), (480, 640)]


def test_classes_are_drafted_and_masks_are_not(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        photographs(tmp_path / "classes" / name)
    train, _ = open_classes(tmp_path / "classes", size=32, augment=Augment(32, draft=True))
    assert train.read(0)[1][0].size == (960 // 8, 640 // 8)
    photographs(tmp_path / "scenes" / "images")
    (tmp_path / "scenes" / "labels").mkdir()
    (tmp_path / "scenes" / "codes.txt").write_text("ground\nsky\n")
    for number in range(20):
        Image.new("L", SIZE, number % 2).save(tmp_path / "scenes" / "labels" / f"{number}.png")
    masks, _ = open_masks(tmp_path / "scenes", size=32, augment=Augment(32, draft=True))
    assert masks[0].input.shape[-1] == masks[0].target.shape[-1] == 32
