"""One step of the loop: whoever has the turn learns from the same batches and moves once."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gangen.train.callback import call
from gangen.train.phase import Player
from gangen.train.products import SmallMaps
from gangen.train.seats import Nets, Seat, Shared

if TYPE_CHECKING:
    from gangen.train.trainer import Trainer

Terms = dict[str, list[dict[str, Tensor]]]
"""Each player's loss in one step, by the player's name: its terms, batch by batch."""


def take_turn(trainer: Trainer) -> Terms:
    """Let those in `trainer.turn` learn. A step in which a number is not finite moves nobody; see `Guard`."""
    seats = [trainer.seats[name] for name in trainer.turn]
    before = [(buffer, buffer.clone()) for seat in seats for buffer in seat.moving_buffers()]
    terms = _learn(trainer, seats)
    for seat in seats:
        seat.unscale()
    norms = {seat: _clipped(seat) for seat in seats}
    numbers = {seat.player.name: {**_sums(terms[seat.player.name]), **_named(norms, seat)} for seat in seats}
    broken = trainer.guard.look(trainer.accelerator, numbers)
    if broken:
        for buffer, value in before:
            buffer.copy_(value)
        for seat in seats:
            seat.forget_gradient()
        trainer.guard.leave_out(trainer, broken)
        return terms
    for seat in seats:
        _update(trainer, seat, terms[seat.player.name], norms[seat])
        trainer.guard.check_scale(trainer, seat)
    return terms


def _learn(trainer: Trainer, seats: list[Seat]) -> Terms:
    """Gradients of all, taken before any of them moves."""
    counts = {seat.player.accumulate for seat in seats}
    if len(counts) > 1:
        raise ValueError(f"{trainer.turn} learn from the same batches: their `accumulate` must be equal")
    batches = counts.pop()
    terms: Terms = {seat.player.name: [] for seat in seats}
    for number in range(batches):
        batch, shared = next(trainer.feed), Shared()
        with ExitStack() as stack:
            for seat in seats if number < batches - 1 else ():
                stack.enter_context(seat.without_reduction())
            for seat in seats:
                seat.learn()
                with trainer.accelerator.autocast(), small_maps(trainer):
                    given = seat.player.loss(Nets(trainer.seats, seat, seats, shared), batch)
                    scalars = {name: _scalar(trainer, seat.player, name, value) for name, value in given.items()}
                seat.scaled(torch.stack(list(scalars.values())).sum() / batches).backward()
                terms[seat.player.name].append({k: v.detach() for k, v in scalars.items()})
                if len(seats) > 1:
                    seat.rest()
    return terms


def small_maps(trainer: Trainer) -> AbstractContextManager[Any]:
    """Convolutions as products where that pays: on CPUs. What is to be compiled is left as it is."""
    on_cpu = trainer.accelerator.device.type == "cpu"
    return SmallMaps() if on_cpu and trainer.compile is None else nullcontext()


def _update(trainer: Trainer, seat: Seat, terms: list[dict[str, Tensor]], norm: Tensor) -> None:
    """Let one player move, and its average follow."""
    player = seat.player
    for batch in terms:
        for term, value in batch.items():
            trainer.meters.add(f"{player.name}/{term}", value)
    trainer.meters.add(f"{player.name}/gradient_norm", norm)
    call(trainer.watchers(), "on_before_update", trainer, player)
    moved = seat.update(trainer.step / trainer.phase.steps, trainer.guard.rate)
    seat.average_buffers(trainer.accelerator)
    if moved and player.name in trainer.averages:
        # A player without a moving average of its own leaves its latest weights there (a decay of 0).
        trainer.averages[player.name].update(seat.network, player.ema)


def _clipped(seat: Seat) -> Tensor:
    """The norm of a player's gradient, which is clipped where that is asked for."""
    gradients = [p.grad for p in seat.parameters if p.grad is not None]
    if not gradients:
        name = seat.player.name
        raise ValueError(
            f"the loss of {name!r} has no gradient in any of its weights. Does it call nets.{name}(...), rather "
            "than another copy of the network, and not within torch.no_grad?"
        )
    if seat.player.clip is not None:
        return nn.utils.clip_grad_norm_(seat.parameters, seat.player.clip)
    return nn.utils.get_total_norm(gradients)


def _sums(batches: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {term: torch.stack([batch[term] for batch in batches]).sum() for term in batches[0]}


def _named(norms: dict[Seat, Tensor], seat: Seat) -> dict[str, Tensor]:
    # With float16 an infinite gradient is no accident, but what its scaler looks for.
    return {"gradient_norm": norms[seat]} if seat.scaler is None else {}


def _scalar(trainer: Trainer, player: Player, term: str, value: Any) -> Tensor:
    if not isinstance(value, Tensor) or value.numel() != 1:
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"{player.name}'s loss term {term!r} must be a tensor with one number, not {shape}")
    return value.reshape(()).float().to(trainer.accelerator.device)  # a constant may have been made elsewhere
