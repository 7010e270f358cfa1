"""Penalties on the critic's slope."""

from __future__ import annotations

import torch
from torch import Tensor

from gangen.errors import UserError


def due(step: int, every: int) -> bool:
    """Whether a penalty that is computed only every so many steps is due at this one (counted from 0)."""
    if every < 1:
        raise UserError(f"a penalty every {every} steps is impossible; give 1 or more.")
    return step % every == 0


def r1(real_logits: Tensor, real: Tensor, weight: float, step: int = 0, every: int = 1) -> Tensor:
    """Weight / 2 times the squared slope of the critic at real pictures.

    R1 of Mescheder et al. 2018 (arXiv:1801.04406, equation 9). The slope is that of a picture's summed
    logits, so a critic that judges patches is penalised for all of them together. Computed lazily, every so
    many steps with as much more weight, it costs little and does the same (Karras et al. 2020,
    arXiv:1912.04958, section 3.1); on the other steps it is a zero, so the mean over a log's window is right.

    Args:
        real_logits: what the critic said of `real`, N first.
        real: (N, C, H, W), a leaf with requires_grad=True that went through the critic.
        weight: gamma of the paper.
        step: the critic's steps so far.
        every: how many steps lie between two computations.
    """
    if not due(step, every):
        return real_logits.new_zeros(())
    (slope,) = torch.autograd.grad(real_logits.sum(), real, create_graph=True)
    return slope.float().square().sum(dim=(1, 2, 3)).mean() * (weight * every / 2)


def mix(real: Tensor, fake: Tensor) -> Tensor:
    """Pictures at random places on the straight lines between real and fake ones, for `gradient_penalty`.

    The places come from torch's global random generator. The result is a leaf with requires_grad=True, of the type
    of the real ones: those painted in half precision are widened.
    """
    place = torch.rand(len(real), 1, 1, 1, device=real.device, dtype=real.dtype)
    return torch.lerp(real.detach(), fake.detach().to(real.dtype), place).requires_grad_()


def gradient_penalty(mixed_logits: Tensor, mixed: Tensor, weight: float = 10.0) -> Tensor:
    """Weight times the squared distance of the critic's slope from 1 (Gulrajani et al. 2017, arXiv:1704.00028).

    Equation 3 of the paper. The slope is that of a picture's mean logit, which is what the Wasserstein game
    compares.

    Args:
        mixed_logits: what the critic said of `mixed`, N first.
        mixed: (N, C, H, W) of `mix`.
        weight: lambda of the paper.
    """
    verdicts = mixed_logits.reshape(len(mixed), -1).mean(dim=1)
    (slope,) = torch.autograd.grad(verdicts.sum(), mixed, create_graph=True)
    return (slope.float().flatten(1).norm(dim=1) - 1).square().mean() * weight
