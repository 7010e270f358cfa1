"""Optimizers as gangen uses them: one a player, no weight decay on norms and biases."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

OptimizerFactory = Callable[[list[dict[str, Any]], float], Optimizer]
"""Parameter groups and a learning rate to an optimizer."""


def adam(betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0.0) -> OptimizerFactory:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2017, arXiv:1711.05101).

    For GANs a first beta of 0 or 0.5 is customary (Radford et al. 2015, arXiv:1511.06434).

    Fused, one pass over the weights a step, on CPU and CUDA; elsewhere PyTorch's own choice. Left to itself it
    makes a dozen passes on the CPU, a fifth of the whole step of a small UNet.
    """

    def make(groups: list[dict[str, Any]], lr: float) -> Optimizer:
        devices = {parameter.device.type for group in groups for parameter in group["params"]}
        fused = True if devices <= {"cpu", "cuda"} else None
        return torch.optim.AdamW(decay_groups(groups, weight_decay), lr=lr, betas=betas, fused=fused)

    return make


def sgd(momentum: float = 0.9, weight_decay: float = 0.0) -> OptimizerFactory:
    """Stochastic gradient descent with momentum."""
    return lambda groups, lr: torch.optim.SGD(decay_groups(groups, weight_decay), lr=lr, momentum=momentum)


def parameter_groups(network: nn.Module) -> list[dict[str, Any]]:
    """The parameters of `network` that may learn, norms and biases in a group of their own.

    Vectors and scalars (biases, norms' scales and shifts, attention's gain) are marked `"decays": False`.
    """
    learnable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = (
        {"params": [p for p in learnable if p.ndim > 1], "decays": True},
        {"params": [p for p in learnable if p.ndim <= 1], "decays": False},
    )
    return [group for group in groups if group["params"]]


def decay_groups(groups: Iterable[dict[str, Any]], weight_decay: float) -> list[dict[str, Any]]:
    """Give each group its weight decay: `weight_decay`, or none where it is marked `"decays": False`."""
    return [{**group, "weight_decay": weight_decay if group["decays"] else 0.0} for group in groups]
