"""Callbacks: what watches the loop. One of them, the switcher, also passes the turn."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gangen.train.phase import Player
    from gangen.train.trainer import Trainer

EVENTS = (
    "on_fit_start",  # once, before the first phase; the state to resume from is not loaded yet
    "on_phase_start",  # the phase's players are ready and `trainer.turn` is set
    "on_before_update",  # a player's gradient is complete: look at it or change it
    "on_step_end",  # a step is complete: every player whose turn it was has moved once
    "on_log",  # a record was written to log.jsonl
    "on_phase_end",  # the phase's last step is done
    "on_fit_end",  # once, after the last phase
)


class Callback:
    """Watches a training. Override any of the events; each receives the trainer.

    Callbacks are called in the order of the list that the trainer was given. A subclass that defines an
    `on_...` method which is no event raises `TypeError` at once, so that a misspelt hook cannot be ignored.

    A callback that keeps something from step to step returns it from `state_dict` and takes it back in
    `load_state_dict`: tensors, numbers, strings, and lists and dicts of them.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        unknown = [name for name in vars(cls) if name.startswith("on_") and name not in EVENTS]
        if unknown:
            raise TypeError(
                f"{cls.__name__}.{unknown[0]} is no event of the loop. The events are: {', '.join(EVENTS)}."
            )

    def on_fit_start(self, trainer: Trainer) -> None:
        """Before the first phase."""

    def on_phase_start(self, trainer: Trainer) -> None:
        """When a phase begins, and again when a run is resumed inside it."""

    def on_before_update(self, trainer: Trainer, player: Player) -> None:
        """When a player's gradient is complete and clipped, before its optimizer steps."""

    def on_step_end(self, trainer: Trainer) -> None:
        """After each step."""

    def on_log(self, trainer: Trainer, record: dict[str, Any]) -> None:
        """After a record was logged, on every process; only the main process wrote it."""

    def on_phase_end(self, trainer: Trainer) -> None:
        """After the last step of a phase."""

    def on_fit_end(self, trainer: Trainer) -> None:
        """After the last phase."""

    def state_dict(self) -> dict[str, Any]:
        """What must survive an interruption."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""


def call(callbacks: Iterable[Callback], event: str, *arguments: Any) -> None:
    """Call `event` on each callback, in order."""
    for callback in callbacks:
        getattr(callback, event)(*arguments)
