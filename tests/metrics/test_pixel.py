from functools import partial

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from gangen import colour, images, metrics
from gangen.errors import UserError
from gangen.metrics import PSNR, SSIM, cropped, pixel_metrics
from tests.metrics.noise import noise


def smooth(count, height, width, seed=0):
    """Pictures of 8 bits with structure, and what noise makes of them."""
    small = noise(count, 3, height // 8, width // 8, seed=seed)
    target = torch.nn.functional.interpolate(small, (height, width), mode="bicubic").clamp(-1, 1)
    output = target + 0.15 * noise(count, 3, height, width, seed=seed + 1)
    return tuple(torch.stack([images.to_tensor(images.to_picture(p)) for p in ps]) for ps in (output, target))


def in_matlab(picture):
    """rgb2ycbcr's luma of (3, H, W) in [-1, 1], as MATLAB documents it, in levels and not rounded."""
    red, green, blue = ((picture.numpy().astype(np.float64) + 1) / 2).clip(0, 1)
    return 16 + 65.481 * red + 128.553 * green + 24.966 * blue


def test_l1_and_psnr_of_a_known_difference():
    target = torch.zeros(2, 3, 8, 8)
    output = target + torch.tensor([0.2, 0.02]).view(2, 1, 1, 1)  # 0.1 and 0.01 on a scale of 0..1
    assert metrics.l1(output, target).tolist() == pytest.approx([0.1, 0.01])
    assert metrics.psnr(output, target).tolist() == pytest.approx([20, 40], abs=1e-3)


def test_equal_pictures_are_perfect():
    pictures = noise(2, 3, 16, 16)
    assert metrics.l1(pictures, pictures).tolist() == [0, 0]
    assert metrics.psnr(pictures, pictures).tolist() == [100, 100]
    assert metrics.ssim(pictures, pictures).tolist() == pytest.approx([1, 1])


def test_ssim_follows_the_published_formula_on_flat_pictures():
    """On flat pictures only the luminance term is left: (2ab + c1) / (a² + b² + c1)."""
    a, b, c1 = 0.01, 0.03, 0.01**2
    pictures = [torch.full((1, 3, 16, 16), 2 * value - 1) for value in (a, b)]
    assert metrics.ssim(*pictures).item() == pytest.approx((2 * a * b + c1) / (a * a + b * b + c1), abs=1e-3)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"\(1, 3, 8, 8\).*\(1, 3, 8, 9\)"):
        metrics.l1(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 9))
    with pytest.raises(UserError, match="at least 11x11 pixels, these are 19x10"):
        metrics.ssim(torch.zeros(1, 3, 10, 19), torch.zeros(1, 3, 10, 19))
    assert metrics.ssim(torch.zeros(1, 3, 11, 11), torch.zeros(1, 3, 11, 11)) == 1
    with pytest.raises(UserError, match="at least 176x176"):
        metrics.ms_ssim(torch.zeros(1, 3, 175, 200), torch.zeros(1, 3, 175, 200))


@pytest.mark.parametrize("channel", ["rgb", "y"])
@pytest.mark.parametrize("crop", [0, 4])
def test_psnr_and_ssim_are_those_of_scikit_image(channel, crop):
    outputs, targets = smooth(3, 48, 64)
    _, psnr, ssim, _ = (cropped(metric, crop) for metric in pixel_metrics(channel))
    inside = slice(crop, -crop or None)
    for index, pair in enumerate(zip(outputs, targets, strict=True)):
        if channel == "y":
            output, target = (in_matlab(picture)[inside, inside] for picture in pair)
        else:
            levels = [(picture.numpy().astype(np.float64) + 1) * 127.5 for picture in pair]
            output, target = (level[:, inside, inside] for level in levels)
        similar = partial(structural_similarity, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
        expected = similar(output, target, data_range=255, channel_axis=None if channel == "y" else 0)
        assert 0.3 < expected < 0.95
        assert ssim(outputs, targets)[index].item() == pytest.approx(expected, abs=2e-5)
        expected = peak_signal_noise_ratio(target, output, data_range=255)
        assert psnr(outputs, targets)[index].item() == pytest.approx(expected, abs=1e-4)


def test_luma_has_the_levels_of_studio_swing():
    black, white = -torch.ones(1, 3, 1, 1), torch.ones(1, 3, 1, 1)
    levels = [((colour.studio_luma(p) + 1) * 127.5).item() for p in (black, white)]
    assert levels == pytest.approx([16, 235], abs=1e-3)


def test_the_data_range_moves_psnr_by_its_own_decibels():
    output, target = smooth(2, 32, 32)
    usual, narrow = (pixel_metrics("y", data_range)[1] for data_range in (255, 219))
    assert (usual(output, target) - narrow(output, target)).tolist() == pytest.approx(
        [20 * np.log10(255 / 219)] * 2, abs=1e-4
    )
    assert usual.protocol["data_range"] != narrow.protocol["data_range"]
    assert usual.protocol["colour"] != PSNR.protocol["colour"]


def test_the_border_does_not_count_when_cropped():
    target = noise(1, 3, 32, 32)
    output = target.clone()
    output[..., :4, :] = -output[..., :4, :]
    assert PSNR(output, target) < 20
    assert cropped(PSNR, 4)(output, target) == 100
    assert cropped(PSNR, 4).protocol == {**PSNR.protocol, "crop": 4}
    assert cropped(PSNR, 3)(output, target) < 30


@pytest.mark.slow
def test_similarity_over_scales_is_kinder_to_noise_than_over_one():
    output, target = smooth(1, 176, 184)
    assert SSIM(output, target) < metrics.ms_ssim(output, target) < 1
    assert metrics.ms_ssim(target, target).tolist() == pytest.approx([1])


@pytest.mark.parametrize(("crop", "told"), [(-1, "crop -1"), (8, "nothing is left when 8")])
def test_a_crop_that_cannot_be_is_refused(crop, told):
    with pytest.raises(UserError, match=told):
        cropped(PSNR, crop)(noise(1, 3, 16, 20), noise(1, 3, 16, 20))


@pytest.mark.parametrize(("chosen", "told"), [({"channel": "v"}, "'v'"), ({"data_range": 0}, "data_range=0")])
def test_a_channel_or_range_that_cannot_be_is_refused(chosen, told):
    with pytest.raises(UserError, match=told):
        pixel_metrics(**chosen)
