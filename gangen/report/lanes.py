"""Who learned when: for every player the stretches of steps in which it had the turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gangen.report.curves import rounded
from gangen.report.history import History, PhaseRecord

SPANS = 1500
"""More stretches than this are drawn as shares of equal stretches."""


@dataclass(frozen=True)
class Span:
    """From the total step `start` to `end` the `players` learned."""

    start: int
    end: int
    players: list[str]


def spans_of(history: History, phase: PhaseRecord) -> list[Span]:
    """Cut a phase into the stretches between its turns."""
    spans, start, now = [], phase.start, phase.turn or phase.players
    for turn in history.turns:
        if phase.start <= turn.total < phase.end:
            if turn.total > start:
                spans.append(Span(start, turn.total, now))
            start, now = turn.total, turn.to
    return [*spans, Span(start, phase.end, now)] if phase.end > start else spans


def shares_of(history: History, phase: PhaseRecord) -> dict[str, float]:
    """Return which share of a phase's steps each of its players learned in, from 0 to 1."""
    shares = dict.fromkeys(phase.players, 0.0)
    for span in spans_of(history, phase):
        for player in span.players:
            shares[player] = shares.get(player, 0.0) + (span.end - span.start) / phase.steps
    return shares


def lanes(history: History) -> list[dict[str, Any]]:
    """Return for each player `{"name": ..., "spans": [[start, end, share], ...]}` for the page to draw.

    A share is 1 where each turn is drawn by itself, and less where very many turns are drawn as shares of
    equal stretches.
    """
    spans = [span for phase in history.phases for span in spans_of(history, phase)]
    stretch = history.total / SPANS if len(spans) > SPANS else None
    drawn = []
    for player in history.players:
        own = [(span.start, span.end) for span in spans if player in span.players]
        exact = [[float(start), float(end), 1.0] for start, end in own]
        drawn.append({"name": player, "spans": exact if stretch is None else _shared(own, stretch)})
    return drawn


def _shared(spans: list[tuple[int, int]], stretch: float) -> list[list[float]]:
    """Replace spans by how much of each stretch they fill."""
    filled: dict[int, float] = {}
    for start, end in spans:
        position = float(start)
        while position < end:
            index = int(position / stretch + 1e-9)
            until = min(float(end), (index + 1) * stretch)
            filled[index] = filled.get(index, 0.0) + (until - position) / stretch
            position = until
    return [
        [rounded(k * stretch), rounded((k + 1) * stretch), rounded(min(1.0, share))]
        for k, share in sorted(filled.items())
    ]
