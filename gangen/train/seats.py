"""The players of a phase at work: who may learn, in which mode, and what each one's loss sees."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from gangen.errors import RunError
from gangen.nets.freezing import freeze, is_still, mark, set_training
from gangen.train.compiled import Backend, compiled
from gangen.train.feed import over_tensors
from gangen.train.muon import MARK
from gangen.train.optim import parameter_groups
from gangen.train.phase import Player


class Seat:
    """One player in one phase.

    A seat is in one of two states. *Learning*: its parameters take gradients, its network is in train mode.
    *Resting*: neither, so that it only answers. Parts that are frozen stay so in both.

    Attributes:
        player: who sits here.
        network: the bare network.
        optimizer: the player's one optimizer.
        scaler: the player's own, with float16: two players on one would skip each other's steps.
        steps: steps that the player has completed in this phase.
        unmoved: steps in a row that its scaler left out, with float16, since a gradient was not finite.
    """

    def __init__(
        self,
        player: Player,
        accelerator: Accelerator,
        optimizer: Optimizer | None,
        scaler: GradScaler | None = None,
        backend: Backend | None = None,
    ) -> None:
        self.player, self.scaler = player, scaler
        self.network = player.network
        self.steps = self.unmoved = 0
        self._called = False
        within = [module for part in player.frozen for module in part.modules()]
        self._marks = [(module, mark(module)) for module in within]
        self._flags = [(p, p.requires_grad) for module in within for p in module.parameters(recurse=False)]
        for part in player.frozen:
            freeze(part, norms=player.norms)
        self.parameters = [p for p in self.network.parameters() if p.requires_grad]
        if not self.parameters:
            self._thaw()
            raise ValueError(f"{player.name}: every weight is frozen, so there is nothing to learn")
        peak = player.lr[1] if isinstance(player.lr, tuple) else player.lr
        self.optimizer = optimizer or player.optimizer(parameter_groups(self.network, player.lr), peak)
        for group in self.optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        self._wrapped = _wrap(self.network, accelerator)
        self._resting = compiled(self.network, backend)
        self._learner = self._resting if self._wrapped is self.network else compiled(self._wrapped, backend)
        self._learning = True
        self.rest()

    def take_back(self, state: dict[str, Any]) -> None:
        """Give the optimizer the state that it had in a checkpoint. Its rates are those of the player.

        Raises:
            RunError: it is the state of another optimizer, or of other weights.
        """
        groups = self.optimizer.param_groups
        rates = [group["initial_lr"] for group in groups]
        try:
            if any(
                own.get(MARK) != its.get(MARK) for own, its in zip(groups, state["param_groups"], strict=False)
            ):
                raise ValueError("other layers, or none, learned by Muon")
            self.optimizer.load_state_dict(state)
        except ValueError as error:
            raise RunError(
                f"the checkpoint's optimizer of {self.player.name!r} is of other weights: {error}. Resume with "
                "--optimizer and what is frozen (--norms and such) as they were, or start a new run in another "
                "--out."
            ) from error
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["initial_lr"] = rate

    def learn(self) -> None:
        """Take gradients and train mode."""
        if not self._learning:
            self._learning = True
            for parameter in self.parameters:
                parameter.requires_grad_(True)
            set_training(self.network, True, hold_statistics=self.player.hold_statistics)

    def rest(self) -> None:
        """Only answer: no gradient reaches the weights, and the network is in eval mode."""
        if self._learning:
            self._learning = False
            for parameter in self.parameters:
                parameter.requires_grad_(False)
            set_training(self.network, False)

    def leave(self) -> None:
        """Give the network back as it came: weights that may learn, and only what was frozen before frozen."""
        self.rest()
        for parameter in self.parameters:
            parameter.requires_grad_(True)
        self._thaw()

    def _thaw(self) -> None:
        """Leave frozen only what was frozen before."""
        for module, before in self._marks:
            module.frozen = before  # type: ignore[assignment]  # see gangen.nets.freezing
        for parameter, flag in self._flags:
            parameter.requires_grad_(flag)

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """Run the network: through its data-parallel wrapper while it learns, bare while it rests.

        Compiled, where it is to be; but a learning network whose input takes gradients runs as it is: the loss may
        be made of those, as penalties on a critic's slope are, and what is compiled has no second derivative.
        """
        if not self._learning:
            return self._resting(*inputs, **named)
        self._called = True
        sloping = any(_has_graph(value) for value in (*inputs, *named.values()))
        return (self._wrapped if sloping else self._learner)(*inputs, **named)

    def without_reduction(self) -> Any:
        """Within this block gradients stay on their process, to be averaged with a later batch's."""
        wrapped = self._wrapped
        return wrapped.no_sync() if isinstance(wrapped, DistributedDataParallel) else ExitStack()

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss as its gradient is taken: with float16 so many times as large that small slopes survive."""
        return loss if self.scaler is None else self.scaler.scale(loss)

    def unscale(self) -> None:
        """Give the gradients their true size, after the last backward pass and before anyone looks at them."""
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)

    def update(self, progress: float, rate: float = 1.0) -> bool:
        """Let the optimizer step at the rate that the schedule gives, and drop the gradients.

        Args:
            progress: share of the phase that is done.
            rate: factor on the learning rate.

        Returns:
            Whether the weights moved: with float16 a gradient that overflowed makes the scaler smaller instead.

        Raises:
            RuntimeError: among several processes, the loss did not call its own network through `nets`, so its
                gradients were not averaged.
        """
        if self._wrapped is not self.network and not self._called:
            raise RuntimeError(
                f"the loss of {self.player.name!r} never called nets.{self.player.name}(...), so its gradients "
                "were not averaged over the processes; call the network through `nets`, not one of its methods"
            )
        self._called = False
        factor = rate * self.player.schedule(progress)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        moved = self._step()
        self.unmoved = 0 if moved else self.unmoved + 1
        self.optimizer.zero_grad(set_to_none=True)
        self.steps += 1
        return moved

    def _step(self) -> bool:
        if self.scaler is None:
            self.optimizer.step()
            return True
        before = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return self.scaler.get_scale() >= before > 0

    def forget_gradient(self) -> None:
        """Drop the gradients of a step that is not taken."""
        self.optimizer.zero_grad(set_to_none=True)
        if self.scaler is not None:
            self.scaler.update()

    def moving_buffers(self) -> list[Tensor]:
        """The buffers that learning changes: statistics of the parts that do not hold theirs still."""
        if self.player.hold_statistics:
            return []
        return [b for module in self.network.modules() if not is_still(module) for b in module.buffers(False)]

    @torch.no_grad()
    def average_buffers(self, accelerator: Accelerator) -> None:
        """Give every process the mean of all processes' running statistics, so that replicas stay equal."""
        if accelerator.num_processes == 1:
            return
        buffers = [buffer for buffer in self.moving_buffers() if buffer.is_floating_point()]
        if buffers:
            flat = accelerator.reduce(torch.cat([buffer.flatten() for buffer in buffers]), "mean")
            for buffer, mean in zip(buffers, flat.split([b.numel() for b in buffers]), strict=True):
                buffer.copy_(mean.view_as(buffer))


class Nets:
    """What a loss sees: `nets.NAME` is the network of the player of that name, and callable.

    - One's own network learns.
    - A resting player's network answers; gradients pass through it but not into it.
    - Another player that learns from the same batch: its output is computed once for both and comes detached.

    Attributes:
        step: steps that the loss's own player has completed in this phase, for terms that are not due always.
    """

    def __init__(self, seats: dict[str, Seat], mine: Seat, turn: Sequence[Seat], shared: Shared) -> None:
        self._seats, self._mine, self._turn, self._shared = seats, mine, turn, shared
        self.step = mine.steps

    def __getattr__(self, name: str) -> _View:
        if name.startswith("__"):
            raise AttributeError(name)
        if name not in self._seats:
            raise AttributeError(f"no player {name!r} in this phase; there are: {', '.join(self._seats)}")
        seat = self._seats[name]
        shares = len(self._turn) > 1 and seat in self._turn
        return _View(seat, self._mine, self._shared if shares else None)


class Shared:
    """Outputs of one batch by (player, inputs). Inputs are held, so that none's identity is used again."""

    def __init__(self) -> None:
        self._outputs: dict[tuple[Any, ...], tuple[Any, Any]] = {}

    def output(self, seat: Seat, inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """What the seat's network makes of these inputs; computed at the first asking."""
        key = (seat.player.name, *map(id, inputs), *((name, id(value)) for name, value in named.items()))
        if key not in self._outputs:
            self._outputs[key] = ((inputs, named), seat(*inputs, **named))
        return self._outputs[key][1]


class _View:
    """One network as one player's loss sees it. Attributes are those of the bare network."""

    def __init__(self, seat: Seat, mine: Seat, shared: Shared | None) -> None:
        self._seat, self._mine, self._shared = seat, mine, shared

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        if self._shared is None or any(_has_graph(value) for value in (*inputs, *named.values())):
            # A picture that another network has just made is not shared: its graph belongs to that network.
            return self._seat(*inputs, **named)
        if self._seat is self._mine:
            return self._shared.output(self._seat, inputs, named)
        # The other player learns from this output, whatever the loss that asks for it first needs it for.
        with learning(self._seat), torch.enable_grad():
            return over_tensors(self._shared.output(self._seat, inputs, named), Tensor.detach)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._seat.network, name)


@contextmanager
def learning(seat: Seat) -> Iterator[None]:
    """Let a seat learn within this block."""
    seat.learn()
    try:
        yield
    finally:
        seat.rest()


def _wrap(network: nn.Module, accelerator: Accelerator) -> nn.Module:
    """Wrap for data parallelism over the weights that may learn now.

    Buffers are not broadcast before each forward pass: a critic may need several passes for one backward pass,
    which overwritten buffers would break. `Seat.average_buffers` keeps them equal instead.
    """
    if accelerator.num_processes == 1:
        return network
    device = accelerator.device
    ids = [device] if device.type == "cuda" else None
    with warnings.catch_warnings():
        # Newer releases call the argument by another name, which older ones do not know.
        warnings.simplefilter("ignore", FutureWarning)
        return DistributedDataParallel(network, device_ids=ids, broadcast_buffers=False)


def _has_graph(value: Any) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return any(map(_has_graph, value))
    return isinstance(value, Tensor) and value.requires_grad


@torch.no_grad()
def share(network: nn.Module, accelerator: Accelerator) -> None:
    """Give every process the main process's weights and buffers."""
    if accelerator.num_processes > 1:
        for tensor in (*network.parameters(), *network.buffers()):
            torch.distributed.broadcast(tensor, src=0)
