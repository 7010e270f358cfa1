import pytest
import torch

from gangen.losses import charbonnier, l1, l2, total_variation

A = torch.tensor([[0.0, 1.0], [-1.0, 0.5]])
B = torch.tensor([[0.0, -1.0], [-1.0, 1.5]])  # differences 0, 2, 0, 1


def test_values_by_hand():
    assert l1(A, B).item() == pytest.approx(3 / 4)
    assert l2(A, B).item() == pytest.approx(5 / 4)
    assert charbonnier(A, B, eps=0.5).item() == pytest.approx((1 + 4.25**0.5 + 1.25**0.5) / 4)


def test_charbonnier_is_l1_far_from_zero_and_smooth_at_it():
    x = torch.zeros(1, requires_grad=True)
    charbonnier(x, torch.zeros(1)).backward()
    assert x.grad.item() == 0
    assert charbonnier(A, B).item() == pytest.approx(l1(A, B).item(), abs=1e-3)


def test_total_variation_by_hand():
    picture = torch.tensor([[[[0.0, 1.0, 1.0], [0.0, -1.0, 1.0]]]])
    # across: 1, 0, 1, 2; down: 0, 2, 0
    assert total_variation(picture).item() == pytest.approx(4 / 4 + 2 / 3)
    assert total_variation(picture[..., :1, :1]).item() == 0
    assert total_variation(picture[..., :1, :]).item() == pytest.approx(1 / 2)
