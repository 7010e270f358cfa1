"""Optimizers as gangen uses them: one a player, no weight decay on norms and biases."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from gangen.nets import layer_groups

Rate = float | tuple[float, float]
"""A learning rate; or two, of the first layers and of the last: what is pretrained has less to learn than what is
new (Howard & Ruder 2018, arXiv:1801.06146, "discriminative fine-tuning")."""

OptimizerFactory = Callable[[list[dict[str, Any]], float], Optimizer]
"""Parameter groups and a learning rate to an optimizer."""


def adam(betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0.0) -> OptimizerFactory:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2017, arXiv:1711.05101).

    For GANs a first beta of 0 or 0.5 is customary (Radford et al. 2015, arXiv:1511.06434).

    Fused, one pass over the weights a step, on CPU and CUDA; elsewhere PyTorch's own choice. Left to itself it
    makes a dozen passes on the CPU, a fifth of the whole step of a small UNet.
    """

    def make(groups: list[dict[str, Any]], lr: float) -> Optimizer:
        return torch.optim.AdamW(
            decay_groups(groups, weight_decay), lr=lr, betas=betas, fused=fused_where_known(groups)
        )

    return make


def fused_where_known(groups: list[dict[str, Any]]) -> bool | None:
    """True where all weights are on devices whose fused Adam is known to work; None leaves it to PyTorch."""
    devices = {parameter.device.type for group in groups for parameter in group["params"]}
    return True if devices <= {"cpu", "cuda"} else None


def sgd(momentum: float = 0.9, weight_decay: float = 0.0) -> OptimizerFactory:
    """Stochastic gradient descent with momentum."""
    return lambda groups, lr: torch.optim.SGD(decay_groups(groups, weight_decay), lr=lr, momentum=momentum)


def parameter_groups(network: nn.Module, lr: Rate) -> list[dict[str, Any]]:
    """The parameters of `network` that may learn, norms and biases in groups of their own, each with its rate.

    Vectors and scalars (biases, norms' scales and shifts, attention's gain) are marked `"decays": False`.

    Args:
        network: what learns.
        lr: one rate for all, or two, between which the layer groups' are spread (see `gangen.nets.layer_groups`).
    """
    parts = layer_groups(network) if isinstance(lr, tuple) else [list(network.parameters())]
    groups = []
    for part, rate in zip(parts, spread(lr, len(parts)), strict=True):
        learnable = [parameter for parameter in part if parameter.requires_grad]
        for decays in (True, False):
            chosen = [parameter for parameter in learnable if (parameter.ndim > 1) == decays]
            groups += [{"params": chosen, "decays": decays, "lr": rate}] if chosen else []
    return groups


def spread(lr: Rate, count: int) -> list[float]:
    """The rates of `count` layer groups: from the first of two rates to the second, in equal ratios."""
    if not isinstance(lr, tuple):
        return [lr] * count
    first, last = lr
    return [last * (first / last) ** ((count - 1 - k) / max(1, count - 1)) for k in range(count)]


def decay_groups(groups: Iterable[dict[str, Any]], weight_decay: float) -> list[dict[str, Any]]:
    """Give each group its weight decay: `weight_decay`, or none where it is marked `"decays": False`."""
    return [{**group, "weight_decay": weight_decay if group["decays"] else 0.0} for group in groups]
