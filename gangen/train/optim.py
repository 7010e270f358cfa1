"""Optimizers as gangen uses them: one a player, no weight decay on norms and biases."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from gangen.nets import layer_groups
from gangen.nets.groups import body_of

Rate = float | tuple[float, float]
"""A learning rate; or two, of the first layers and of the last: what is pretrained has less to learn than what is
new (Howard & Ruder 2018, arXiv:1801.06146, "discriminative fine-tuning")."""

_PICTURE_CHANNELS = 4
"""So many, or fewer, are what a picture has, not how wide a layer is."""

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


def parameter_groups(network: nn.Module, lr: Rate, base_width: int | None = None) -> list[dict[str, Any]]:
    """The parameters of `network` that may learn, norms and biases in groups of their own, each with its rate.

    Vectors and scalars (biases, norms' scales and shifts, attention's gain) are marked `"decays": False`.

    Args:
        network: what learns.
        lr: one rate for all, or two, between which the layer groups' are spread (see `gangen.nets.layer_groups`).
        base_width: weights of a layer of fewer inputs, c, learn at base_width / c times its rate (see
            `width_factors`); None: all at theirs as given.

    Returns:
        The groups, part by part. The last one's rate is the last part's as given, which logs show.
    """
    parts = layer_groups(network) if isinstance(lr, tuple) else [list(network.parameters())]
    factors = width_factors(network, base_width) if base_width else {}
    groups = []
    for part, rate in zip(parts, spread(lr, len(parts)), strict=True):
        learnable = [(parameter, factors.get(id(parameter), 1.0)) for parameter in part if parameter.requires_grad]
        for factor in sorted({factor for _, factor in learnable}, reverse=True):
            alike = [parameter for parameter, its in learnable if its == factor]
            for decays in (True, False):
                chosen = [parameter for parameter in alike if (parameter.ndim > 1) == decays]
                groups += [{"params": chosen, "decays": decays, "lr": rate * factor}] if chosen else []
    return groups


def width_factors(network: nn.Module, base_width: int) -> dict[int, float]:
    """How many times faster than others the weights of layers of fewer than `base_width` inputs learn.

    Adam moves every weight by about the rate. What a layer answers is a sum over its inputs, so that with c of
    them it may move by c times the rate: at one rate for all, narrow layers learn slowly. Yang et al. 2022
    (arXiv:2203.03466) therefore have the rate of hidden weights fall as 1 / c, and leave that of biases, and of
    weights that see the picture itself, as it is. Here only what is narrower than `base_width` differs: it has
    base_width / c times the rate. The body on which the network stands learns as given.

    Args:
        network: what learns, by Adam or another optimizer whose steps are as long whatever the gradient.
        base_width: in input channels, whatever the side of the kernel; of a grouped convolution, those that each
            output sees.

    Returns:
        A factor, 1 or more, for the weights of each 2-D convolution and linear layer, by their id.
    """
    body = body_of(network)
    known = {id(parameter) for parameter in body.parameters()} if body is not None else set()
    factors = {}
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            inputs, channels = module.in_channels // module.groups, module.in_channels
        elif isinstance(module, nn.Linear):
            inputs = channels = module.in_features
        else:
            continue
        if channels > _PICTURE_CHANNELS:
            weights = (parameter for parameter in module.parameters() if parameter.ndim > 1)
            factor = max(1.0, base_width / inputs)
            factors.update({id(weight): factor for weight in weights if id(weight) not in known})
    return factors


def spread(lr: Rate, count: int) -> list[float]:
    """The rates of `count` layer groups: from the first of two rates to the second, in equal ratios."""
    if not isinstance(lr, tuple):
        return [lr] * count
    first, last = lr
    return [last * (first / last) ** ((count - 1 - k) / max(1, count - 1)) for k in range(count)]


def decay_groups(groups: Iterable[dict[str, Any]], weight_decay: float) -> list[dict[str, Any]]:
    """Give each group its weight decay: `weight_decay`, or none where it is marked `"decays": False`."""
    return [{**group, "weight_decay": weight_decay if group["decays"] else 0.0} for group in groups]
