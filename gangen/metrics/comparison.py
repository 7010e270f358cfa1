"""Comparing two results, which is refused where their protocols differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gangen.errors import ProtocolError
from gangen.metrics.protocol import Better
from gangen.metrics.result import Interval, Result, bootstrap

_TOLD = "versions"
"""The one entry in which protocols may differ: it is reported, or every upgrade would make old results useless."""


@dataclass(frozen=True)
class Comparison:
    """Two results of one metric under one protocol.

    Attributes:
        metric: its name.
        better: see `Result`.
        first: the first one's value.
        second: the second one's value.
        interval: of the difference, by a bootstrap over the pictures in pairs; None where the pictures' names
            disagree, or there is one picture only, or the metric is of whole sets.
        notes: what a reader should know besides.
    """

    metric: str
    better: Better
    first: float
    second: float
    interval: Interval | None
    notes: tuple[str, ...] = ()

    @property
    def difference(self) -> float:
        """The second value less the first."""
        return self.second - self.first

    @property
    def winner(self) -> str | None:
        """Which one is better, "first" or "second"; None while the interval holds 0 or there is none."""
        if self.better is None or self.interval is None:
            return None
        if not (self.interval.low > 0 or self.interval.high < 0):
            return None
        return "second" if (self.difference > 0) == (self.better == "higher") else "first"


def compare(first: Result, second: Result) -> Comparison:
    """Compare two results: the difference of their means, and its interval where the pictures have equal names.

    Raises:
        ProtocolError: the metrics or the protocols differ; names the entries that do.
    """
    if first.metric != second.metric:
        raise ProtocolError(f"{first.metric} and {second.metric} are two metrics, and cannot be compared.")
    unlike = differences(first.protocol, second.protocol)
    if unlike:
        raise ProtocolError(
            f"the two values of {first.metric} cannot be compared, for they were measured differently: "
            f"{'; '.join(unlike)}. Measure both in the same way."
        )
    notes = []
    versions = _differences(first.protocol.get(_TOLD), second.protocol.get(_TOLD), _TOLD)
    if versions:
        notes.append(f"measured with different {'; '.join(versions)}")
    interval = None
    if not first.values and not second.values:
        notes.append(f"{first.metric} is of whole sets, so there is no interval of the difference")
    elif first.values.keys() == second.values.keys():
        interval = bootstrap([second.values[name] - first.values[name] for name in first.values])
    else:
        notes.append("the pictures have other names, so there is no interval")
    return Comparison(first.metric, first.better, first.value, second.value, interval, tuple(notes))


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """The entries in which two protocols differ, in words; versions are left out."""
    names = [name for name in {**first, **second} if name != _TOLD]
    return [told for name in names for told in _differences(first.get(name), second.get(name), name)]


def _differences(first: Any, second: Any, name: str) -> list[str]:
    if first == second:
        return []
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return [
            told
            for key in {**first, **second}
            for told in _differences(first.get(key), second.get(key), f"{name} {key}")
        ]
    return [f"{name} {_say(first)} and {_say(second)}"]


def _say(entry: Any) -> str:
    return "not stated" if entry is None else f"{entry!r}"
