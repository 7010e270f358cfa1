import pytest
import torch
from torch import nn

from gangen.errors import UserError
from gangen.losses import critic_terms, due, gradient_penalty, hinge, mix, r1, wasserstein


class _Linear(nn.Module):
    """Logits <slope, picture>, so that the slope of the critic is known: `value` at each of the 12 numbers."""

    def __init__(self, value=0.5, patches=1):
        super().__init__()
        self.slope = nn.Parameter(torch.full((12,), value))
        self.patches = patches
        self.calls = 0

    def forward(self, picture):
        self.calls += 1
        return (picture.flatten(1) @ self.slope)[:, None].expand(-1, self.patches)


def _pictures(count=2):
    return torch.randn(count, 3, 2, 2)


@pytest.mark.parametrize("patches", [1, 4])
def test_r1_by_hand(patches):
    critic, real = _Linear(patches=patches), _pictures().requires_grad_()
    # The slope of the summed logits has 12 numbers of 0.5 * patches.
    expected = 3.0 / 2 * 12 * (0.5 * patches) ** 2
    value = r1(critic(real), real, weight=3.0)
    assert value.item() == pytest.approx(expected)
    value.backward()
    torch.testing.assert_close(critic.slope.grad, torch.full((12,), 3.0 * 0.5 * patches**2))


def test_lazy_r1_weighs_the_same_in_the_long_run():
    critic, real = _Linear(), _pictures().requires_grad_()
    every_step = r1(critic(real), real, weight=3.0).item()
    lazy = [r1(critic(real), real, weight=3.0, step=step, every=4).item() for step in range(8)]
    assert [value > 0 for value in lazy] == [True, False, False, False] * 2
    assert sum(lazy) / len(lazy) == pytest.approx(every_step)


def test_due_counts_from_the_first_step():
    assert [due(step, 3) for step in range(4)] == [True, False, False, True]
    with pytest.raises(UserError, match="every 0"):
        due(1, 0)


def test_mix_lies_between_and_follows_the_global_generator():
    real, fake = torch.ones(64, 1, 2, 2), torch.zeros(64, 1, 2, 2)
    torch.manual_seed(0)
    mixed = mix(real, fake)
    assert mixed.requires_grad
    assert mixed.is_leaf
    assert torch.equal(mixed, mixed[:, :, :1, :1].expand_as(mixed)), "one place a picture"
    assert 0 <= mixed.min() < 0.2 < 0.8 < mixed.max() <= 1
    torch.manual_seed(0)
    assert torch.equal(mix(real, fake), mixed)


@pytest.mark.parametrize("patches", [1, 4])
def test_gradient_penalty_by_hand(patches):
    critic, mixed = _Linear(patches=patches), _pictures().requires_grad_()
    norm = (12 * 0.25) ** 0.5
    assert gradient_penalty(critic(mixed), mixed, 10.0).item() == pytest.approx(10 * (norm - 1) ** 2, rel=1e-5)
    unit = _Linear(12**-0.5, patches)
    assert gradient_penalty(unit(mixed), mixed).item() == pytest.approx(0, abs=1e-9)


def test_critic_terms_need_one_forward_for_everything_and_leave_the_generator_alone():
    critic, real = _Linear(), _pictures()
    fake = _pictures().requires_grad_()
    terms = critic_terms(critic, real, fake * 1.0, loss=wasserstein, r1_weight=1.0, penalty=10.0)
    assert critic.calls == 1
    assert set(terms) == {"adversarial", "r1", "gradient_penalty"}
    torch.testing.assert_close(terms["adversarial"], wasserstein.critic(critic(real), critic(fake)))
    assert terms["r1"].item() == pytest.approx(16 * 0.5 * 12 * 0.25)
    sum(terms.values()).backward()
    assert fake.grad is None
    assert not real.requires_grad
    assert critic.slope.grad.abs().sum() > 0


def test_critic_terms_leave_out_what_is_not_asked_for():
    critic, real, fake = _Linear(), _pictures(), _pictures()
    assert set(critic_terms(critic, real, fake)) == {"adversarial"}
    between = critic_terms(critic, real, fake, loss=hinge, r1_weight=1.0, step=3)
    assert between["r1"].item() == 0
    sum(between.values()).backward()


def test_critic_terms_give_the_condition_to_all():
    def critic(picture, condition):
        assert len(picture) == len(condition) == 6
        assert torch.equal(condition[:2], condition[4:])
        return (picture * condition).mean(dim=(1, 2, 3))

    terms = critic_terms(critic, _pictures(), _pictures(), condition=torch.rand(2, 1, 2, 2), penalty=1.0)
    assert all(term.isfinite() for term in terms.values())


def test_r1_flattens_a_critic_around_real_pictures():
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.Softplus(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(critic.parameters(), lr=0.1)
    real, fake = _pictures(8), _pictures(8)
    values = []
    for step in range(20):
        value = critic_terms(critic, real, fake, r1_weight=10.0, r1_every=1, step=step)["r1"]
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < values[0] / 2
