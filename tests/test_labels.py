import numpy as np
import pytest
import torch
from PIL import Image

from gangen.errors import UserError
from gangen.labels import IGNORED, Classes, captioned, distinct_colours, draw_mask, overlay, with_legend

THREE = Classes(("sky", "tree", "car"), ((10, 20, 30), (40, 50, 60), (70, 80, 90)))


def test_a_drawn_mask_has_the_classes_colours_and_its_levels_are_the_labels(tmp_path):
    mask = torch.tensor([[0, 1, 2], [2, IGNORED, 0]])
    drawn = draw_mask(mask, THREE)
    drawn.save(tmp_path / "mask.png")
    with Image.open(tmp_path / "mask.png") as read:
        assert read.mode == "P"
        assert np.asarray(read).tolist() == [[0, 1, 2], [2, 255, 0]]
        colours = np.asarray(read.convert("RGB"))
    assert colours[0].tolist() == [[10, 20, 30], [40, 50, 60], [70, 80, 90]]
    assert colours[1, 1].tolist() == [0, 0, 0]


def test_more_classes_than_a_palette_holds_are_drawn_in_colours():
    many = Classes(tuple(map(str, range(300))))
    drawn = draw_mask(torch.tensor([[299, IGNORED]]), many)
    assert drawn.getpixel((0, 0)) == many.colours[299]
    assert drawn.getpixel((1, 0)) == (0, 0, 0)


def test_colours_are_told_apart():
    colours = torch.tensor(distinct_colours(21)).float()
    assert len({tuple(colour) for colour in colours.tolist()}) == 21
    assert colours.sum(dim=1).min() > 60, "black is what is ignored"
    assert torch.pdist(colours).min() > 25


def test_labels_and_classes_that_cannot_be_are_refused():
    with pytest.raises(UserError, match="label 3 is none of the 3 classes, 0 to 2"):
        draw_mask(torch.tensor([[3]]), THREE)
    with pytest.raises(UserError, match="a twice"):
        Classes(("a", "b", "a"))
    with pytest.raises(UserError, match="at least one"):
        Classes(())
    with pytest.raises(UserError, match="1 colours for 2 classes"):
        Classes(("a", "b"), ((1, 2, 3),))


def test_overlay_and_legend():
    picture = Image.new("RGB", (90, 60), (100, 100, 100))
    mask = draw_mask(torch.zeros(60, 90, dtype=torch.long), THREE)
    assert overlay(picture, mask, 0.5).getpixel((5, 5)) == (55, 60, 65)
    told = with_legend(picture, THREE)
    assert told.width == 90
    assert told.height > 60
    below = np.asarray(told)[60:].reshape(-1, 3)
    assert all((below == colour).all(axis=1).sum() > 100 for colour in THREE.colours)
    some = np.asarray(with_legend(picture, THREE, present=[1, IGNORED]))[60:].reshape(-1, 3)
    assert [bool((some == colour).all(axis=1).any()) for colour in THREE.colours] == [False, True, False]


def test_captions_stand_below_and_are_cut_to_the_width():
    picture = Image.new("RGB", (16, 16), "blue")
    made = captioned(
        [picture, picture], "a caption that is far too long to stand below two pictures of sixteen pixels"
    )
    assert made.size == (384, 212)
    assert made.getpixel((383, 191)) == (0, 0, 255)
    assert (np.asarray(made)[192:] < 100).any()
