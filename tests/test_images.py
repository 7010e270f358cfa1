import errno
import random
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageChops

from gangen import colour, images
from gangen.errors import PictureError, StorageError


def checker(size=(12, 8)):
    """A small picture in which no two pixels are alike."""
    values = np.arange(size[0] * size[1] * 3, dtype=np.uint32).reshape(size[1], size[0], 3) * 7 % 256
    return Image.fromarray(values.astype(np.uint8))


def test_every_level_survives_the_way_to_a_tensor_and_back():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    picture = Image.merge("RGB", [Image.fromarray(np.roll(levels, shift)) for shift in (0, 80, 160)])
    tensor = images.to_tensor(picture)
    assert tensor.shape == (3, 16, 16)
    assert tensor.dtype == torch.float32
    assert (tensor.min().item(), tensor.max().item()) == (-1.0, 1.0)
    assert images.to_picture(tensor).tobytes() == picture.tobytes()


def test_to_picture_rounds_clamps_and_survives_nan():
    step = 2 / 255
    values = torch.tensor([-7.0, -1.0, -1 + 0.4 * step, -1 + 0.6 * step, 1.0, 9.0, float("nan"), float("inf")])
    assert list(images.to_picture(values.view(1, 1, -1)).tobytes()) == [0, 0, 0, 1, 255, 255, 0, 255]


@pytest.mark.parametrize("shape", [(1, 3, 4, 4), (2, 4, 4), (4, 4)])
def test_to_picture_refuses_what_is_no_single_picture(shape):
    with pytest.raises(ValueError, match=str(shape).replace("(", r"\(").replace(")", r"\)")):
        images.to_picture(torch.zeros(shape))


def test_grey_and_half_precision_become_pictures():
    assert images.to_picture(torch.zeros(1, 2, 2, dtype=torch.bfloat16)).mode == "L"
    assert images.to_picture(torch.zeros(3, 2, 2, requires_grad=True)).getpixel((0, 0)) == (128, 128, 128)


def saved(tmp_path, picture, name, **options):
    picture.save(tmp_path / name, **options)
    return images.read(tmp_path / name)


def test_read_gives_plain_rgb_for_every_mode(tmp_path):
    red = Image.new("RGB", (4, 4), (200, 30, 40))
    assert saved(tmp_path, red, "rgb.png").getpixel((0, 0)) == (200, 30, 40)
    assert saved(tmp_path, red.convert("P"), "p.png").getpixel((0, 0)) == pytest.approx((200, 30, 40), abs=26)
    assert saved(tmp_path, Image.new("L", (4, 4), 77), "l.png").getpixel((0, 0)) == (77, 77, 77)
    assert saved(tmp_path, Image.new("1", (4, 4), 1), "1.png").getpixel((0, 0)) == (255, 255, 255)
    assert saved(tmp_path, red.convert("CMYK"), "cmyk.tif").getpixel((0, 0)) == pytest.approx((200, 30, 40), abs=3)
    assert saved(tmp_path, red.convert("CMYK"), "cmyk.jpg").getpixel((0, 0)) == pytest.approx((200, 30, 40), abs=9)
    assert {images.read(path).mode for path in tmp_path.iterdir()} == {"RGB"}
    assert {images.read(path, "L").mode for path in tmp_path.iterdir()} == {"L"}


def test_transparency_of_every_kind_is_laid_over_white(tmp_path):
    half = Image.new("RGBA", (2, 1), (255, 0, 0, 128))
    half.putpixel((1, 0), (0, 0, 0, 0))
    read = saved(tmp_path, half, "rgba.png")
    assert read.getpixel((0, 0)) == pytest.approx((255, 127, 127), abs=1)
    assert read.getpixel((1, 0)) == (255, 255, 255)

    grey = Image.new("LA", (1, 1), (0, 128))
    assert saved(tmp_path, grey, "la.png").getpixel((0, 0)) == pytest.approx((127, 127, 127), abs=1)

    palette = Image.new("P", (2, 1), 1)
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 0)
    for name in ("p.png", "p.gif"):
        read = saved(tmp_path, palette, name, transparency=0)
        assert read.getpixel((0, 0)) == (40, 50, 60)
        assert read.getpixel((1, 0)) == (255, 255, 255)

    keyed = Image.new("RGB", (1, 1), (1, 2, 3))
    assert saved(tmp_path, keyed, "keyed.png", transparency=(1, 2, 3)).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("name", ["deep.png", "deep.tif", "deep.pgm"])
def test_16_bit_grey_is_scaled_and_not_clipped(tmp_path, name):
    values = np.array([[0, 257, 128 * 257, 65535]], dtype=np.uint16)
    read = saved(tmp_path, Image.fromarray(values), name)
    assert [read.getpixel((x, 0)) for x in range(4)] == [(v, v, v) for v in (0, 1, 128, 255)]


def test_16_bit_grey_is_read_whatever_the_order_of_its_bytes(tmp_path):
    values = np.array([[0, 257, 128 * 257, 65535]], dtype=">u2")
    read = saved(tmp_path, Image.frombytes("I;16B", (4, 1), values.tobytes()), "deep.tif")
    assert (tmp_path / "deep.tif").read_bytes()[:2] == b"MM"
    assert [read.getpixel((x, 0)) for x in range(4)] == [(v, v, v) for v in (0, 1, 128, 255)]


def test_float_grey_is_scaled_or_refused(tmp_path):
    assert saved(tmp_path, Image.new("F", (1, 1), 0.5), "f.tif").getpixel((0, 0)) == (128, 128, 128)
    with pytest.raises(PictureError, match=r"wild\.tif.*0\.\.1"):
        saved(tmp_path, Image.new("F", (1, 1), 300.0), "wild.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_the_camera_is_applied(tmp_path, orientation):
    upright = checker()
    turns = {
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }
    stored = upright
    for turn in turns.get(orientation, []):
        stored = stored.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    read = saved(tmp_path, stored, "turned.png", exif=exif)
    assert read.size == upright.size
    assert ImageChops.difference(read, upright).getbbox() is None


def png_that_claims(width, height):
    """A PNG whose header promises a size; its pixels are missing."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_unreadable_files_are_named_with_their_cause(tmp_path):
    whole = tmp_path / "whole.jpg"
    Image.effect_noise((64, 64), 90).save(whole)
    data = whole.read_bytes()
    troubles = {
        "truncated.jpg": (data[: len(data) // 2], "truncated"),
        "empty.png": (b"", "empty"),
        "text.png": (b"this is not a picture", "not a picture"),
        "bomb.png": (png_that_claims(30_000, 30_000), "MAX_IMAGE_PIXELS"),
        "zero.png": (png_that_claims(0, 5), "Replace the file"),
        "needle.png": (png_that_claims(1, 1_000_000), "1x1000000 pixels.*MAX_RATIO"),
    }
    for name, (content, cause) in troubles.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(PictureError, match=f"{name}.*{cause}"):
            images.read(tmp_path / name)
    with pytest.raises(PictureError, match=r"absent\.png: there is no such file"):
        images.read(tmp_path / "absent.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(PictureError, match=r"folder\.png: it is a folder"):
        images.read(tmp_path / "folder.png")


def test_the_limit_on_long_pictures_can_be_raised(tmp_path, monkeypatch):
    Image.new("RGB", (1, 300), "red").save(tmp_path / "long.png")
    with pytest.raises(PictureError, match="MAX_RATIO"):
        images.read(tmp_path / "long.png")
    monkeypatch.setattr(images, "MAX_RATIO", 300)
    assert images.read(tmp_path / "long.png").size == (1, 300)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_no_damage_to_a_file_raises_anything_else(tmp_path):
    chance = random.Random(0)
    readable, told = 0, set()
    for name in ("a.png", "a.jpg", "a.webp", "a.gif", "a.tif", "a.bmp"):
        checker((40, 30)).save(tmp_path / name)
        data = (tmp_path / name).read_bytes()
        for _ in range(40):
            broken = bytearray(data[: chance.randrange(1, len(data) + 1)])
            for _ in range(chance.randrange(1, 20)):
                broken[chance.randrange(len(broken))] = chance.randrange(256)
            (tmp_path / "broken").write_bytes(broken)
            try:
                readable += images.read(tmp_path / "broken").mode == "RGB"
            except PictureError as error:
                told.add(str(error))
    assert readable < 240
    assert len(told) > 5
    assert all("broken: " in text and ("Replace" in text or "MAX_RATIO" in text) for text in told)


def test_save_writes_the_format_of_the_suffix_and_leaves_nothing_else(tmp_path):
    picture = checker()
    images.save(images.to_tensor(picture), tmp_path / "new" / "a.png")
    assert images.read(tmp_path / "new" / "a.png").tobytes() == picture.tobytes()
    images.save(picture, tmp_path / "new" / "b.jpg")
    assert Image.open(tmp_path / "new" / "b.jpg").format == "JPEG"
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["a.png", "b.jpg"]
    for name in ("c.xyz", "c"):
        with pytest.raises(PictureError, match=r"Use \.png"):
            images.save(picture, tmp_path / name)


def test_suffixes_are_matched_in_any_case():
    assert images.is_picture("a/B.JPeG")
    assert not images.is_picture("a/notes.txt")
    assert set(images.SUFFIXES) <= set(Image.registered_extensions())


def test_saturation_of_known_colours():
    colours = torch.tensor([[255, 0, 0], [128, 128, 128], [0, 0, 0], [200, 100, 150], [255, 255, 255]])
    pictures = (colours / 127.5 - 1).view(5, 3, 1, 1).expand(5, 3, 2, 2)
    assert colour.saturation(pictures).tolist() == pytest.approx([1, 0, 0, 100 / 255, 0], abs=1e-6)


def test_noise_in_black_lines_is_hardly_saturation():
    lines = -torch.ones(1, 3, 16, 16)
    noise = torch.randn(lines.shape, generator=torch.Generator().manual_seed(0)) * 0.03
    assert colour.saturation(lines + noise) < 0.02


def test_luminance_agrees_with_pillow():
    picture = checker((16, 16))
    grey = images.to_picture(colour.luminance(images.to_tensor(picture)[None])[0])
    difference = np.asarray(grey, dtype=int) - np.asarray(picture.convert("L"), dtype=int)
    assert np.abs(difference).max() <= 1


def test_a_small_picture_is_enlarged_in_a_grid_pixel_by_pixel():
    picture = checker((64, 64))
    sheet = images.grid([[picture, images.to_tensor(picture)]], ["input", "output"])
    enlarged = picture.resize((192, 192), Image.Resampling.NEAREST)
    places = [
        (x, y)
        for y in range(sheet.height - 191)
        for x in range(sheet.width - 191)
        if sheet.getpixel((x, y)) == picture.getpixel((0, 0))
        and sheet.crop((x, y, x + 192, y + 192)).tobytes() == enlarged.tobytes()
    ]
    assert len(places) == 2
    assert places[0][1] == places[1][1]
    assert sheet.getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(("side", "cell"), [(16, 192), (64, 192), (96, 192), (128, 256), (256, 256), (2000, 512)])
def test_cells_are_legible_at_every_size(side, cell):
    sheet = images.grid([[Image.new("RGB", (side, side), "red")]])
    red = np.asarray(sheet)[:, :, 1] < 128
    assert red.any(axis=0).sum() == red.any(axis=1).sum() == cell


def test_labels_are_written_over_the_columns_and_beside_the_rows():
    cells = [[Image.new("RGB", (64, 64), "red")] * 2] * 2
    bare, labelled = images.grid(cells), images.grid(cells, ["input", "target"], ["one", "two"])
    top, left = labelled.height - bare.height, labelled.width - bare.width

    def ink(box):
        return (np.asarray(labelled.crop(box).convert("L")) < 140).any(axis=0)

    middle = left + (bare.width // 2)
    over = ink((0, 0, labelled.width, top))
    assert top > 12
    assert over[left:middle].any()
    assert over[middle:].any()
    assert not over[:left].any()
    for rows in ((top, labelled.height // 2), (labelled.height // 2, labelled.height)):
        assert ink((0, rows[0], left, rows[1])).sum() > 10


def test_long_row_labels_do_not_push_the_pictures_off():
    cells = [[Image.new("RGB", (64, 64), "red")]]
    short, long = (images.grid(cells, row_labels=[label]) for label in ("x", "x" * 400))
    assert long.width < short.width + 192
    with pytest.raises(ValueError, match="columns"):
        images.grid([[cells[0][0]] * 2], ["only one"])
    with pytest.raises(ValueError, match="at least one picture"):
        images.grid([[]])


def test_exif_data_that_cannot_be_read_do_not_cost_the_picture(tmp_path):
    picture = saved(tmp_path, checker(), "x.jpg", exif=b"Exif\x00\x00no TIFF at all", quality=95)
    assert picture.size == (12, 8)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_what_was_read_is_upright_and_says_so(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = saved(tmp_path, checker(), "x.png", exif=exif)
    assert picture.size == ((8, 12) if orientation >= 5 else (12, 8))
    assert images.upright(picture).tobytes() == picture.tobytes()


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), MemoryError()])
def test_storage_or_memory_that_fail_are_not_held_against_the_picture(tmp_path, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(StorageError, match=r"cannot read .*x\.png: .*again"):
        images.read(tmp_path / "x.png")
