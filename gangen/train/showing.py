"""The network as it is used afterwards: averaged, in eval mode, without gradients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from gangen.train.trainer import Trainer


def shown(trainer: Trainer, player: str) -> nn.Module:
    """The moving average of the player's weights, or the weights themselves where none is kept."""
    if player not in trainer.plan.networks:
        raise ValueError(f"there is no player {player!r}; there are: {', '.join(trainer.plan.networks)}")
    average = trainer.averages.get(player)
    return average.network if average else trainer.plan.networks[player]


@contextmanager
def showing(trainer: Trainer, player: str) -> Iterator[nn.Module]:
    """`shown`, in eval mode, in the training's precision; afterwards every module is in the mode it was in."""
    network = shown(trainer, player)
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.inference_mode(), trainer.accelerator.autocast():
            yield network
    finally:
        for module, mode in modes:
            module.training = mode
