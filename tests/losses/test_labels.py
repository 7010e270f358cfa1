import math

import pytest
import torch
from torch.nn import functional as F

from gangen.errors import UserError
from gangen.labels import IGNORED
from gangen.losses import cross_entropy, dice, focal, label_maps, lovasz, tversky

LOSSES = [cross_entropy, focal, dice, tversky, lovasz]
# Probabilities of two classes at four places, of which the last is ignored
P = torch.tensor([0.9, 0.6, 0.2, 0.5])
LOGITS = torch.stack([(1 - P).log(), P.log()])[None, :, None]  # (1, 2, 1, 4): class 1 with probability P
TARGET = torch.tensor([[[1, 0, 1, IGNORED]]])


def test_values_by_hand():
    right = torch.tensor([0.9, 0.4, 0.2])
    assert cross_entropy(LOGITS, TARGET).item() == pytest.approx(-right.log().mean().item(), rel=1e-5)
    assert focal(LOGITS, TARGET, gamma=2).item() == pytest.approx(
        -((1 - right) ** 2 * right.log()).mean().item(), rel=1e-5
    )
    # class 1: the sum of probabilities 1.7, of labels 2, of both 1.1; class 0: 1.3, 1, 0.4
    by_class = 1 - torch.tensor([2 * 0.4 / (1.3 + 1), 2 * 1.1 / (1.7 + 2)])
    assert dice(LOGITS, TARGET).item() == pytest.approx(by_class.mean().item(), rel=1e-5)
    # false positives 0.9 and 0.6, false negatives 0.6 and 0.9
    by_class = 1 - torch.tensor([0.4 / (0.4 + 0.3 * 0.9 + 0.7 * 0.6), 1.1 / (1.1 + 0.3 * 0.6 + 0.7 * 0.9)])
    assert tversky(LOGITS, TARGET).item() == pytest.approx(by_class.mean().item(), rel=1e-5)


def test_lovasz_of_certain_answers_is_one_minus_iou():
    torch.manual_seed(0)
    target, answer = torch.randint(0, 3, (2, 8, 8)), torch.randint(0, 3, (2, 8, 8))
    logits = 100 * F.one_hot(answer, 3).permute(0, 3, 1, 2).float()
    ious = [((answer == c) & (target == c)).sum() / ((answer == c) | (target == c)).sum() for c in range(3)]
    assert lovasz(logits, target).item() == pytest.approx(1 - torch.stack(ious).mean().item(), abs=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_what_is_ignored_counts_nowhere(loss):
    torch.manual_seed(0)
    logits, target = torch.randn(2, 4, 5, 6), torch.randint(0, 4, (2, 5, 6))
    target[:, 3:] = IGNORED
    other = logits.clone()
    other[:, :, 3:] = torch.randn(2, 4, 2, 6)
    assert loss(logits, target).item() == pytest.approx(loss(other, target).item())
    assert loss(logits, target).item() == pytest.approx(loss(logits[:, :, :3], target[:, :3]).item(), rel=1e-5)
    logits.requires_grad_()
    loss(logits, target).backward()
    assert logits.grad[:, :, 3:].abs().sum() == 0
    assert logits.grad[:, :, :3].abs().min() > 0


@pytest.mark.parametrize("loss", LOSSES)
def test_nothing_but_ignored_places_gives_nothing(loss):
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    value = loss(logits, torch.full((1, 2, 2), IGNORED))
    value.backward()
    assert value.item() == 0
    assert logits.grad.abs().sum() == 0


@pytest.mark.parametrize("loss", LOSSES)
def test_learning_by_it_finds_the_labels(loss):
    torch.manual_seed(0)
    target = torch.randint(0, 3, (2, 6, 6))
    logits = torch.randn(2, 3, 6, 6, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.3)
    before = loss(logits, target).item()
    for _ in range(100):
        optimizer.zero_grad()
        loss(logits, target).backward()
        optimizer.step()
    assert loss(logits, target).item() < 0.1 * before
    assert (logits.argmax(1) == target).float().mean() > 0.97


def test_options_of_cross_entropy_are_torchs():
    torch.manual_seed(0)
    logits, target = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 1, IGNORED])
    weights = torch.tensor([1.0, 2.0, 0.5, 3.0])
    for options in ({}, {"smoothing": 0.1}, {"weights": weights}, {"weights": weights, "smoothing": 0.2}):
        theirs = F.cross_entropy(
            logits, target, weight=options.get("weights"), label_smoothing=options.get("smoothing", 0.0)
        )
        assert cross_entropy(logits, target, **options).item() == pytest.approx(theirs.item(), rel=1e-5)
    assert focal(logits, target, gamma=0).item() == pytest.approx(cross_entropy(logits, target).item(), rel=1e-5)


def test_dice_leaves_out_classes_that_are_nowhere():
    logits = torch.full((1, 3, 1, 4), -50.0)
    logits[:, 0] = 50
    assert dice(logits, torch.zeros(1, 1, 4, dtype=torch.long)).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_labels_that_do_not_fit_are_told(loss):
    with pytest.raises(UserError, match="label 7 is none of the 3 classes, 0 to 2"):
        loss(torch.randn(1, 3, 2, 2), torch.tensor([[[0, 1], [2, 7]]]))
    with pytest.raises(ValueError, match="do not belong together"):
        loss(torch.randn(1, 3, 2, 2), torch.zeros(1, 2, 3, dtype=torch.long))
    with pytest.raises(ValueError, match="int64"):
        loss(torch.randn(1, 3, 2, 2), torch.zeros(1, 2, 2))


def test_a_smoothing_out_of_range_is_refused():
    with pytest.raises(UserError, match="smoothing of 1"):
        cross_entropy(LOGITS, TARGET, smoothing=1)
    assert math.isfinite(cross_entropy(LOGITS, TARGET, smoothing=0.5).item())


def test_a_critic_sees_labels_no_sharper_than_answers():
    probable = torch.tensor([[0.2, 0.2, 0.6], [0.1, 0.7, 0.2], [0.95, 0.01, 0.04], [0.3, 0.3, 0.4]])
    logits, target = probable.log().T[None, :, None], torch.tensor([[[0, 1, 0, IGNORED]]])
    real, fake = label_maps(logits, target)
    # the label gets 0.9, and the others the rest in the proportions that they had; what is right and sure stays
    expected = torch.tensor([[0.9, 0.025, 0.075], [0.1 / 3, 0.9, 0.2 / 3], [0.95, 0.01, 0.04], [0, 0, 0]])
    torch.testing.assert_close(real[0, :, 0].T, expected)
    torch.testing.assert_close(fake[0, :, 0, :3].T, probable[:3])
    sharp, _ = label_maps(logits, target, sure=1)
    torch.testing.assert_close(sharp[0, :, 0, :3].T, torch.eye(3)[[0, 1, 0]])


def test_a_critic_learns_nothing_of_ignored_places():
    torch.manual_seed(0)
    logits, target = torch.randn(2, 4, 5, 6, requires_grad=True), torch.randint(0, 4, (2, 5, 6))
    target[:, 3:] = IGNORED
    real, fake = label_maps(logits, target)
    for shown in (real, fake):
        assert shown[:, :, 3:].abs().sum() == 0
        torch.testing.assert_close(shown[:, :, :3].sum(dim=1), torch.ones(2, 3, 6))
    assert torch.equal(real[:, :, :3].argmax(dim=1), target[:, :3])
    assert not real.requires_grad
    fake.square().sum().backward()
    assert logits.grad[:, :, 3:].abs().sum() == 0
    assert logits.grad[:, :, :3].abs().min() > 0


def test_certain_answers_make_maps_too():
    logits = torch.tensor([[500.0, -500.0, 0.0], [-500.0, 500.0, 0.0]])
    real, _ = label_maps(logits, torch.tensor([0, 0]))
    torch.testing.assert_close(real, torch.tensor([[1.0, 0.0, 0.0], [0.9, 0.1, 0.0]]))
    with pytest.raises(UserError, match="sure=0 is out of range"):
        label_maps(logits, torch.tensor([0, 0]), sure=0)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_has_a_slope_where_all_is_right(gamma):
    logits = torch.tensor([[200.0, 0.0], [0.3, 0.1]], requires_grad=True)
    focal(logits, torch.tensor([0, 1]), gamma=gamma).backward()
    assert logits.grad.isfinite().all()
    assert logits.grad[1, 0] > 0
