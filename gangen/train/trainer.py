"""The loop.

for each phase:
    on_phase_start
    for each step:
        whoever has the turn: loss, gradient, on_before_update, optimizer step, moving average
        on_step_end                                   (the switcher may pass the turn)
        log, save a checkpoint, stop if asked to      (when due)
    on_phase_end
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer
from torch.utils.data import Dataset

from gangen.errors import RunError
from gangen.files import clear_temporary
from gangen.train import checkpoint
from gangen.train.callback import Callback, call
from gangen.train.claims import claimed
from gangen.train.compiled import Backend
from gangen.train.ema import Average
from gangen.train.feed import Feed
from gangen.train.guard import Diverged, Guard, NonFinite
from gangen.train.interrupt import Interrupted, Interruption
from gangen.train.journal import Journal, Meters
from gangen.train.launch import set_seed
from gangen.train.phase import Phase
from gangen.train.plan import Plan
from gangen.train.progress import Progress, Timing
from gangen.train.seats import Seat, share
from gangen.train.streaming import Position
from gangen.train.switcher import Switcher
from gangen.train.turn import Terms, take_turn


class Trainer:
    """Plays phases.

    Args:
        run: folder for log, checkpoints and whatever the callbacks write; None to write nothing.
        data: map-style data set, or `Stream`, of all phases that bring none of their own.
        batch_size: samples a batch and process.
        seed: of everything random from `fit` on; networks were made before, so seed them with `set_seed`.
        workers: processes that read data; 0 reads in the main process. The samples do not depend on it.
        callbacks: called in this order, after the phase's switcher and before the progress bar.
        accelerator: devices, processes and precision; None for accelerate's defaults.
        log_every: steps between log records; there is one at each phase's end besides.
        save_every: steps between checkpoints; 0 saves at the phases' ends only.
        keep: checkpoints that stay.
        non_finite: what happens when a loss is infinite or no number.
        compile: "inductor", or another backend of `torch.compile`, to compile each network; None not to. A loss
            may hold a slope of the player's own network at its input, but no other: what is compiled has none of
            second order.

    Attributes:
        phase, phase_index, step, total: where it is. `step` counts the phase's completed steps, `total` all.
        turn, held: names of those who learn now, and how many steps they have had in this turn.
        plan, seats, feed: the phases as a whole; the players at work and the stream of batches of this phase.
        averages: moving averages by player's name.
        guard: counts steps that were left out because a loss was not finite.
    """

    def __init__(
        self,
        run: str | Path | None = None,
        data: Dataset[Any] | None = None,
        *,
        batch_size: int = 16,
        seed: int = 0,
        workers: int = 0,
        callbacks: Sequence[Callback] = (),
        accelerator: Accelerator | None = None,
        log_every: int = 20,
        save_every: int = 500,
        keep: int = 2,
        non_finite: NonFinite = NonFinite(),  # noqa: B008 (it cannot be changed)
        compile: Backend | None = None,
    ) -> None:
        self.accelerator = accelerator or Accelerator()
        self.run = Path(run) if run is not None else None
        self.data, self.batch_size, self.seed, self.workers = data, batch_size, seed, workers
        self.callbacks = [*callbacks, Timing(), Progress()]
        self.log_every, self.save_every, self.non_finite = log_every, save_every, non_finite
        self.compile = compile
        self.guard = Guard(non_finite)
        self.checkpoints = checkpoint.Checkpoints(self.run / "checkpoints", keep) if self.run else None
        writes = self.run if self.run and self.accelerator.is_main_process else None
        if writes:
            writes.mkdir(parents=True, exist_ok=True)
        self.journal = Journal(writes / "log.jsonl" if writes else None)
        self.timing = Journal(writes / "timing.jsonl" if writes else None)
        self.meters = Meters()
        self.phase_index = self.step = self.total = self.held = 0
        self.turn: tuple[str, ...] = ()
        self.seats: dict[str, Seat] = {}
        self.averages: dict[str, Average] = {}
        self.optimizers: dict[str, Optimizer] = {}
        self.saved_optimizers: dict[str, Any] = {}
        self.scalers: dict[str, GradScaler] = {}
        self.positions: list[int | Position] = []
        self.plan: Plan
        self.feed: Feed
        self._terms: Terms = {}

    @property
    def phase(self) -> Phase:
        """The phase at hand."""
        return self.plan.phases[self.phase_index]

    @property
    def switcher(self) -> Switcher | None:
        """Who passes the turn in this phase."""
        return self.phase.switcher if self.phase_index < len(self.plan.phases) else None

    def fit(self, phases: Sequence[Phase], resume: bool = False, allow_changes: bool = False) -> int:
        """Play `phases`; with `resume`, from the newest checkpoint of the run folder if it has one.

        Resumed by the same number of processes it goes on to the same bits. By another one, weights, optimizers,
        averages and the order of the samples are as they were, while the size of the batch over all processes, and
        what each process draws from its own random generators, are not; that is said.

        Args:
            phases: what is played.
            resume: go on, rather than refuse a folder that holds a training.
            allow_changes: go on in phases of other lengths, or with another seed, batch size or number of samples,
                too; the players' rates and losses are never looked at.

        Returns:
            How many steps were played now: 0 where there was nothing left to do.

        Raises:
            Interrupted: SIGINT, SIGTERM or SIGUSR1 came; the state is saved and `fit(..., resume=True)` goes on.
            UserError: data, disk or checkpoint are at fault.
        """
        self.plan = Plan(phases, self.data)
        self.phase_index = self.step = self.total = self.held = 0
        self.positions = [0] * len(self.plan.sources)
        self.optimizers, self.saved_optimizers, self.averages = {}, {}, {}
        self.guard, self.meters = Guard(self.non_finite), Meters()
        half = self.accelerator.mixed_precision == "fp16"
        self.scalers = {name: GradScaler(self.accelerator.device.type) for name in self.plan.networks if half}
        for network in self.plan.networks.values():
            share(network.to(self.accelerator.device), self.accelerator)
        for player in self.plan.players():
            if player.ema and player.name not in self.averages:
                self.averages[player.name] = Average(player.network)
        set_seed(self.seed, self.accelerator.process_index)
        with claimed(self.run, self.accelerator, resume=resume):
            state = self._found(resume, allow_changes)  # refuses before a callback writes
            call([*self.plan.switchers(), *self.callbacks], "on_fit_start", self)
            self._open(state)
            begun = self.total
            with Interruption() as self._interruption:
                self._play_all(state)
        call([*self.plan.switchers(), *self.callbacks], "on_fit_end", self)
        return self.total - begun

    def _play_all(self, state: dict[str, Any] | None) -> None:
        """Play the phases from the one at hand on, which goes on from `state`."""
        while self.phase_index < len(self.plan.phases):
            try:
                self._play(state)
            except Diverged as trouble:
                state = self._go_back(trouble)
                continue
            self.phase_index, self.step, state = self.phase_index + 1, 0, None
            self.turn, self.held = (), 0
            if self.phase_index == len(self.plan.phases):
                self.journal.write({"event": "end", "total": self.total})
            self.save()

    def _found(self, resume: bool, allow_changes: bool) -> dict[str, Any] | None:
        """The state to go on from, of this very training; None where none was begun."""
        if self.run is None or self.checkpoints is None:
            return None
        if resume and self.accelerator.is_main_process:
            clear_temporary(self.run)
        state = checkpoint.newest(self) if resume else None
        if state:
            checkpoint.check_fits(self, state, allow_changes)
        elif self.checkpoints.files():
            raise RunError(
                f"{self.run} already holds a training. Go on by fit(..., resume=True), or name another folder."
            )
        return state

    def _open(self, state: dict[str, Any] | None) -> None:
        """Put the state back where it does not depend on a phase; without one, start clean."""
        if state:
            checkpoint.restore(self, state)
            self.guard.load_state_dict(state["guard"])
        elif self.run is not None:
            self.journal.rewind(0)
            self.timing.rewind(0)

    def _go_back(self, trouble: Diverged) -> dict[str, Any]:
        """The last good checkpoint, from which it goes on at lower rates; or the trouble, where there is none."""
        if self.checkpoints is None:
            raise trouble
        if self.guard.go_back(trouble) and self.accelerator.is_main_process:
            self.checkpoints.discard_newest()
        self.accelerator.wait_for_everyone()
        state = checkpoint.newest(self)
        if state is None:
            raise trouble
        self.optimizers = {}
        checkpoint.restore(self, state)
        counts = {"rollbacks": self.guard.rollbacks, "skipped": self.guard.skipped}
        self.log("rollback", reason=str(trouble), rate=self.guard.rate, **counts)
        return state

    def _play(self, state: dict[str, Any] | None) -> None:
        """Play the phase at hand, from where `state` left it."""
        if state and self.step == 0:
            checkpoint.restore_local(self, state)
        try:
            self._begin()
            if state and self.step > 0:
                checkpoint.restore_local(self, state)
            if state:
                state.clear()  # its weights and optimizers would stay in memory beside those that learn
            source = self.plan.source_of(self.phase)
            while self.step < self.phase.steps:
                self._terms = take_turn(self)
                self.step, self.total, self.held = self.step + 1, self.total + 1, self.held + 1
                self.positions[source] = self.feed.position
                call(self.watchers(), "on_step_end", self)
                if self.is_due(self.log_every):
                    self._log_terms()
                if self.save_every and self.step % self.save_every == 0 and self.guard.is_well():
                    self.save()
                self._stop_if_asked()
            self.guard.check_phase(self)
            call(self.watchers(), "on_phase_end", self)
        finally:
            self._end()

    def _begin(self) -> None:
        """Seat the players, open the data, and give out the first turn."""
        phase, accelerator = self.phase, self.accelerator
        self._forget_optimizers()
        self.turn = phase.switcher.first(tuple(p.name for p in phase.players)) if phase.switcher else ()
        self.turn, self.held = self.turn or (phase.players[0].name,), 0
        for player in phase.players:
            key = self.plan.key(player)
            scaler = self.scalers.get(player.name)
            seat = Seat(player, accelerator, self.optimizers.get(key), scaler, self.compile)
            self.seats[player.name], self.optimizers[key] = seat, seat.optimizer
            if key in self.saved_optimizers:
                seat.take_back(self.saved_optimizers.pop(key))
        self.feed = Feed(
            self.plan.data_of(phase),
            phase.batch_size or self.batch_size,
            seed=self.seed,
            start=self.positions[self.plan.source_of(phase)],
            workers=self.workers,
            rank=accelerator.process_index,
            world=accelerator.num_processes,
            device=accelerator.device,
        )
        if self.step == 0:
            self.log("phase", index=self.phase_index, steps=phase.steps, players=list(self.seats))
        call(self.watchers(), "on_phase_start", self)

    def pass_turn(self, to: tuple[str, ...], reason: str) -> None:
        """Give the turn to the players named `to`, from the next step on. The log keeps the reason."""
        unknown = [name for name in to if name not in self.seats]
        if unknown or not to:
            raise ValueError(f"cannot pass the turn to {to}: the players are {', '.join(self.seats)}")
        for name in self.turn:
            self.seats[name].rest()
        self.turn, self.held = tuple(to), 0
        self.log("turn", to=list(to), reason=reason)

    def last_loss(self, name: str, term: str | None = None) -> float:
        """A player's loss in the step just done, or one term of it, averaged over batches and processes."""
        batches = self._terms[name]
        if term is not None and term not in batches[0]:
            raise KeyError(f"{name}'s loss has no term {term!r}; it has: {', '.join(batches[0])}")
        values = [torch.stack([v for k, v in b.items() if term in (None, k)]).sum() for b in batches]
        return float(self.accelerator.reduce(torch.stack(values).mean(), "mean"))

    def log(self, event: str, **values: Any) -> dict[str, Any]:
        """Write one record to log.jsonl and show it to the callbacks."""
        where = {"phase": self.phase.name, "step": self.step, "total": self.total}
        record = {"event": event, **where, **values}
        self.journal.write(record)
        call(self.watchers(), "on_log", self, record)
        return record

    def is_due(self, every: int) -> bool:
        """Whether something that happens every so many steps, and at the phase's end, happens now."""
        return self.step == self.phase.steps or (every > 0 and self.step % every == 0)

    def has_learned(self, name: str) -> bool:
        """Whether the player has completed a step in this phase."""
        return name in self.seats and self.seats[name].steps > 0

    def save(self) -> None:
        """Save a checkpoint."""
        if self.checkpoints:
            state = checkpoint.snapshot(self)
            if self.accelerator.is_main_process:
                self.checkpoints.save(state, self.total)
            self.accelerator.wait_for_everyone()

    def _log_terms(self) -> None:
        means = self.meters.read(self.accelerator)
        record: dict[str, Any] = {"turn": list(self.turn), **means}
        for name, seat in self.seats.items():
            terms = [v for k, v in means.items() if k.startswith(f"{name}/") and k != f"{name}/gradient_norm"]
            if terms:
                record |= {f"{name}/loss": sum(terms), f"{name}/lr": seat.optimizer.param_groups[-1]["lr"]}
        self.log("train", **record)

    def _stop_if_asked(self) -> None:
        number = self._interruption.agreed(self.accelerator, self.total)
        if number:
            self.save()
            raise Interrupted(128 + number)

    def _forget_optimizers(self) -> None:
        """Drop the optimizers of players that play neither in this phase nor later."""
        playing = [player for phase in self.plan.phases[self.phase_index :] for player in phase.players]
        keys = {self.plan.key(player) for player in playing}
        self.optimizers = {k: v for k, v in self.optimizers.items() if k in keys}
        self.saved_optimizers = {k: v for k, v in self.saved_optimizers.items() if k in keys}

    def _end(self) -> None:
        """Give the networks back and close the data."""
        for seat in self.seats.values():
            seat.leave()
        self.seats = {}
        if hasattr(self, "feed"):  # not where the very first could not be opened
            self.feed.close()

    def watchers(self) -> list[Callback]:
        """Who is told of events, in this order."""
        return [*([self.switcher] if self.switcher else []), *self.callbacks]
