"""The exponential moving average of a network's weights."""

from __future__ import annotations

import copy

import torch
from torch import nn


class Average:
    """A copy of `network` whose weights are a moving average of those it has had.

    After the n-th update the decay in force is min(decay, (1 + n) / (10 + n)), the ramp of TensorFlow's
    ExponentialMovingAverage, so that a short run is not dominated by its first weights. What is floating
    point is averaged, buffers such as running statistics too; the rest is copied.

    Attributes:
        network: the averaged copy, in eval mode and without gradients.
        updates: how many updates it has seen.
    """

    def __init__(self, network: nn.Module) -> None:
        self.updates = 0
        self.network = copy.deepcopy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, network: nn.Module, decay: float) -> None:
        """Move towards the present weights of `network`."""
        self.updates += 1
        decay = min(decay, (1 + self.updates) / (10 + self.updates))
        ours, theirs = _tensors(self.network), _tensors(network)
        floating = [i for i, tensor in enumerate(ours) if tensor.is_floating_point()]
        torch._foreach_lerp_([ours[i] for i in floating], [theirs[i] for i in floating], 1.0 - decay)
        for mine, its in zip(ours, theirs, strict=True):
            if not mine.is_floating_point():
                mine.copy_(its)


def _tensors(network: nn.Module) -> list[torch.Tensor]:
    return [tensor.detach() for tensor in (*network.parameters(), *network.buffers())]
