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

import math
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import Dataset

from gangen.errors import RunError
from gangen.train import checkpoint
from gangen.train.callback import Callback, call
from gangen.train.ema import Average
from gangen.train.feed import Feed
from gangen.train.interrupt import Interrupted, Interruption
from gangen.train.journal import Journal, Meters
from gangen.train.launch import set_seed
from gangen.train.phase import Phase, Player
from gangen.train.plan import Plan
from gangen.train.progress import Progress, Timing
from gangen.train.seats import Nets, Seat, Shared, share
from gangen.train.switcher import Switcher

_AGREE_EVERY = 5
"""Steps between two looks of several processes at whether one was asked to stop."""


class Trainer:
    """Plays phases.

    Args:
        run: folder for log, checkpoints and whatever the callbacks write; None to write nothing.
        data: map-style data set of all phases that bring none of their own.
        batch_size: samples a batch and process.
        seed: of everything random from `fit` on; networks were made before, so seed them with `set_seed`.
        workers: processes that read data; 0 reads in the main process. The samples do not depend on it.
        callbacks: called in this order, after the phase's switcher and before the progress bar.
        accelerator: devices, processes and precision; None for accelerate's defaults.
        log_every: steps between log records; there is one at each phase's end besides.
        save_every: steps between checkpoints; 0 saves at the phases' ends only.
        keep: checkpoints that stay.

    Attributes:
        phase, phase_index, step, total: where it is. `step` counts the phase's completed steps, `total` all.
        turn, held: names of those who learn now, and how many steps they have had in this turn.
        plan, seats, feed: the phases as a whole; the players at work and the stream of batches of this phase.
        averages: moving averages by player's name.
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
    ) -> None:
        self.accelerator = accelerator or Accelerator()
        self.run = Path(run) if run is not None else None
        self.data, self.batch_size, self.seed, self.workers = data, batch_size, seed, workers
        self.callbacks = [*callbacks, Timing(), Progress()]
        self.log_every, self.save_every = log_every, save_every
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
        self.positions: list[int] = []
        self.plan: Plan
        self.feed: Feed
        self._terms: dict[str, list[dict[str, torch.Tensor]]] = {}

    @property
    def phase(self) -> Phase:
        """The phase at hand."""
        return self.plan.phases[self.phase_index]

    @property
    def switcher(self) -> Switcher | None:
        """Who passes the turn in this phase."""
        return self.phase.switcher if self.phase_index < len(self.plan.phases) else None

    def fit(self, phases: Sequence[Phase], resume: bool = False) -> None:
        """Play `phases`; with `resume`, from the newest checkpoint of the run folder if it has one.

        Raises:
            Interrupted: SIGINT or SIGTERM came; the state is saved and `fit(..., resume=True)` goes on.
            UserError: data, disk or checkpoint are at fault.
        """
        self.plan = Plan(phases, self.data)
        self.phase_index = self.step = self.total = self.held = 0
        self.positions = [0] * len(self.plan.sources)
        self.optimizers, self.saved_optimizers, self.averages = {}, {}, {}
        for network in self.plan.networks.values():
            share(network.to(self.accelerator.device), self.accelerator)
        for player in self.plan.players():
            if player.ema and player.name not in self.averages:
                self.averages[player.name] = Average(player.network)
        set_seed(self.seed, self.accelerator.process_index)
        call(self.callbacks, "on_fit_start", self)
        state = self._open(resume)
        with Interruption() as self._interruption:
            while self.phase_index < len(self.plan.phases):
                self._play(state)
                self.phase_index, self.step, state = self.phase_index + 1, 0, None
                self.turn, self.held = (), 0
                if self.phase_index == len(self.plan.phases):
                    self.journal.write({"event": "end", "total": self.total})
                self.save()
        call(self.callbacks, "on_fit_end", self)

    def _open(self, resume: bool) -> dict[str, Any] | None:
        """The state to go on from, put back where it does not depend on a phase; or a clean start."""
        if self.checkpoints is None:
            return None
        state = self.checkpoints.load() if resume else None
        if state:
            checkpoint.restore(self, state)
        elif self.checkpoints.files():
            raise RunError(
                f"{self.run} already holds a training. Go on by fit(..., resume=True), or name another folder."
            )
        else:
            self.journal.rewind(0)
            self.timing.rewind(0)
        return state

    def _play(self, state: dict[str, Any] | None) -> None:
        """Play the phase at hand, from where `state` left it."""
        if state and self.step == 0:
            checkpoint.restore_local(self, state)
        self._begin()
        try:
            if state and self.step > 0:
                checkpoint.restore_local(self, state)
            source = self.plan.source_of(self.phase)
            while self.step < self.phase.steps:
                self._take_turn()
                self.step, self.total, self.held = self.step + 1, self.total + 1, self.held + 1
                self.positions[source] = self.feed.position
                call(self._watchers(), "on_step_end", self)
                if self.is_due(self.log_every):
                    self._log_terms()
                if self.save_every and self.step % self.save_every == 0:
                    self.save()
                self._stop_if_asked()
            call(self._watchers(), "on_phase_end", self)
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
            seat = Seat(player, accelerator, self.optimizers.get(key))
            if key in self.saved_optimizers:
                seat.optimizer.load_state_dict(self.saved_optimizers.pop(key))
            self.seats[player.name], self.optimizers[key] = seat, seat.optimizer
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
        call(self._watchers(), "on_phase_start", self)

    def _take_turn(self) -> None:
        """One step: everyone whose turn it is learns from the same batches and moves once."""
        turn = [self.seats[name] for name in self.turn]
        counts = {seat.player.accumulate for seat in turn}
        if len(counts) > 1:
            raise ValueError(f"{self.turn} learn from the same batches: their `accumulate` must be equal")
        batches = counts.pop()
        self._terms = {name: [] for name in self.turn}
        for number in range(batches):
            batch, shared = next(self.feed), Shared()
            with ExitStack() as stack:
                for seat in turn if number < batches - 1 else ():
                    stack.enter_context(seat.without_reduction())
                for seat in turn:
                    seat.learn()
                    with self.accelerator.autocast():
                        given = seat.player.loss(Nets(self.seats, seat, turn, shared), batch)
                        terms = {name: _scalar(seat.player, name, value) for name, value in given.items()}
                    (torch.stack(list(terms.values())).sum() / batches).backward()
                    self._terms[seat.player.name].append({k: v.detach() for k, v in terms.items()})
                    if len(turn) > 1:
                        seat.rest()
        for seat in turn:
            self._update(seat)

    def _update(self, seat: Seat) -> None:
        """Let one player move, and its average follow."""
        player = seat.player
        for terms in self._terms[player.name]:
            for term, value in terms.items():
                self.meters.add(f"{player.name}/{term}", value)
        if player.clip is not None:
            norm = nn.utils.clip_grad_norm_(seat.parameters, player.clip)
            self.meters.add(f"{player.name}/gradient_norm", norm)
        call(self._watchers(), "on_before_update", self, player)
        seat.update(self.step / self.phase.steps)
        seat.average_buffers(self.accelerator)
        if player.name in self.averages:
            # A player without a moving average of its own leaves its latest weights there (a decay of 0).
            self.averages[player.name].update(seat.network, player.ema)

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
        call(self._watchers(), "on_log", self, record)
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
        broken = [name for name, value in means.items() if not math.isfinite(value)]
        record: dict[str, Any] = {"turn": list(self.turn), **means}
        for name, seat in self.seats.items():
            terms = [v for k, v in means.items() if k.startswith(f"{name}/") and k != f"{name}/gradient_norm"]
            if terms:
                record |= {f"{name}/loss": sum(terms), f"{name}/lr": seat.optimizer.param_groups[-1]["lr"]}
        self.log("train", **record)
        if broken:
            raise RunError(
                f"{', '.join(broken)} is no longer finite at step {self.step} of {self.phase.name!r}. Lower the "
                "learning rate or clip the gradient; a checkpoint saved since the last record may be broken too."
            )

    def _stop_if_asked(self) -> None:
        # Agreeing costs several processes a synchronisation, so they do it now and then.
        if self.accelerator.num_processes > 1 and not self.is_due(_AGREE_EVERY):
            return
        number = self._interruption.agreed(self.accelerator)
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
        self.feed.close()

    def _watchers(self) -> list[Callback]:
        return [*([self.switcher] if self.switcher else []), *self.callbacks]


def _scalar(player: Player, term: str, value: Any) -> torch.Tensor:
    if not isinstance(value, torch.Tensor) or value.numel() != 1:
        shape = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        raise TypeError(f"{player.name}'s loss term {term!r} must be a tensor with one number, not {shape}")
    return value.reshape(()).float()
