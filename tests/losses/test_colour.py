import pytest
import torch

from gangen import colour
from gangen.losses import chroma, chroma_gap, saturation_moment


def plain(a, b, light=50.0):
    """A picture of one colour of CIELAB that sRGB has."""
    full = torch.ones(1, 1, 4, 4)
    return colour.from_lab(light * full, torch.cat([a * full, b * full], dim=1))


def test_chroma_by_hand():
    # differences of 4 (below the knee: 4² / 2) and of 20 (above it: 10 * (20 - 5)), meaned over a and b
    assert chroma(plain(4, 20), plain(0, 0)).item() == pytest.approx((8 + 150) / 2 / (10 * 110), rel=1e-3)


def test_chroma_does_not_see_lightness():
    assert chroma(plain(20, 10, 40), plain(20, 10, 70)).item() < 1e-4


def test_the_gap_asks_for_as_much_colour_and_not_for_the_same():
    assert chroma_gap(plain(0, 30), plain(30, 0)).item() < 1e-4
    assert chroma_gap(plain(0, 10), plain(30, 0)).item() == pytest.approx(20 / 110, rel=1e-3)
    pale = plain(0, 10).requires_grad_()
    chroma_gap(pale, plain(30, 0)).backward()
    with torch.no_grad():
        richer = pale - 0.1 * pale.grad / pale.grad.abs().max()
        assert chroma_gap(richer, plain(30, 0)) < chroma_gap(pale, plain(30, 0))


def test_gradients_are_finite_for_grey_pictures_and_reach_the_output_alone():
    output, target = plain(0, 0).detach().requires_grad_(), plain(30, 10).requires_grad_()
    (chroma(output, target) + chroma_gap(output, target)).backward()
    assert output.grad.isfinite().all()
    assert output.grad.abs().sum() > 0
    assert target.grad is None


def test_saturation_is_compared_over_the_batch_and_not_picture_by_picture():
    grey = torch.zeros(1, 3, 4, 4)
    red = torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    assert saturation_moment(torch.cat([grey, red]), torch.cat([red, grey])).item() == 0
    assert saturation_moment(grey, red).item() == pytest.approx(1.0)
    pale = (0.2 * red).clone().requires_grad_()
    saturation_moment(pale, red).backward()
    # Descending raises red and lowers the others.
    assert (pale.grad[:, 0] < 0).all()
    assert (pale.grad[:, 1:] >= 0).all()
    assert pale.grad[:, 1:].sum() > 0
