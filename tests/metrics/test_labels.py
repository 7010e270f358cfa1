import math

import pytest
import torch
from torchmetrics.functional import classification as theirs

from gangen.errors import UserError
from gangen.labels import IGNORED
from gangen.metrics import Confusion, Metrics, accuracy, class_ious, mean_dice, mean_iou, top_k_accuracy

K = 5
NAMES = ["sky", "tree", "road", "car", "sign"]
OURS = [accuracy(K), mean_iou(K), mean_dice(K), top_k_accuracy(2), *class_ious(NAMES)]


def masks(count=6, missing=None):
    """Logits and labels of pictures, a few places ignored; `missing` is a class that is nowhere."""
    torch.manual_seed(0)
    logits, target = torch.randn(count, K, 7, 9), torch.randint(0, K, (count, 7, 9))
    if missing is not None:
        logits[:, missing] = -9
        target[target == missing] = 0
    target[torch.rand(target.shape) < 0.1] = IGNORED
    return logits, target


@pytest.mark.parametrize("missing", [None, 3])
def test_numbers_are_those_of_torchmetrics(missing):
    logits, target = masks(missing=missing)
    metrics = Metrics(OURS)
    metrics.update(logits, target)
    found = metrics.compute()
    options = {"num_classes": K, "ignore_index": IGNORED}
    ious = theirs.multiclass_jaccard_index(logits, target, average="none", **options)
    present = [k for k in range(K) if k != missing]
    assert found["accuracy"] == pytest.approx(
        theirs.multiclass_accuracy(logits, target, average="micro", **options).item(), abs=1e-6
    )
    assert found["mean_iou"] == pytest.approx(ious[present].mean().item(), abs=1e-6)
    assert found["mean_dice"] == pytest.approx(
        theirs.multiclass_f1_score(logits, target, average="none", **options)[present].mean().item(), abs=1e-6
    )
    assert found["top_2_accuracy"] == pytest.approx(
        theirs.multiclass_accuracy(logits, target, average="micro", top_k=2, **options).item(), abs=1e-6
    )
    for k, name in enumerate(NAMES):
        value = found[f"iou/{name}"]
        assert math.isnan(value) if k == missing else value == pytest.approx(ious[k].item(), abs=1e-6)
    table = theirs.multiclass_confusion_matrix(logits, target, **options)
    assert torch.equal(Confusion(K)(logits, target), table)


def test_labels_of_pictures_likewise():
    torch.manual_seed(1)
    logits, target = torch.randn(40, K), torch.randint(0, K, (40,))
    metrics = Metrics([accuracy(K), top_k_accuracy(3)])
    metrics.update(logits, target)
    assert metrics.compute() == {
        "accuracy": pytest.approx(theirs.multiclass_accuracy(logits, target, K, average="micro").item()),
        "top_3_accuracy": pytest.approx(
            theirs.multiclass_accuracy(logits, target, K, average="micro", top_k=3).item()
        ),
    }


def test_batches_and_processes_do_not_change_the_number():
    logits, target = masks()
    whole = Metrics(OURS)
    whole.update(logits, target)
    parts = [Metrics(OURS) for _ in range(3)]  # the third process has nothing to judge
    for process, first, last in ((0, 0, 3), (0, 3, 4), (1, 4, 6)):
        parts[process].update(logits[first:last], target[first:last])
    assert parts[0].compute([part.state() for part in parts]) == whole.compute()
    by_picture = []
    for one, label in zip(logits.split(1), target.split(1), strict=True):
        alone = Metrics(OURS)
        alone.update(one, label)
        by_picture.append(alone.compute()["mean_iou"])
    # the mean over pictures is another number, which is why it is not taken
    assert abs(sum(by_picture) / len(by_picture) - whole.compute()["mean_iou"]) > 1e-3


def test_pictures_that_do_not_count_are_left_out():
    logits, target = masks()
    metrics, fewer = Metrics(OURS), Metrics(OURS)
    metrics.update(logits, target, counted=torch.tensor([True] * 4 + [False] * 2))
    fewer.update(logits[:4], target[:4])
    assert metrics.compute() == fewer.compute()


def test_nothing_counted_is_no_number():
    metrics = Metrics([accuracy(K), mean_iou(K)])
    assert all(math.isnan(value) for value in metrics.compute().values())
    metrics.update(torch.randn(1, K, 2, 2), torch.full((1, 2, 2), IGNORED))
    assert all(math.isnan(value) for value in metrics.compute().values())


def test_protocols_tell_what_is_counted():
    told = Metrics([mean_iou(K), top_k_accuracy(2)]).protocols
    assert told["mean_iou"]["classes"] == K
    assert told["mean_iou"]["ignored"] == IGNORED
    assert "whole set" in told["mean_iou"]["counted"]


def test_what_cannot_be_is_refused():
    with pytest.raises(UserError, match="k=0"):
        top_k_accuracy(0)
    with pytest.raises(ValueError, match="logits of 3 classes, where 5"):
        Confusion(5)(torch.randn(1, 3), torch.zeros(1, dtype=torch.long))
