"""Losses that compare pictures pixel by pixel: (output, target) of one shape to a mean, a scalar."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def l1(output: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference."""
    return F.l1_loss(output, target)


def l2(output: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference."""
    return F.mse_loss(output, target)


def charbonnier(output: Tensor, target: Tensor, eps: float = 1e-3) -> Tensor:
    """Mean of sqrt(difference² + eps²): as `l1`, but smooth at zero (Lai et al. 2017, arXiv:1704.03915, eq. 2)."""
    return torch.sqrt((output - target).square() + eps**2).mean()


def total_variation(pictures: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels, across plus down: (N, C, H, W) to a scalar.

    The anisotropic form of Rudin, Osher & Fatemi 1992 ("Nonlinear total variation based noise removal
    algorithms"). A picture of one row or one column has no neighbours there, which counts as 0.
    """
    across = (pictures[..., :, 1:] - pictures[..., :, :-1]).abs()
    down = (pictures[..., 1:, :] - pictures[..., :-1, :]).abs()
    return across.sum() / max(1, across.numel()) + down.sum() / max(1, down.numel())
