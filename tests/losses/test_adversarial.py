import math

import pytest
import torch
from torch import nn

from gangen.errors import UserError
from gangen.losses import accuracy, bce, hinge, judge, least_squares, relativistic, wasserstein

REAL = torch.tensor([[2.0], [0.5]])
FAKE = torch.tensor([[-1.0], [0.0]])
ALL = pytest.mark.parametrize(
    "loss", [bce(), bce(0.1), least_squares(), hinge, wasserstein, relativistic], ids=lambda loss: loss.name
)


def _softplus(x):
    return math.log1p(math.exp(x))


def test_bce_by_hand():
    expected = (_softplus(-2) + _softplus(-0.5)) / 2 + (_softplus(-1) + _softplus(0)) / 2
    assert bce().critic(REAL, FAKE).item() == pytest.approx(expected, rel=1e-5)
    assert bce().generator(FAKE).item() == pytest.approx((_softplus(1) + _softplus(0)) / 2, rel=1e-5)


def test_bce_smoothing_touches_the_real_side_alone():
    real_label = torch.full_like(REAL, 0.9)
    expected = nn.functional.binary_cross_entropy_with_logits(REAL, real_label)
    expected += nn.functional.binary_cross_entropy_with_logits(FAKE, torch.zeros_like(FAKE))
    torch.testing.assert_close(bce(0.1).critic(REAL, FAKE), expected)
    torch.testing.assert_close(bce(0.1).generator(FAKE), bce().generator(FAKE))


def test_bce_stays_finite_and_steep_when_the_critic_is_sure():
    sure = torch.tensor([[-300.0]], requires_grad=True)
    loss = bce().generator(sure)
    loss.backward()
    assert loss.item() == pytest.approx(300)
    assert sure.grad.item() == pytest.approx(-1)


def test_least_squares_by_hand():
    # real: (1² + 0.5²) / 2, fake: (1 + 0) / 2, and half of their sum
    assert least_squares().critic(REAL, FAKE).item() == pytest.approx((0.625 + 0.5) / 2)
    assert least_squares(0.1).critic(REAL, FAKE).item() == pytest.approx(((1.1**2 + 0.4**2) / 2 + 0.5) / 2)
    assert least_squares().generator(FAKE).item() == pytest.approx((4 + 1) / 2 / 2)


def test_hinge_and_wasserstein_by_hand():
    assert hinge.critic(REAL, FAKE).item() == pytest.approx((0 + 0.5) / 2 + (0 + 1) / 2)
    assert hinge.generator(FAKE).item() == pytest.approx(0.5)
    assert wasserstein.critic(REAL, FAKE).item() == pytest.approx(-0.5 - 1.25)
    assert wasserstein.generator(FAKE).item() == pytest.approx(0.5)


def test_relativistic_by_hand_and_its_need_for_real_logits():
    real_over_fake, fake_over_real = REAL + 0.5, FAKE - 1.25
    expected = sum(_softplus(-x) for x in real_over_fake.flatten().tolist()) / 2
    expected += sum(_softplus(x) for x in fake_over_real.flatten().tolist()) / 2
    assert relativistic.critic(REAL, FAKE).item() == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(relativistic.generator(FAKE, REAL), relativistic.critic(FAKE, REAL))
    with pytest.raises(TypeError, match="real_logits"):
        relativistic.generator(FAKE)


@ALL
def test_the_generator_gains_as_its_pictures_look_more_real(loss):
    fake = FAKE.clone().requires_grad_()
    value = loss.generator(fake, REAL)
    value.backward()
    assert (fake.grad < 0).all()
    assert loss.generator(FAKE + 0.1, REAL) < value


@ALL
def test_the_critic_gains_by_telling_them_apart(loss):
    real, fake = (torch.full((3, 1), 0.2, requires_grad=True) for _ in range(2))
    loss.critic(real, fake).backward()
    assert (real.grad < 0).all()
    assert (fake.grad > 0).all()


@pytest.mark.parametrize(
    ("given", "kept"), [(torch.bfloat16, torch.float32), (torch.float16, torch.float32), (torch.float64,) * 2]
)
def test_losses_of_a_critic_in_half_precision_are_in_single(given, kept):
    """The critic's mean of 50 and a gap of 0.1 to it would be one number in bfloat16, which a switcher reads."""
    pictures = torch.full((4, 3, 2, 2), 50.0)
    real, fake = judge(lambda shown: shown.mean(dim=(1, 2, 3)).to(given), pictures, pictures - 0.25)
    assert real.dtype == fake.dtype == wasserstein.critic(real, fake).dtype == kept


@pytest.mark.parametrize("smoothing", [-0.1, 0.5, 1.0])
def test_impossible_smoothing_is_told(smoothing):
    for make in (bce, least_squares):
        with pytest.raises(UserError, match="smoothing"):
            make(smoothing)


class _Counting(nn.Module):
    """Says the mean of the picture, plus ten times that of its condition."""

    calls = 0

    def forward(self, picture, condition=None):
        self.calls += 1
        verdict = picture.mean(dim=(1, 2, 3))
        return verdict if condition is None else verdict + 10 * condition.mean(dim=(1, 2, 3))


@pytest.mark.parametrize("conditional", [False, True])
def test_judge_goes_through_the_critic_once_and_keeps_the_order(conditional):
    critic = _Counting()
    real, fake = torch.rand(2, 3, 4, 4), -torch.rand(2, 3, 4, 4)
    condition = torch.rand(2, 1, 4, 4) if conditional else None
    real_logits, fake_logits = judge(critic, real, fake, condition)
    assert critic.calls == 1
    torch.testing.assert_close(real_logits, critic(real, condition))
    torch.testing.assert_close(fake_logits, critic(fake, condition))


def test_judge_takes_batches_of_unlike_length():
    real_logits, fake_logits = judge(_Counting(), torch.ones(3, 1, 2, 2), torch.zeros(1, 1, 2, 2))
    assert real_logits.tolist() == [1, 1, 1]
    assert fake_logits.tolist() == [0]


def test_accuracy_weighs_both_sides_alike():
    assert accuracy(torch.tensor([1.0, -1.0]), torch.tensor([-1.0, -2.0])).item() == 0.75
    assert accuracy(torch.tensor([1.0]), torch.tensor([-1.0, 1.0, 1.0, 1.0])).item() == pytest.approx(0.625)
    undecided = torch.zeros(4)
    assert accuracy(undecided, undecided).item() == 0
