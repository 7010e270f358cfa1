import copy

import pytest
import torch

from gangen.errors import UserError
from gangen.nets import PatchCritic, WholeCritic

BOTH = pytest.mark.parametrize("make", [PatchCritic, WholeCritic])


def _seen(critic, size):
    """Height and width of the region of the picture that the middle logit depends on."""
    x = torch.randn(1, 3, size, size, dtype=torch.float64, requires_grad=True)
    logits = critic.double().eval()(x)
    middle = logits.shape[-1] // 2
    (slope,) = torch.autograd.grad(logits[0, 0, middle, middle], x)
    touched = slope.abs().sum(dim=1)[0] > 0
    return int(touched.any(dim=1).sum()), int(touched.any(dim=0).sum())


@pytest.mark.parametrize(("layers", "field"), [(1, 16), (2, 34), (3, 70)])
def test_a_patch_is_as_large_as_the_paper_says(layers, field):
    torch.manual_seed(0)
    critic = PatchCritic(width=4, layers=layers)
    assert critic.receptive_field == field
    assert _seen(critic, 128) == (field, field)


def test_a_critic_that_shrinks_sees_wider_patches_and_no_fine_texture():
    torch.manual_seed(0)
    critic = PatchCritic(width=4, layers=2, shrink=2)
    assert critic.receptive_field == 2 * 34
    assert _seen(critic, 128) == (68, 68)
    assert critic.smallest == 8
    picture = torch.rand(1, 3, 32, 32) - 0.5
    checks = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(16, 16) / 2
    critic.float()  # _seen works in double precision
    torch.testing.assert_close(critic(picture + checks), critic(picture))
    assert not torch.allclose(critic(picture + 0.1), critic(picture))
    sharp = PatchCritic(width=4)
    assert not torch.allclose(sharp(picture + checks), sharp(picture))


def test_a_patch_critic_gives_one_logit_a_patch_and_a_whole_critic_one_a_picture():
    x = torch.randn(2, 3, 64, 48)
    assert PatchCritic(width=4)(x).shape == (2, 1, 10, 8)
    assert WholeCritic(width=4)(x).shape == (2, 1)


@BOTH
def test_pictures_of_16_pixels_are_judged_and_smaller_ones_told(make):
    critic = make(width=4)
    assert critic(torch.randn(1, 3, 16, 16)).isfinite().all()
    with pytest.raises(UserError, match=r"5x16 pixels is too small .*fewer"):
        critic(torch.randn(1, 3, 16, 5))
    smallest = critic.smallest
    assert critic(torch.randn(1, 3, smallest, smallest)).numel() >= 1


@BOTH
def test_a_condition_counts_and_its_absence_is_told(make):
    critic = make(condition_channels=1, width=4).eval()
    picture, condition = torch.randn(2, 3, 32, 32), torch.randn(2, 1, 32, 32)
    assert not torch.equal(critic(picture, condition), critic(picture, condition + 1))
    with pytest.raises(TypeError, match="beside its condition of 1 channels"):
        critic(picture)
    with pytest.raises(TypeError, match="condition_channels"):
        make(width=4)(picture, condition)


@BOTH
def test_a_verdict_does_not_depend_on_the_rest_of_the_batch(make):
    torch.manual_seed(0)
    critic = make(width=4, **({"norm": "instance"} if make is PatchCritic else {})).train()
    x = torch.randn(3, 3, 32, 32)
    critic.eval()  # spectral norm's estimate moves in train mode, by itself
    torch.testing.assert_close(critic(x)[:1], critic(x[:1]))
    assert not any(isinstance(part, torch.nn.modules.batchnorm._BatchNorm) for part in critic.modules())


@BOTH
def test_spectral_norm_bounds_every_layer(make):
    critic = make(width=4)
    for layer in critic.modules():
        if isinstance(layer, torch.nn.Conv2d):
            gain = torch.linalg.matrix_norm(layer.weight.flatten(1), ord=2)
            torch.testing.assert_close(gain, torch.ones(()), rtol=0.1, atol=0)
    plain = make(width=4, spectral=False)
    assert not any("parametrizations" in name for name in plain.state_dict())


@BOTH
def test_config_rebuilds_and_copies_answer_alike(make):
    critic = make(in_channels=1, width=4).eval()
    x = torch.randn(1, 1, 32, 32)
    rebuilt = make(**critic.config).eval()
    rebuilt.load_state_dict(critic.state_dict())
    assert torch.equal(rebuilt(x), critic(x))
    assert torch.equal(copy.deepcopy(critic)(x), critic(x))


@BOTH
def test_a_critic_learns_to_tell_bright_from_dark(make):
    torch.manual_seed(0)
    critic = make(width=8)
    optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3, betas=(0.5, 0.99))
    for _ in range(30):
        noise = torch.randn(8, 3, 32, 32) * 0.1
        bright, dark = critic(torch.cat([noise[:4] + 0.5, noise[4:] - 0.5])).chunk(2)
        optimizer.zero_grad()
        (dark.mean() - bright.mean()).backward()
        optimizer.step()
    assert bright.mean() > dark.mean() + 0.1


def test_impossible_critics_are_told():
    with pytest.raises(UserError, match="batch"):
        PatchCritic(norm="batch")
    with pytest.raises(UserError, match="layers=0"):
        PatchCritic(layers=0)
    with pytest.raises(UserError, match="blocks=0"):
        WholeCritic(blocks=0)
