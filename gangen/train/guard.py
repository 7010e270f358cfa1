"""Numbers that are no longer finite: such a step is left out, and many in a row lead back to what was good."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from torch import Tensor

from gangen.errors import RunError

if TYPE_CHECKING:
    from gangen.train.seats import Seat
    from gangen.train.trainer import Trainer


@dataclass(frozen=True)
class NonFinite:
    """What a trainer does about losses and gradient norms that are infinite or no numbers.

    Attributes:
        skips: steps in a row and player that are left out: nobody moves, running statistics stay. One more, and
            the training goes back to its last checkpoint. 0 goes back at the first.
        rollbacks: how often it goes back. Once more, or without a checkpoint, the training ends with what it
            knows about the cause. 0 ends it at once.
        slower: factor on all learning rates from then on, for each time that it went back.
    """

    skips: int = 10
    rollbacks: int = 2
    slower: float = 0.5

    def __post_init__(self) -> None:
        if self.skips < 0 or self.rollbacks < 0 or not 0 < self.slower <= 1:
            raise ValueError(f"{self}: skips and rollbacks are 0 or more, slower is above 0 and at most 1")


SCALINGS = 50
"""Steps in a row that float16's scaler may leave out. Each halves it: by then it is 2^-34, from 2^16 at first."""


class Diverged(RunError):
    """A player's numbers were not finite for too long."""


class Guard:
    """Watches one training.

    Attributes:
        limits: see `NonFinite`.
        skipped: steps that were left out so far.
        rollbacks: how often the training went back.
        rate: factor on all learning rates.
    """

    def __init__(self, limits: NonFinite) -> None:
        self.limits = limits
        self.skipped = self.rollbacks = 0
        self.rate = 1.0
        self._row: dict[str, int] = {}
        self._cause = ""
        self._stuck = False

    def look(self, accelerator: Accelerator, numbers: Mapping[str, Mapping[str, Tensor]]) -> list[str]:
        """Names of the numbers that are not finite on any process, the same answer on all of them.

        Args:
            accelerator: connects the processes.
            numbers: scalars by player and name.
        """
        names = [f"{player}/{name}" for player, named in numbers.items() for name in named]
        values = torch.stack([value.detach().float() for named in numbers.values() for value in named.values()])
        # Sums of what is not finite are not finite either, so that one reduction tells every process of all.
        found = accelerator.reduce(values, "sum").tolist()
        broken = [name for name, value in zip(names, found, strict=True) if not math.isfinite(value)]
        if not broken:
            self._row, self._stuck = {**self._row, **dict.fromkeys(numbers, 0)}, False
        return broken

    def leave_out(self, trainer: Trainer, broken: list[str]) -> None:
        """Count and log a step of those in `trainer.turn` that is left out, because of these numbers.

        Raises:
            Diverged: it is one too many.
        """
        self.skipped += 1
        self._cause = ", ".join(broken)
        for player in trainer.turn:
            self._row[player] = self._row.get(player, 0) + 1
        trainer.log("skipped", not_finite=broken, skipped=self.skipped)
        if any(self._row[player] > self.limits.skips for player in trainer.turn):
            raise Diverged(self._told(trainer))

    def check_scale(self, trainer: Trainer, seat: Seat) -> None:
        """With float16: a gradient that is not finite at any scale is no accident of the scale.

        Raises:
            Diverged: the seat's scaler has left out `SCALINGS` steps in a row.
        """
        if seat.unmoved > self.limits.skips:
            self._row[seat.player.name] = seat.unmoved  # by then nothing good is saved
        if seat.unmoved >= SCALINGS:
            self._cause, self._row = f"{seat.player.name}/gradient_norm", {seat.player.name: seat.unmoved}
            raise Diverged(self._told(trainer))

    def is_well(self) -> bool:
        """Whether no player's last step was left out."""
        return not any(self._row.values())

    def check_phase(self, trainer: Trainer) -> None:
        """At a phase's end: none of its players has had nothing but steps that were left out. Then count anew.

        Raises:
            Diverged: one has.
        """
        if any(self._row.get(name) and not seat.steps for name, seat in trainer.seats.items()):
            raise Diverged(self._told(trainer))
        self._row = {}

    def go_back(self, trouble: Diverged) -> bool:
        """Note that the training goes back because of `trouble`; whether the newest checkpoint is no good either.

        Raises:
            Diverged: it went back too often.
        """
        if self.rollbacks == self.limits.rollbacks:
            raise trouble
        hopeless, self._stuck = self._stuck, True
        self.rollbacks += 1
        self.rate *= self.limits.slower
        self._row = {}
        return hopeless

    def state_dict(self) -> dict[str, Any]:
        """What was counted, and the factor on the rates."""
        counts = {"skipped": self.skipped, "rollbacks": self.rollbacks, "row": dict(self._row)}
        return {**counts, "rate": self.rate, "stuck": self._stuck, "cause": self._cause}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take it back."""
        self.skipped, self.rollbacks, self._row = state["skipped"], state["rollbacks"], dict(state["row"])
        self.rate, self._stuck, self._cause = state["rate"], state["stuck"], state["cause"]

    def _told(self, trainer: Trainer) -> str:
        rows = {player: count for player, count in self._row.items() if count}
        player = max(rows, key=lambda name: rows[name])
        back = f", and it had gone back {self.rollbacks} time(s) before" if self.rollbacks else ""
        return (
            f"{self._cause} is no longer finite: {rows[player]} step(s) of the {player} in a row were left out, "
            f"up to step {trainer.step} of {trainer.phase.name!r}{back}. Lower the learning rate, clip the "
            "gradient, or look for a loss that divides by nothing or takes the root or the logarithm of it."
        )
