"""Fine-tuning: a phase for what is new, then one for the whole network. fastai's `fine_tune`, as plain phases."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from gangen.errors import UserError
from gangen.nets.freezing import Norms, is_norm
from gangen.nets.groups import body_of
from gangen.train.optim import OptimizerFactory, adam
from gangen.train.phase import Loss, Phase, Player
from gangen.train.schedule import one_cycle

NAME = "network"


def fine_tune(
    network: nn.Module,
    loss: Loss,
    *,
    epochs: int,
    epoch: int,
    frozen_epochs: int = 1,
    lr: float = 2e-3,
    ratio: float = 100.0,
    frozen: Sequence[nn.Module] | None = None,
    norms: Norms = "learn",
    optimizer: OptimizerFactory | None = None,
    clip: float | None = None,
    ema: float = 0.0,
    name: str = NAME,
) -> list[Phase]:
    """The phases that teach a pretrained network something new.

    First the body is held and only the rest learns, at `lr`; then all of it, at half that rate for the last layers
    and a `ratio`-th of it for the first ones. Each phase is one cycle (see `one_cycle`); the first rises almost to
    its end.

    Howard & Gugger 2020, "fastai: a layered API for deep learning" (arXiv:2002.04688), with its numbers.

    Args:
        network: with a `body`, unless `frozen` says what is held.
        loss: `loss(nets, batch) -> terms`; the network is `nets.network`, or what `name` says.
        epochs: passes over the data in which all learns; 0 leaves that phase out.
        epoch: steps that a pass over the data takes; see `steps_of`.
        frozen_epochs: passes in which the body is held; 0 leaves that phase out.
        lr: peak learning rate of the first phase.
        ratio: how many times the last layers learn faster than the first ones; 1 suits random weights.
        frozen: parts that are held in the first phase; the network's body when None.
        norms: what normalisation layers of the held parts do meanwhile. "learn": all that they do otherwise, as in
            fastai. "adapt": their statistics follow the new pictures while their weights are held, which costs no
            backward pass through the body. "hold": they stay as they are, and in the second phase too, which suits
            pictures that are too few or too alike to tell of others.
        optimizer: Adam with a weight decay of 0.01, not for norms and biases, when None.
        clip: largest norm of the gradient, or None.
        ema: decay of the moving average of the weights; 0 for none.
        name: of the player.

    Raises:
        UserError: a number is impossible, or there is no body to hold.
    """
    for what, value, least in (("epochs", epochs, 0), ("frozen_epochs", frozen_epochs, 0), ("epoch", epoch, 1)):
        if value < least:
            raise UserError(f"{what}={value}: expected {least} or more.")
    if not epochs and not frozen_epochs:
        raise UserError(
            "nothing would be learned: neither is the head to learn alone (frozen_epochs; from random weights "
            "there is no such phase) nor all of the network (epochs). Raise epochs."
        )
    if lr <= 0 or ratio < 1:
        raise UserError(f"lr={lr}, ratio={ratio}: expected a rate above 0, like 2e-3, and a ratio of 1 or more.")
    body = body_of(network)
    held = frozen if frozen is not None else [body] if body is not None else None
    if held is None and frozen_epochs:
        raise UserError(
            f"{type(network).__name__} has no body to hold at first: name the parts with frozen=[...], or set "
            "frozen_epochs=0."
        )
    made = optimizer or adam(weight_decay=0.01)
    own = [layer for part in held or () for layer in part.modules() if is_norm(layer)]
    common = {"optimizer": made, "clip": clip, "ema": ema}
    head = Player(
        name,
        network,
        loss,
        lr=lr,
        schedule=one_cycle(warmup=0.99),
        frozen=held or (),
        norms=norms,
        **common,  # type: ignore[arg-type]
    )
    whole = Player(
        name,
        network,
        loss,
        lr=(lr / 2 / ratio, lr / 2),
        schedule=one_cycle(warmup=0.3, start=0.2),
        frozen=own if norms == "hold" else (),
        **common,  # type: ignore[arg-type]
    )
    return [Phase("head", [head], frozen_epochs * epoch), Phase("whole", [whole], epochs * epoch)]


def steps_of(samples: int, batch_size: int, processes: int = 1) -> int:
    """Steps that a pass over so many samples takes, the last batch filled up from the next pass.

    Args:
        samples: how many there are.
        batch_size: samples a batch and process.
        processes: how many learn together.
    """
    return max(1, -(-samples // (batch_size * processes)))
