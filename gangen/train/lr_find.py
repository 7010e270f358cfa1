"""The learning-rate range test: which rate a network learns fastest at, found by raising it until learning
breaks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.utils.data import Dataset
from tqdm import tqdm

from gangen.errors import UserError
from gangen.seeding import seeded
from gangen.train.feed import Feed
from gangen.train.phase import Player
from gangen.train.rates import Rates
from gangen.train.schedule import constant
from gangen.train.seats import Nets, Seat, Shared, share


def lr_find(
    player: Player,
    data: Dataset[Any],
    *,
    batch_size: int = 16,
    lowest: float = 1e-7,
    highest: float = 10.0,
    steps: int = 100,
    seed: int = 0,
    workers: int = 0,
    accelerator: Accelerator | None = None,
) -> Rates:
    """Let a player learn for some steps at a rate that rises from `lowest` to `highest`, and look at its loss.

    Smith 2015, "Cyclical learning rates for training neural networks" (arXiv:1506.01186). It ends early where the
    loss is four times its least. Afterwards the network, its modes, and all random generators are as they were,
    bit for bit; other optimizers are not touched, the one here being made for the test. Every process gets the
    same answer, from the losses of all.

    Args:
        player: whose rate is looked for; its own rate is only what layer groups' rates are in proportion to. Its
            loss sees its own network alone.
        data: map-style data set, or `Stream`.
        batch_size: samples a batch and process.
        lowest: first rate.
        highest: last rate.
        steps: how many.
        seed: of the data's order and chance.
        workers: processes that read data.
        accelerator: devices, processes and precision; accelerate's defaults when None.

    Raises:
        UserError: the rates or the steps make no range, or the loss is no number from the start.
    """
    if not 0 < lowest < highest or steps < 8:
        raise UserError(f"{steps} rates from {lowest} to {highest}: expected 8 or more, rising from above 0.")
    accelerator = accelerator or Accelerator()
    rates: list[float] = []
    losses: list[float] = []
    with _as_it_was(player.network), seeded(seed, accelerator.process_index):
        network = player.network.to(accelerator.device)
        share(network, accelerator)
        feed = Feed(
            data,
            batch_size,
            seed=seed,
            workers=workers,
            rank=accelerator.process_index,
            world=accelerator.num_processes,
            device=accelerator.device,
        )
        half = accelerator.mixed_precision == "fp16"
        scaler = GradScaler(accelerator.device.type) if half else None
        seat = Seat(replace(player, schedule=constant()), accelerator, None, scaler)
        peak = max(group["initial_lr"] for group in seat.optimizer.param_groups)
        shares = [group["initial_lr"] / peak for group in seat.optimizer.param_groups]
        try:
            for step in tqdm(range(steps), desc="learning rates", unit="step", disable=None):
                rate = lowest * (highest / lowest) ** (step / (steps - 1))
                losses.append(_step(seat, next(feed), rate, shares, accelerator))
                rates.append(rate)
                if not math.isfinite(losses[-1]) or losses[-1] > 4 * min(losses) > 0:
                    break
        finally:
            seat.leave()
            feed.close()
    if not math.isfinite(losses[0]):
        raise UserError("the loss is no number before anything was learned. Look at the data and the loss.")
    usable = [(rate, loss) for rate, loss in zip(rates, losses, strict=True) if math.isfinite(loss)]
    kept_rates, kept_losses = (tuple(values) for values in zip(*usable, strict=True))
    return Rates(kept_rates, kept_losses, _valley(kept_rates, kept_losses), _steepest(kept_rates, kept_losses))


def _step(seat: Seat, batch: Any, rate: float, shares: list[float], accelerator: Accelerator) -> float:
    """Learn once at this rate; gives the loss before it, over all processes."""
    seat.learn()
    with accelerator.autocast():
        terms = seat.player.loss(Nets({seat.player.name: seat}, seat, [seat], Shared()), batch)
    loss = torch.stack([value.float().reshape(()) for value in terms.values()]).sum()
    seat.scaled(loss).backward()
    seat.unscale()
    for group, share_of_peak in zip(seat.optimizer.param_groups, shares, strict=True):
        group["initial_lr"] = rate * share_of_peak
    if seat.player.clip is not None:
        nn.utils.clip_grad_norm_(seat.parameters, seat.player.clip)
    seat.update(0.0)
    return float(accelerator.reduce(loss.detach(), "mean"))


def _valley(rates: tuple[float, ...], losses: tuple[float, ...]) -> float:
    """Two thirds into the longest falling subsequence of the losses."""
    falls: list[list[int]] = []
    for k, loss in enumerate(losses):
        falls.append([*max((falls[j] for j in range(k) if losses[j] > loss), key=len, default=[]), k])
    longest = max(falls, key=len)
    return rates[longest[2 * (len(longest) - 1) // 3]]


def _steepest(rates: tuple[float, ...], losses: tuple[float, ...]) -> float:
    """Where the loss, averaged over five neighbours, falls most from one rate to the next."""
    smooth = [sum(part := losses[max(0, k - 2) : k + 3]) / len(part) for k in range(len(losses))]
    return rates[min(range(1, len(smooth)), key=lambda k: smooth[k] - smooth[k - 1], default=0)]


@contextmanager
def _as_it_was(network: nn.Module) -> Iterator[None]:
    """Put the network's weights, buffers, gradients and modes back afterwards; in place, whatever holds them."""
    state = {name: value.detach().clone() for name, value in _tensors(network)}
    gradients = [(parameter, parameter.grad) for parameter in network.parameters()]
    modes = [(module, module.training) for module in network.modules()]
    devices = {value.device for value in state.values()}
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    try:
        for parameter, _ in gradients:
            parameter.grad = None
        yield
    finally:
        with torch.no_grad():
            for name, value in _tensors(network):
                value.copy_(state[name])
        if len(devices) == 1:
            network.to(next(iter(devices)))
        for parameter, gradient in gradients:
            parameter.grad = gradient
        for module, mode in modes:
            module.training = mode
        if cuda:
            torch.cuda.set_rng_state_all(cuda)


def _tensors(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """All that a network holds, by name; unlike a state dict, buffers that are not saved with it too."""
    yield from network.named_parameters()
    yield from network.named_buffers()
