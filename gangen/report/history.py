"""What the log of a run tells: phases, curves, turns, validations and samples, however far training has come."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gangen.errors import RunError
from gangen.report.curves import Curve


@dataclass
class PhaseRecord:
    """One phase as far as it has come; `start` counts the steps of all phases before it."""

    name: str
    start: int
    planned: int
    players: list[str]
    turn: list[str] | None = None
    steps: int = 0
    seconds: float = 0.0
    validation: dict[str, float] = field(default_factory=dict)

    @property
    def end(self) -> int:
        """Total step at which the phase ends, or has come to so far."""
        return self.start + self.steps


@dataclass(frozen=True)
class Turn:
    """The turn passes to the players `to` after the total step `total`."""

    total: int
    to: list[str]
    reason: str


@dataclass(frozen=True)
class Sample:
    """A grid of pictures, and of the ways between some of them where there are such; paths relative to the run."""

    total: int
    step: int
    phase: str
    file: str
    between: str | None = None


@dataclass
class History:
    """A training as its log tells it.

    `terms` are keyed "player/term", `metrics`, `health`, `baseline` and `timing` by bare names. `state` is
    "training", "interrupted" or "finished". `damaged` counts lines that are no JSON (a half-written last one is
    none); `skipped` steps that were left out because a number was not finite, and `rollbacks` how often it went
    back because of `trouble`; `diagnoses` after which total step something was wrong with the game, and what.
    """

    phases: list[PhaseRecord] = field(default_factory=list)
    terms: dict[str, Curve] = field(default_factory=lambda: defaultdict(Curve))
    metrics: dict[str, Curve] = field(default_factory=lambda: defaultdict(Curve))
    timing: dict[str, Curve] = field(default_factory=lambda: defaultdict(Curve))
    baseline: dict[str, float] = field(default_factory=dict)
    turns: list[Turn] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    figures: dict[str, str] = field(default_factory=dict)
    health: dict[str, Curve] = field(default_factory=lambda: defaultdict(Curve))
    diagnoses: list[tuple[int, str]] = field(default_factory=list)
    skipped: int = 0
    rollbacks: int = 0
    trouble: str = ""
    best: int | None = None
    state: str = "training"
    total: int = 0
    damaged: int = 0

    @property
    def players(self) -> list[str]:
        """All players in the order in which they enter."""
        return list(dict.fromkeys(player for phase in self.phases for player in phase.players))

    @property
    def seconds(self) -> float:
        """Seconds of training over all phases."""
        return sum(phase.seconds for phase in self.phases)

    def phase_at(self, total: int) -> PhaseRecord | None:
        """Return the phase in which the total step `total` was completed, or the first one at 0."""
        begun = [phase for phase in self.phases if phase.start < total]
        return begun[-1] if begun else next(iter(self.phases), None)


def read_history(run: Path) -> History:
    """Read RUN/log.jsonl and RUN/timing.jsonl, which may still be growing.

    Where a resumed training tells steps a second time, the second telling counts.

    Raises:
        RunError: there is no log in the folder.
    """
    log = run / "log.jsonl"
    if not log.is_file():
        raise RunError(
            f"{run} has no log.jsonl, so there is nothing to report. Expected the run folder of a training: "
            "the one that its recipe was given as --out."
        )
    history = History()
    for line in _json_lines(log, history):
        match line.get("event"):
            case "phase":
                _begin_phase(history, line)
            case "train":
                _add_training(history, line)
            case "turn":
                history.turns.append(Turn(_total(line), _names(line.get("to")), str(line.get("reason", ""))))
            case "validation":
                _add_validation(history, line)
            case "baseline":
                history.baseline = {name: value for name, value in _measured(line).items() if value is not None}
            case "samples":
                _add_sample(history, line)
            case "between":
                _add_between(history, line)
            case "skipped":
                history.skipped = max(history.skipped, _whole(line.get("skipped")))
            case "health":
                _add_health(history, line)
            case "diagnosis":
                history.diagnoses.append((_total(line), str(line.get("text", ""))))
            case "rollback":
                history.rollbacks = max(history.rollbacks, _whole(line.get("rollbacks")))
                history.skipped = max(history.skipped, _whole(line.get("skipped")))
                history.trouble = str(line.get("reason", ""))
            case "figure":
                history.figures[str(line.get("title", "?"))] = str(line.get("file", ""))
            case "interrupted" | "end" as event:
                _advance(history, _total(line))
                history.state = "finished" if event == "end" else event
    if (run / "timing.jsonl").is_file():
        for line in _json_lines(run / "timing.jsonl", history):
            _add_timing(history, line)
    return history


def _json_lines(path: Path, history: History) -> Iterator[dict[str, Any]]:
    """Yield the objects in a file of JSON lines; the last line may be half-written."""
    with path.open("rb") as lines:
        for line in lines:
            try:
                value = json.loads(line)
            except ValueError:
                history.damaged += line.endswith(b"\n")
                continue
            if isinstance(value, dict):
                yield value


def _begin_phase(history: History, line: dict[str, Any]) -> None:
    history.state = "training"
    start = _total(line) - _whole(line.get("step"))
    name = str(line.get("phase", "?"))
    if any(phase.name == name and phase.start == start for phase in history.phases):
        return  # a resumed training announces its phase again
    for curve in history.terms.values():
        curve.add(start, None)  # what is minimised changes here, so no line shall join the two sides
    turn = _names(line.get("turn")) or None
    _advance(history, start)
    planned, players = _whole(line.get("steps")), _names(line.get("players"))
    history.phases.append(PhaseRecord(name, start, planned, players, turn))


def _add_training(history: History, line: dict[str, Any]) -> None:
    total = _total(line)
    if total <= history.total:
        _rewind(history, total)
    history.state = "training"
    _advance(history, total)
    if history.phases and history.phases[-1].turn is None:
        phase = history.phases[-1]
        phase.turn = _first_turn(history, phase, _names(line.get("turn")))
    for name, value in line.items():
        if "/" in name and _is_number(value):
            history.terms[name].add(total, value)


def _advance(history: History, total: int) -> None:
    history.total = total
    if history.phases:
        history.phases[-1].steps = max(0, total - history.phases[-1].start)


def _first_turn(history: History, phase: PhaseRecord, now: list[str]) -> list[str]:
    """Tell who had the turn when the phase began, from the first training line and the turns before it."""
    passed = [turn for turn in history.turns if turn.total >= phase.start]
    if not passed:
        return now or phase.players
    return [player for player in phase.players if player not in passed[0].to] or phase.players


def _rewind(history: History, total: int) -> None:
    for curve in [*history.terms.values(), *history.metrics.values(), *history.health.values()]:
        curve.rewind(total)
    history.turns = [turn for turn in history.turns if turn.total < total]
    history.diagnoses = [(at, text) for at, text in history.diagnoses if at < total]
    history.samples = [sample for sample in history.samples if sample.total < total]
    kept = [phase for phase in history.phases if phase.start < total]
    history.phases = kept or history.phases[:1]


def _add_validation(history: History, line: dict[str, Any]) -> None:
    total = _total(line)
    values = _measured(line)
    for name, value in values.items():
        history.metrics[name].rewind(total)
        history.metrics[name].add(total, value)
    if line.get("best") is True:
        history.best = total
    phase = next((phase for phase in reversed(history.phases) if phase.name == line.get("phase")), None)
    if phase is not None:
        phase.validation = {name: value for name, value in values.items() if value is not None}


def _add_health(history: History, line: dict[str, Any]) -> None:
    for name, value in _measured(line).items():
        history.health[name].rewind(_total(line))
        history.health[name].add(_total(line), value)


def _measured(line: dict[str, Any]) -> dict[str, float | None]:
    known = {"event", "phase", "step", "total", "best"}
    return {name: value for name, value in line.items() if name not in known and _is_number(value)}


def _add_sample(history: History, line: dict[str, Any]) -> None:
    sample = Sample(_total(line), _whole(line.get("step")), str(line.get("phase", "?")), str(line.get("file", "")))
    history.samples = [known for known in history.samples if known.file != sample.file] + [sample]


def _add_between(history: History, line: dict[str, Any]) -> None:
    """Put the ways beside the grid of the same step, which is told first."""
    if history.samples and history.samples[-1].total == _total(line):
        history.samples[-1] = replace(history.samples[-1], between=str(line.get("file", "")))


def _add_timing(history: History, line: dict[str, Any]) -> None:
    total = _total(line)
    for name in ("pictures_per_second", "waiting"):
        if _is_number(line.get(name)):
            if history.timing[name].steps and history.timing[name].steps[-1] >= total:
                history.timing[name].rewind(total)
            history.timing[name].add(total, line[name])
    seconds = line.get("seconds")
    for phase in history.phases:
        if phase.name == line.get("phase") and isinstance(seconds, (int, float)):
            phase.seconds = float(seconds)


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _total(line: dict[str, Any]) -> int:
    return _whole(line.get("total"))


def _whole(value: Any) -> int:
    return int(value) if isinstance(value, (int, float)) and value == value else 0


def _names(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [str(name) for name in value] if isinstance(value, list) else []
