import numpy as np
import pytest
from PIL import Image, ImageDraw

from gangen.data import embedded_photographs, sketch


def ink(drawing):
    return 1 - np.asarray(drawing.convert("L")) / 255


@pytest.fixture(scope="module")
def disc():
    picture = Image.new("RGB", (128, 128), (230, 200, 120))
    ImageDraw.Draw(picture).ellipse((32, 32, 96, 96), fill=(90, 40, 30))
    return picture


def test_lines_follow_the_outline_and_the_rest_is_paper(disc):
    lines = ink(sketch(disc))
    down, across = np.mgrid[:128, :128]
    radius = np.hypot(down - 64, across - 64)
    for angle in np.linspace(0, 2 * np.pi, 36):
        x, y = round(64 + 32 * np.cos(angle)), round(64 + 32 * np.sin(angle))
        assert lines[y - 3 : y + 4, x - 3 : x + 4].max() > 0.6, angle
    assert lines[radius < 32].sum() > 5 * lines[radius > 33].sum(), "a line is on the dark side of its edge"
    assert lines[np.abs(radius - 32) > 8].max() == 0, "dark and light areas alike are paper"


def test_the_drawing_is_grey_and_of_the_same_size(disc):
    drawing = sketch(disc.crop((0, 0, 100, 60)))
    assert (drawing.mode, drawing.size) == ("RGB", (100, 60))
    levels = np.asarray(drawing)
    assert (levels[:, :, 0] == levels[:, :, 1]).all()
    assert (levels[:, :, 0] == levels[:, :, 2]).all()


def test_a_flat_picture_stays_blank():
    for grey in (0, 90, 255):
        assert ink(sketch(Image.new("RGB", (40, 40), (grey,) * 3))).max() == 0
    assert sketch(Image.new("RGB", (1, 1))).size == (1, 1)


def test_a_larger_picture_gets_the_same_drawing_in_larger_strokes(disc):
    small = ink(sketch(disc.resize((256, 256), Image.Resampling.BICUBIC)))
    large = ink(sketch(disc.resize((512, 512), Image.Resampling.BICUBIC)))
    assert large.mean() == pytest.approx(small.mean(), rel=0.25)


def test_photographs_become_mostly_white_with_dark_lines():
    for name, photograph in embedded_photographs():
        lines = ink(sketch(photograph.resize((128, 128))))
        assert 0.01 < (lines > 0.5).mean() < 0.25, name
        assert (lines < 0.05).mean() > 0.6, name
        assert lines.max() > 0.9, name
