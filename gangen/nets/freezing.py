"""Freezing a part of a network, so that it holds perfectly still whatever mode or turn comes.

A frozen part gets no gradients, and those of its layers whose buffers move in train mode (running statistics
of BatchNorm, the power iteration of spectral norm) stay in eval mode. The mark is an attribute `frozen` on
every module of the part, so it survives deepcopy, and a part of a frozen part can be unfrozen again; it is
"weights" where the weights alone are held and statistics go on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.utils.parametrizations import _SpectralNorm

Norms = Literal["hold", "adapt", "learn"]
"""What normalisation layers do in a frozen part.

They hold still; or adapt their statistics to the pictures that come, with weights and biases held, which needs no
gradient (Li et al. 2016, "Revisiting batch normalization for practical domain adaptation", arXiv:1603.04779); or
learn as ever, statistics included, as fastai's do.
"""


def freeze(module: nn.Module, *, norms: Norms = "hold") -> None:
    """Stop gradients and running statistics of `module` and all within it, until `unfreeze`.

    Its normalisation layers do what `norms` says: what they know of the pictures that the rest was trained on may
    not be true of others.

    Plain `module.train()` would set BatchNorm going again in a network that does not know of freezing; `Body`
    and `UNet` do, and for all others `set_training` is the call that keeps frozen parts still.
    """
    for part in module.modules():
        if norms == "learn" and is_norm(part):
            continue
        part.frozen = "weights" if norms == "adapt" and is_norm(part) else True  # type: ignore[assignment]
        for parameter in part.parameters(recurse=False):
            parameter.requires_grad_(False)
        if is_still(part) and _has_moving_buffers(part):
            part.training = False


def is_norm(module: nn.Module) -> bool:
    """Whether a module is a normalisation layer: of the batch, an instance, a group of channels, or a layer."""
    return isinstance(module, _NormBase | nn.GroupNorm | nn.LayerNorm)


def unfreeze(module: nn.Module) -> None:
    """Let `module` and all within it learn again; its statistics move from the next `train()` on."""
    for part in module.modules():
        part.frozen = False  # type: ignore[assignment]
    module.requires_grad_(True)


def is_frozen(module: nn.Module) -> bool:
    """Whether `freeze` holds this module's weights."""
    return bool(mark(module))


def is_still(module: nn.Module) -> bool:
    """Whether `freeze` holds this module's weights and its statistics."""
    return mark(module) is True


def mark(module: nn.Module) -> object:
    """What `freeze` left on this module: True, "weights", or False."""
    # Asked of every layer in every step: `getattr` would look through all that a module has, and raise.
    return module.__dict__.get("frozen", False)


def free_parameters(module: nn.Module) -> Iterator[nn.Parameter]:
    """The parameters outside frozen parts: those that may learn when their player has the turn."""
    held = {id(own) for part in module.modules() if is_frozen(part) for own in part.parameters(recurse=False)}
    return (parameter for parameter in module.parameters() if id(parameter) not in held)


def set_training(module: nn.Module, training: bool, hold_statistics: bool = False) -> None:
    """`module.train(training)`, except that frozen parts keep their statistics still.

    Args:
        module: a network, wrapped by DistributedDataParallel or bare.
        training: train or eval mode.
        hold_statistics: keep all statistics still, also those outside frozen parts.
    """
    module.train(training)
    for part in module.modules():
        if (hold_statistics or is_still(part)) and _has_moving_buffers(part):
            part.training = False


def hold_statistics(module: nn.Module) -> None:
    """Put the layers whose buffers move in train mode into eval mode; the next `train()` releases them."""
    for part in module.modules():
        if _has_moving_buffers(part):
            part.training = False


def keep_frozen_still(module: nn.Module) -> None:
    """Hold the statistics of the frozen parts within `module`; a network's own `train` calls this last."""
    for part in module.modules():
        if is_still(part) and _has_moving_buffers(part):
            part.training = False


def _has_moving_buffers(module: nn.Module) -> bool:
    # _NormBase covers BatchNorm, SyncBatchNorm and InstanceNorm that tracks statistics.
    return isinstance(module, _SpectralNorm) or (isinstance(module, _NormBase) and module.running_mean is not None)
