import copy

import pytest
import torch
from torch import nn

from gangen.errors import RunError, UserError
from gangen.nets import NoiseCritic, NoiseGenerator, latents, slerp


@pytest.mark.parametrize("size", [8, 16, 32, 64, 128, 256])
def test_every_size_is_made_and_judged(size):
    generator, critic = NoiseGenerator(size, latent=5, width=2, widest=8), NoiseCritic(size, width=2, widest=8)
    pictures = generator(torch.randn(2, 5))
    assert pictures.shape == (2, 3, size, size)
    assert pictures.abs().max() <= 1
    logits = critic(pictures)
    assert logits.shape == (2, 1)
    logits.sum().backward()
    weights = [*generator.parameters(), *critic.parameters()]
    # The last bias of the critic aside, every weight of both has something to learn
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in weights)
    assert all(weight.grad.abs().sum() > 0 for weight in generator.parameters())


@pytest.mark.parametrize("size", [0, 4, 31, 48, 512])
def test_other_sizes_are_refused_with_those_that_are_possible(size):
    with pytest.raises(UserError, match=f"at {size} pixels: expected one of 8, 16, 32, 64, 128, 256"):
        NoiseGenerator(size)
    with pytest.raises(UserError, match="expected one of 8"):
        NoiseCritic(size)


def test_a_picture_depends_on_its_noise_alone():
    """Not on its neighbours in the batch, in train mode either; in the critic neither."""
    torch.manual_seed(0)
    generator, critic = NoiseGenerator(8, 4, width=4), NoiseCritic(8, width=4, spectral=False)
    noise = torch.randn(3, 4)
    torch.testing.assert_close(generator(noise)[:1], generator(noise[:1]), atol=1e-5, rtol=0)
    pictures = torch.rand(3, 3, 8, 8)
    torch.testing.assert_close(critic(pictures)[:1], critic(pictures[:1]), atol=1e-5, rtol=0)
    assert (generator(noise)[0] - generator(noise)[1]).abs().max() > 1e-3
    assert not any(isinstance(part, nn.BatchNorm2d) for part in (*critic.modules(), *generator.modules()))
    assert any(isinstance(part, nn.BatchNorm2d) for part in NoiseGenerator(8, norm="batch").modules())


def test_spectral_norm_bounds_the_critic():
    torch.manual_seed(0)
    bounded, free = NoiseCritic(16, width=8), NoiseCritic(16, width=8, spectral=False)
    for _ in range(30):
        bounded(torch.rand(2, 3, 16, 16))
    slopes = []
    for critic in (bounded, free):
        picture = torch.rand(2, 3, 16, 16).requires_grad_()
        critic(picture).sum().backward()
        slopes.append(picture.grad.flatten(1).norm(dim=1).max())
    assert slopes[0] < slopes[1]


def test_what_does_not_fit_is_told():
    with pytest.raises(UserError, match=r"noise of shape \(N, 5\), and was given \(2, 3, 8, 8\)"):
        NoiseGenerator(8, latent=5)(torch.rand(2, 3, 8, 8))
    with pytest.raises(UserError, match=r"of \(3, 8, 8\), and was given \(3, 9, 8\)"):
        NoiseCritic(8)(torch.rand(1, 3, 9, 8))
    with pytest.raises(UserError, match="latent=0"):
        NoiseGenerator(8, latent=0)
    with pytest.raises(UserError, match="norm 'layer'"):
        NoiseGenerator(8, norm="layer")
    with pytest.raises(RunError, match="does not describe a NoiseGenerator"):
        NoiseGenerator.from_config({"size": 8})


def test_rebuilt_from_its_config_it_makes_the_same():
    generator = NoiseGenerator(16, 7, 4, 8, "batch").eval()
    other = NoiseGenerator.from_config(generator.config).eval()
    other.load_state_dict(generator.state_dict())
    noise = torch.randn(2, 7)
    assert torch.equal(other(noise), generator(noise))
    assert torch.equal(copy.deepcopy(generator)(noise), generator(noise))


def test_fixed_noise_stays_whatever_is_asked_for():
    many = latents(5, 37, seed=3)
    assert torch.equal(latents(2, 37, seed=3), many[:2])
    assert not torch.equal(latents(2, 37, seed=4), many[:2])
    torch.rand(3)
    assert torch.equal(latents(5, 37, seed=3), many)


def test_the_way_between_two_noises_by_hand():
    one, other = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 4.0])
    way = slerp(one, other, 3)
    half = 0.5**0.5
    # halfway: at 45 degrees, with the mean of both lengths
    torch.testing.assert_close(way, torch.tensor([[2.0, 0.0], [3 * half, 3 * half], [0.0, 4.0]]))
    torch.testing.assert_close(slerp(one, 2 * one, 3)[1], 1.5 * one)
    # in many dimensions no place on the way is shorter than noise is, as the straight line's middle would be
    one, other = latents(2, 512, seed=0)
    assert slerp(one, other, 9).norm(dim=1).min() > 0.95 * min(one.norm(), other.norm())
