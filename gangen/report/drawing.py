"""What the page's script draws: the curves in their plots, with the phases and the turns."""

from __future__ import annotations

from typing import Any

from gangen.report.curves import Curve
from gangen.report.history import History
from gangen.report.lanes import lanes


def drawn_by_script(history: History) -> dict[str, Any]:
    """Return what page.js reads: the last step, the phases, the lanes, and plots of curves in titled groups."""
    groups = {
        "Validation": _metric_plots(history),
        "Losses and their terms": _term_plots(history),
        "Learning": [
            _plot("learning rate", _of_players(history, "lr")),
            _plot("gradient norm", _of_players(history, "gradient_norm")),
        ],
        "Health of the game": [_plot(name.replace("_", " "), {name: c}) for name, c in history.health.items()],
        "Speed": [
            _plot("pictures per second", {"training": history.timing.get("pictures_per_second")}),
            _plot("share of the time spent waiting for data", {"waiting": history.timing.get("waiting")}),
        ],
    }
    kept = {title: [plot for plot in plots if plot["curves"]] for title, plots in groups.items()}
    return {
        "total": history.total,
        "best": history.best,
        "phases": [{"name": phase.name, "start": phase.start, "end": phase.end} for phase in history.phases],
        "lanes": lanes(history),
        "groups": [{"title": title, "plots": plots} for title, plots in kept.items() if plots],
    }


def _plot(title: str, curves: dict[str, Curve | None]) -> dict[str, Any]:
    """Describe a plot; curves without a single number are left out."""
    drawn = []
    for index, (name, curve) in enumerate(curves.items()):
        if curve is not None and curve.last() is not None:
            dashed = name.endswith("_target") or name == "baseline"
            tone = (6 if name == "baseline" else 7) if dashed else index % 8
            drawn.append({"name": name, "tone": tone, "dashed": dashed} | curve.drawn())
    return {"title": title, "curves": drawn}


def _metric_plots(history: History) -> list[dict[str, Any]]:
    """Plot each metric by itself, with what it should come to (`NAME_target`) and the baseline where told."""
    metrics = history.metrics
    plots = []
    for name in metrics:
        if name.removesuffix("_target") != name and name.removesuffix("_target") in metrics:
            continue
        beside = {f"{name}_target": metrics.get(f"{name}_target"), "baseline": _level(history, name)}
        plots.append(_plot(name, {name: metrics[name], **beside}))
    return plots


def _level(history: History, metric: str) -> Curve | None:
    if metric not in history.baseline:
        return None
    curve = Curve()
    for total in (0, max(1, history.total)):
        curve.add(total, history.baseline[metric])
    return curve


def _term_plots(history: History) -> list[dict[str, Any]]:
    plots = [_plot("loss", _of_players(history, "loss"))]
    apart = {"loss", "lr", "gradient_norm"}
    for player in learners(history):
        named = {name.split("/", 1)[1]: curve for name, curve in history.terms.items() if _owner(name) == player}
        plots.append(_plot(f"{player}: terms", {k: v for k, v in named.items() if k not in apart}))
    return plots


def _of_players(history: History, quantity: str) -> dict[str, Curve | None]:
    return {player: history.terms.get(f"{player}/{quantity}") for player in learners(history)}


def learners(history: History) -> list[str]:
    """All players that phases or terms name; the place in this list is a player's colour on the whole page."""
    return list(dict.fromkeys([*history.players, *map(_owner, history.terms)]))


def _owner(term: str) -> str:
    return term.split("/", 1)[0]
