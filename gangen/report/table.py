"""Tables for a terminal; that of the phases: how long each was, and what the last validation in it measured."""

from __future__ import annotations

from pathlib import Path

from gangen.report.history import History, read_history


def phase_table(run: str | Path) -> str:
    """Return the phases of a run as a table for a terminal: steps, time and each phase's last validation.

    Above them stands the baseline, where one was measured.

    Raises:
        RunError: the folder holds no log.
    """
    return text_table(*phase_rows(read_history(Path(run))))


def text_table(heads: list[str], rows: list[list[str]]) -> str:
    """Align texts in columns for a terminal: the first to the left, the others (numbers) to the right."""
    lines = [heads, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    texts = []
    for name, *numbers in lines:
        aligned = [number.rjust(width) for number, width in zip(numbers, widths[1:], strict=True)]
        texts.append("  ".join([name.ljust(widths[0]), *aligned]))
    return "\n".join(texts)


def phase_rows(history: History) -> tuple[list[str], list[list[str]]]:
    """Return the heads of the columns, and for each phase its name and its numbers as texts.

    Where a baseline was measured it is one more row, before the phases.
    """
    metrics = [name for name in history.metrics if any(name in phase.validation for phase in history.phases)]
    rows = []
    if history.baseline and metrics:
        rows.append(["baseline", "–", "–", *(number(history.baseline.get(name)) for name in metrics)])
    for phase in history.phases:
        steps = f"{phase.steps:,}" + (f" of {phase.planned:,}" if phase.planned > phase.steps else "")
        measured = [number(phase.validation.get(name)) for name in metrics]
        rows.append([phase.name, steps, duration(phase.seconds), *measured])
    return ["Phase", "Steps", "Time", *metrics], rows


def number(value: float | None) -> str:
    """Write a number with about four digits."""
    if value is None:
        return "–"
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return text.replace("-", "−")


def duration(seconds: float) -> str:
    """Write seconds in the units of a clock."""
    if not seconds:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours} h {minute:02} min" if hours else f"{minute} min {second:02} s"
