import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from gangen.nets.layers import Blur, InstanceNorm, SelfAttention, Upsample, icnr_


def _cells(x, scale):
    """(N, C, h, w, scale²): the pixels that each coarse pixel became."""
    return F.pixel_unshuffle(x, scale).unflatten(1, (x.shape[1], scale**2)).movedim(2, -1)


@pytest.mark.parametrize("scale", [2, 4])
def test_upsampling_begins_as_nearest_neighbour_without_a_checkerboard(scale):
    up = Upsample(5, 3, scale)
    with torch.no_grad():
        enlarged = up(torch.randn(2, 5, 4, 6))
    assert enlarged.shape == (2, 3, 4 * scale, 6 * scale)
    cells = _cells(enlarged, scale)
    assert torch.equal(cells, cells[..., :1].expand_as(cells))
    assert cells[..., 0].std() > 0.1


def test_icnr_still_holds_under_spectral_norm_when_applied_before():
    conv = nn.Conv2d(5, 12, 3, padding=1, bias=False)
    icnr_(conv.weight, 2)
    with torch.no_grad():
        cells = _cells(F.pixel_shuffle(spectral_norm(conv)(torch.randn(1, 5, 4, 4)), 2), 2)
    torch.testing.assert_close(cells, cells[..., :1].expand_as(cells))


@pytest.mark.parametrize("scale", [2, 4])
def test_blur_removes_the_checkerboard_and_keeps_flat_maps_size_and_place(scale):
    blur = Blur(scale)
    flat = torch.full((1, 2, 1, 5), 3.0)
    torch.testing.assert_close(blur(flat), flat)
    board = torch.zeros(1, 1, 16, 16)
    board[..., ::scale, ::scale] = 1.0
    inner = blur(board)[..., scale:-scale, scale:-scale]
    torch.testing.assert_close(inner, torch.full_like(inner, 1 / scale**2))
    point = torch.zeros(1, 1, 11, 11)
    point[..., 5, 5] = 1.0
    spread = blur(point)
    torch.testing.assert_close(spread, spread.flip(2, 3))
    assert spread.argmax() == point.argmax()


def test_instance_norm_agrees_with_torchs_and_takes_a_single_pixel():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, 7) * 4 + 1
    torch.testing.assert_close(InstanceNorm(3)(x), F.instance_norm(x))
    single = InstanceNorm(3)(torch.randn(1, 3, 1, 1))
    # Its own mean is subtracted after scaling by 1 / sqrt(1e-5) = 316, which leaves rounding of that size
    torch.testing.assert_close(single, torch.zeros_like(single), rtol=0, atol=316 * 1e-6)


def test_attention_begins_as_the_identity_and_then_follows_the_papers_equations():
    torch.manual_seed(0)
    attention = SelfAttention(16)
    x = torch.randn(2, 16, 3, 4)
    assert torch.equal(attention(x), x)

    nn.init.constant_(attention.gamma, 0.7)
    f, g, h = (layer(x).flatten(2) for layer in (attention.query, attention.key, attention.value))
    shares = torch.softmax(torch.einsum("nci,ncj->nij", f, g), dim=2)  # place i looks at places j
    seen = torch.einsum("nij,ncj->nci", shares, h).unflatten(2, (3, 4))
    torch.testing.assert_close(attention(x), x + 0.7 * attention.out(seen))


@pytest.mark.parametrize("size", [(6, 5), (1, 1)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_attention_has_a_second_derivative_however_its_maps_lie_in_memory(size, layout):
    """Penalties on a critic's slope need it, and torch's fused kernels have none."""
    torch.manual_seed(0)
    attention = SelfAttention(16)
    nn.init.constant_(attention.gamma, 0.7)
    x = torch.randn(2, 16, *size).to(memory_format=layout).requires_grad_()
    (slope,) = torch.autograd.grad(attention(x).square().sum(), x, create_graph=True)
    slope.square().sum().backward()
    assert attention.value.weight.grad.abs().sum() > 0
