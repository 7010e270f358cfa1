"""What a person sees while it trains: a bar for each phase, and the pace in timing.jsonl."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from gangen.train.callback import Callback

if TYPE_CHECKING:
    from gangen.train.trainer import Trainer


class Progress(Callback):
    """A progress bar with phase, turn, the newest terms and the time left; validations on lines of their own.

    Only the main process draws. Where the output is no terminal, the bar is written every half minute.
    """

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None

    def on_phase_start(self, trainer: Trainer) -> None:
        """A new bar."""
        self._close()
        if trainer.accelerator.is_main_process:
            self._bar = tqdm(
                desc=f"{trainer.phase_index + 1}/{len(trainer.plan.phases)} {trainer.phase.name}",
                total=trainer.phase.steps,
                initial=trainer.step,
                unit="step",
                dynamic_ncols=True,
                mininterval=0.2 if sys.stderr.isatty() else 30.0,
            )

    def on_step_end(self, trainer: Trainer) -> None:
        """One step further."""
        if self._bar is not None:
            self._bar.update()

    def on_log(self, trainer: Trainer, record: dict[str, Any]) -> None:
        """The newest terms, at the bar; validations above it."""
        if self._bar is None:
            return
        numbers = {key: value for key, value in record.items() if isinstance(value, float)}
        if record["event"] == "train":
            terms = " ".join(f"{k} {v:.3g}" for k, v in numbers.items() if not k.endswith(("/lr", "/loss")))
            self._bar.set_postfix_str(f"turn: {'+'.join(trainer.turn)} | {terms}", refresh=False)
        elif record["event"] == "validation":
            values = "  ".join(f"{key} {value:.4g}" for key, value in numbers.items())
            self._bar.write(f"step {trainer.total}: {values}", file=sys.stderr)
        elif record["event"] == "skipped":
            names = ", ".join(record["not_finite"])
            self._bar.write(f"step {trainer.total + 1}: left out, {names} not finite", file=sys.stderr)

    def on_phase_end(self, trainer: Trainer) -> None:
        """The bar is full."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class Timing(Callback):
    """Writes timing.jsonl: seconds in the phase (over all resumed parts), pictures a second, share of waiting.

    Times are kept apart from log.jsonl so that the log of a resumed run equals that of an uninterrupted one.
    """

    def __init__(self) -> None:
        self._seconds = 0.0
        self._mark, self._waited, self._taken = time.perf_counter(), 0.0, 0

    def on_phase_start(self, trainer: Trainer) -> None:
        """Start the clock."""
        self._seconds = 0.0
        self._look(trainer)

    def on_log(self, trainer: Trainer, record: dict[str, Any]) -> None:
        """Read the clock with each record of training."""
        if record["event"] != "train":
            return
        mark, waited, taken = self._mark, self._waited, self._taken
        self._look(trainer)
        passed = max(self._mark - mark, 1e-9)
        self._seconds += passed
        trainer.timing.write(
            {
                "phase": record["phase"],
                "step": record["step"],
                "total": record["total"],
                "seconds": round(self._seconds, 3),
                "pictures_per_second": round((self._taken - taken) / passed, 3),
                "waiting": round((self._waited - waited) / passed, 4),
            }
        )

    def _look(self, trainer: Trainer) -> None:
        self._mark = time.perf_counter()
        self._waited, self._taken = trainer.feed.waited, trainer.feed.taken

    def state_dict(self) -> dict[str, Any]:
        """Seconds so far."""
        return {"seconds": self._seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on counting from there."""
        self._seconds = state["seconds"]
