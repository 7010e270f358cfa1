"""Losses of labels: of one class for every pixel, or for every picture; and what a critic of labels looks at.

All take logits (N, K, ...) for K classes, and int64 labels (N, ...): (N, H, W) for masks, (N,) for pictures.
Places whose label is `ignored` count nowhere, and a batch of nothing else gives 0.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from gangen.errors import UserError
from gangen.labels import IGNORED


def cross_entropy(
    logits: Tensor,
    target: Tensor,
    *,
    smoothing: float = 0.0,
    weights: Tensor | None = None,
    ignored: int = IGNORED,
) -> Tensor:
    """Mean cross-entropy in nats.

    Args:
        logits: (N, K, ...).
        target: (N, ...) int64.
        smoothing: this share of each label is spread evenly over all classes (Szegedy et al. 2015,
            arXiv:1512.00567, section 7), from 0 up to below 1.
        weights: (K,), how much a place of each class counts; the mean is weighted too, as in torch.
        ignored: label that counts nowhere.

    Raises:
        UserError: the smoothing is out of range, or a label is none of the classes.
    """
    if not 0 <= smoothing < 1:
        raise UserError(f"a label smoothing of {smoothing} is out of range; give 0 up to below 1, like 0.1.")
    check_labels(logits, target, ignored)
    weights = None if weights is None else weights.to(logits.device)
    losses = F.cross_entropy(
        logits, target, weight=weights, ignore_index=ignored, reduction="none", label_smoothing=smoothing
    )
    counted = target != ignored
    total = counted.sum() if weights is None else weights[target[counted]].sum()
    return losses.sum() / total.clamp(min=torch.finfo(losses.dtype).eps)


def focal(logits: Tensor, target: Tensor, *, gamma: float = 2.0, ignored: int = IGNORED) -> Tensor:
    """Focal loss (Lin et al. 2017, arXiv:1708.02002, eq. 4): -(1 - p)^gamma log p, p that of the right class.

    What is already right counts less, so that the many easy places do not drown the few hard ones; `gamma` of 0 is
    the cross-entropy. For the other arguments see there.
    """
    check_labels(logits, target, ignored)
    losses = F.cross_entropy(logits, target, ignore_index=ignored, reduction="none")
    right = torch.exp(-losses)
    counted = (target != ignored).sum().clamp(min=1)
    # Where all is right, a gamma below 1 would have an infinite slope there, times no loss
    wrong = (1 - right).clamp(min=torch.finfo(losses.dtype).eps)
    return (wrong**gamma * losses).sum() / counted


def dice(logits: Tensor, target: Tensor, *, ignored: int = IGNORED) -> Tensor:
    """Soft Dice loss (Milletari et al. 2016, arXiv:1606.04797): 1 - mean over classes of 2 |P T| / (|P| + |T|).

    P is the probability of a class and T where it is the label; both are summed over the whole batch. The mean is
    over the classes that the batch's labels hold: of one that is nowhere, the overlap tells nothing.
    """
    return tversky(logits, target, false_positives=0.5, false_negatives=0.5, ignored=ignored)


def tversky(
    logits: Tensor,
    target: Tensor,
    *,
    false_positives: float = 0.3,
    false_negatives: float = 0.7,
    ignored: int = IGNORED,
) -> Tensor:
    """Tversky loss (Salehi et al. 2017, arXiv:1706.05721): Dice, with the two kinds of error weighed apart.

    Args:
        logits: (N, K, ...).
        target: (N, ...) int64.
        false_positives: weight of what is wrongly taken for a class; 0.5 of both gives Dice, 1 of both Jaccard.
        false_negatives: weight of what is missed; higher finds more of small things.
        ignored: label that counts nowhere.
    """
    check_labels(logits, target, ignored)
    probable, true = _per_class(logits, target, ignored)
    hit = (probable * true).sum(dim=1)
    wrongly = (probable * (1 - true)).sum(dim=1)
    missed = ((1 - probable) * true).sum(dim=1)
    overlap = hit / (hit + false_positives * wrongly + false_negatives * missed).clamp(min=1e-7)
    return _over_present(1 - overlap, true)


def lovasz(logits: Tensor, target: Tensor, *, ignored: int = IGNORED) -> Tensor:
    """Lovász-softmax (Berman et al. 2018, arXiv:1705.08790): a surrogate of 1 - IoU.

    Over the whole batch, as mean IoU is measured, and of the classes that its labels hold. Better as a last polish
    or beside the cross-entropy than alone.
    """
    check_labels(logits, target, ignored)
    probable, true = _per_class(logits, target, ignored)
    errors, order = (true - probable).abs().sort(dim=1, descending=True)
    return _over_present((errors * _jaccard_steps(true.gather(1, order))).sum(dim=1), true)


def label_maps(
    logits: Tensor, target: Tensor, *, sure: float = 0.9, ignored: int = IGNORED
) -> tuple[Tensor, Tensor]:
    """What a critic of label maps is to tell apart: the labels as a map, and the network's probabilities.

    Luc et al. 2016, "Semantic Segmentation using Adversarial Networks" (arXiv:1611.08408), section 3.2, in its
    third variant, "scaling": at each place the label's class gets what the network gives it, `sure` at least, and
    the other classes share the rest as they do in the network's answer. Of plain ones and zeros the critic would
    know by their sharpness alone, and the network could please it only by being too sure; so, both maps are equal
    wherever the network is right and sure. Ignored places are zero in both, and no gradient comes from them.

    Args:
        logits: (N, K, ...).
        target: (N, ...) int64.
        sure: least probability of the right class in the map of the labels, above 0 and up to 1; with 1 they are
            ones and zeros, the paper's first variant, "basic".
        ignored: label that is zero in both.

    Returns:
        Real and fake, both (N, K, ...) in [0, 1], float32. Only the fake one carries the logits' gradient.

    Raises:
        UserError: `sure` is out of range, or a label is none of the classes.
    """
    if not 0 < sure <= 1:
        raise UserError(f"sure={sure} is out of range; give a probability above 0 and up to 1, like 0.9.")
    check_labels(logits, target, ignored)
    fake = logits.float().softmax(dim=1)
    counted = (target != ignored).unsqueeze(1)
    label = target.unsqueeze(1).where(counted, 0)
    answer = fake.detach()
    right = answer.gather(1, label)
    raised = right.clamp(min=sure)
    # Where the network is certain nothing is left to share, and nothing is to be divided by
    rest = (1 - raised) / (1 - right).clamp(min=torch.finfo(right.dtype).eps)
    real = (answer * rest).scatter(1, label, raised)
    return real * counted, fake * counted


def _jaccard_steps(true: Tensor) -> Tensor:
    """Algorithm 1 of the paper: by how much the Jaccard loss grows with each further error; (K, P) to (K, P)."""
    total = true.sum(dim=1, keepdim=True)
    intersection = total - true.cumsum(dim=1)
    union = total + (1 - true).cumsum(dim=1)
    loss = 1 - intersection / union.clamp(min=1)
    return torch.cat([loss[:, :1], loss.diff(dim=1)], dim=1)


def _per_class(logits: Tensor, target: Tensor, ignored: int) -> tuple[Tensor, Tensor]:
    """Probabilities and where each class is the label, both (K, P) over the P places that count."""
    counted = (target != ignored).flatten()
    classes = logits.shape[1]
    probable = logits.float().softmax(dim=1).transpose(0, 1).reshape(classes, -1)[:, counted]
    true = F.one_hot(target.flatten()[counted], classes).T.to(probable.dtype)
    return probable, true


def _over_present(losses: Tensor, true: Tensor) -> Tensor:
    """Mean of (K,) over the classes that are somewhere the label."""
    present = true.any(dim=1) if true.shape[1] else torch.zeros_like(losses, dtype=torch.bool)
    return losses.where(present, 0).sum() / present.sum().clamp(min=1)


def check_labels(logits: Tensor, target: Tensor, ignored: int = IGNORED) -> None:
    """Refuse shapes that do not belong together; on the CPU, where looking costs nothing, also unknown labels.

    Raises:
        ValueError: the shapes do not fit, or the labels are no int64.
        UserError: a label is none of the classes.
    """
    if target.dtype != torch.int64 or logits.shape[:1] + logits.shape[2:] != target.shape:
        raise ValueError(
            f"logits {tuple(logits.shape)} and labels {tuple(target.shape)} of {target.dtype} do not belong "
            "together: expected (N, K, ...) and (N, ...) of torch.int64"
        )
    if target.device.type == "cpu":
        wrong = target[(target != ignored) & ((target < 0) | (target >= logits.shape[1]))]
        if len(wrong):
            raise UserError(
                f"label {int(wrong[0])} is none of the {logits.shape[1]} classes, 0 to {logits.shape[1] - 1}, and "
                f"not {ignored}, which is ignored. Make the network for more classes, or mend the labels."
            )
