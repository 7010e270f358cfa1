import ast

import numpy as np
import pytest
import torch
from PIL import Image

from gangen import colour, images
from gangen.data import embedded_photographs
from tests.conftest import ROOT


def levels_off(pictures, light):
    """By how many of 255 levels, at most, the L* of pictures as 8 bits differs from `light`, 0..100."""
    rounded = torch.stack([images.to_tensor(images.to_picture(picture)) for picture in pictures])
    return (colour.lightness(rounded) - light).abs().max().item() * 255 / 100


def noise(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_agrees_with_scikit_image():
    rgb2lab = pytest.importorskip("skimage.color").rgb2lab
    pictures = noise(2, 3, 30, 40) * 2 - 1
    expected = rgb2lab(((pictures + 1) / 2).permute(0, 2, 3, 1).numpy())
    assert np.abs(colour.to_lab(pictures).permute(0, 2, 3, 1).numpy() - expected).max() < 1e-3
    assert np.abs(colour.lightness(pictures)[:, 0].numpy() - expected[..., 0]).max() < 1e-3


def test_there_and_back():
    pictures = noise(2, 3, 30, 40) * 2 - 1
    lab = colour.to_lab(pictures)
    torch.testing.assert_close(colour.from_lab(lab[:, :1], lab[:, 1:]), pictures, atol=1e-4, rtol=0)


def test_the_lightness_is_kept_whatever_the_chroma():
    """Colours far outside of sRGB, at every lightness from black to white, both ends included."""
    light = torch.linspace(0, 100, 501).view(1, 1, -1, 1).expand(1, 1, 501, 200)
    chroma = (noise(1, 2, 501, 200) * 2 - 1) * 200
    made = colour.from_lab(light, chroma)
    assert made.min() >= -1
    assert made.max() <= 1
    assert (colour.lightness(made) - light).abs().max() < 1e-3
    assert levels_off(made, light) < 0.7
    # The plain way, clipping the channels, is what this is not.
    from kornia.color import lab_to_rgb

    assert levels_off(lab_to_rgb(torch.cat([light, chroma], dim=1)) * 2 - 1, light) > 20


def test_colours_that_srgb_has_are_not_touched_and_others_keep_their_hue_nearly():
    light, chroma = torch.full((1, 1, 1, 2), 60.0), torch.tensor([[20.0, 120.0], [15.0, 90.0]]).view(1, 2, 1, 2)
    inside, outside = colour.to_lab(colour.from_lab(light, chroma))[0, 1:, 0].T
    torch.testing.assert_close(inside, chroma[0, :, 0, 0], atol=0.01, rtol=0)
    assert 40 < outside.norm() < chroma[0, :, 0, 1].norm()
    assert torch.cosine_similarity(outside, chroma[0, :, 0, 1], dim=0) > 0.95


def test_gradients_are_finite_at_black_white_grey_and_outside_of_srgb():
    light = torch.tensor([0.0, 100.0, 50.0, 50.0, 1.0]).view(1, 1, 1, 5).requires_grad_()
    chroma = torch.tensor([[0.0, 30.0, 0.0, 150.0, -90.0], [0.0, 0.0, 0.0, -150.0, 5.0]]).view(1, 2, 1, 5)
    chroma.requires_grad_()
    made = colour.from_lab(light, chroma)
    (made.square().sum() + colour.to_lab(made).square().sum()).backward()
    assert light.grad.isfinite().all()
    assert chroma.grad.isfinite().all()
    assert chroma.grad.abs().sum() > 0


def test_autocast_costs_no_digits():
    pictures = noise(1, 3, 8, 8) * 2 - 1
    lab = colour.to_lab(pictures)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(colour.to_lab(pictures), lab)
        torch.testing.assert_close(colour.lightness(pictures), lab[:, :1], atol=1e-3, rtol=0)
        made = colour.from_lab(lab[:, :1].bfloat16(), lab[:, 1:].bfloat16())
    assert made.dtype == torch.float32
    assert (made - pictures).abs().max() < 0.05  # what bfloat16 took from the arguments


def test_grey_pictures_have_the_lightness_of_their_originals():
    picture = embedded_photographs()[1][1].resize((90, 61))
    made = colour.grey(picture)
    assert (made.mode, made.size) == ("RGB", (90, 61))
    red, green, blue = np.asarray(made).transpose(2, 0, 1)
    assert (red == green).all()
    assert (green == blue).all()
    light = [colour.lightness(images.to_tensor(p)[None]) for p in (made, picture)]
    assert (light[0] - light[1]).abs().max() * 2.55 < 0.7
    # Not the luma that Pillow makes, which takes blue for nearly black
    blue_sky = Image.new("RGB", (1, 1), (0, 0, 255))
    assert abs(colour.grey(blue_sky).getpixel((0, 0))[0] - blue_sky.convert("L").getpixel((0, 0))) > 30


def test_gangen_does_not_load_kornia_before_it_colours():
    """Only functions import it, so that `import gangen` and everything without colours stays quick."""
    places = []
    for path in (ROOT / "gangen").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        inside = {id(node) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for node in ast.walk(f)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom) and "kornia" in ast.unparse(node):
                places.append((path.name, id(node) in inside))
    assert places == [("colour.py", True)]
