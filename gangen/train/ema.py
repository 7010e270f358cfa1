"""The exponential moving average of a network's weights."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.utils.parametrizations import _SpectralNorm


class Average:
    """A copy of `network` whose weights are a moving average of those it has had.

    After the n-th update the decay in force is min(decay, (1 + n) / (10 + n)), the ramp of TensorFlow's
    ExponentialMovingAverage, so that a short run is not dominated by its first weights. What is floating
    point is averaged, buffers such as running statistics too; the rest is copied, as are the vectors of spectral
    norm, whose mean would be shorter than 1 and the weights that are divided by it larger.

    Attributes:
        network: the averaged copy, in eval mode and without gradients.
        updates: how many updates it has seen.
    """

    def __init__(self, network: nn.Module) -> None:
        self.updates = 0
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        kinds = [module for module in self.network.modules() if isinstance(module, _SpectralNorm)]
        copied = {id(buffer) for module in kinds for buffer in module.buffers(recurse=False)}
        tensors = enumerate(_tensors(self.network))
        self._averaged = {i for i, each in tensors if each.is_floating_point() and id(each) not in copied}

    @torch.no_grad()
    def update(self, network: nn.Module, decay: float) -> None:
        """Move towards the present weights of `network`."""
        self.updates += 1
        decay = min(decay, (1 + self.updates) / (10 + self.updates))
        ours, theirs = _tensors(self.network), _tensors(network)
        averaged = sorted(self._averaged)
        torch._foreach_lerp_([ours[i] for i in averaged], [theirs[i] for i in averaged], 1.0 - decay)
        for i, (mine, its) in enumerate(zip(ours, theirs, strict=True)):
            if i not in self._averaged:
                mine.copy_(its)


def _tensors(network: nn.Module) -> list[torch.Tensor]:
    return [*network.parameters(), *network.buffers()]
