"""A number with all that belongs to it: pictures' values, the protocol, an interval, and who was judged."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from gangen import files
from gangen.errors import UserError
from gangen.metrics.protocol import Better

FORMAT = 1
RESAMPLES = 2000
LEVEL = 0.95
_AT_ONCE = 2**22  # draws held in memory


@dataclass(frozen=True)
class Interval:
    """Where a value would lie had other pictures of the same kind been judged: a bootstrap percentile interval."""

    low: float
    high: float
    level: float = LEVEL
    resamples: int = RESAMPLES
    seed: int = 0


@dataclass(frozen=True)
class Result:
    """A metric over a set of pictures.

    Attributes:
        metric: its name.
        better: "lower", "higher", or None where it only describes.
        value: the mean over the pictures, or the one number of a whole set.
        values: each picture's value by the picture's name; empty where only the set has one.
        protocol: how it was measured, JSON values. Results of unlike protocols refuse to be compared; see
            `gangen.metrics.compare`.
        interval: of the value, over pictures; None for a single picture, which tells nothing of others, and for
            a set metric that has none (its protocol says why).
        about: what was judged, such as the run and its weights' hash, which may differ in a comparison.
    """

    metric: str
    better: Better
    value: float
    values: Mapping[str, float] = field(hash=False)
    protocol: Mapping[str, Any] = field(hash=False)
    interval: Interval | None
    about: Mapping[str, Any] = field(hash=False, default_factory=dict)

    @classmethod
    def of_pictures(
        cls,
        metric: str,
        better: Better,
        values: Mapping[str, float],
        protocol: Mapping[str, Any],
        about: Mapping[str, Any],
    ) -> Result:
        """The result of a metric that has a value for each picture: their mean, and its interval."""
        interval = bootstrap(list(values.values()))
        return cls(metric, better, _mean(values), values, protocol, interval, about)

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        return {
            "metric": self.metric,
            "value": self.value,
            "better": self.better,
            "interval": self.interval and asdict(self.interval),
            "protocol": dict(self.protocol),
            "about": dict(self.about),
            "values": dict(self.values),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Result:
        """Take back what `to_json` gave.

        Raises:
            UserError: `content` is no result; says what is wrong with it.
        """
        try:
            interval = content["interval"]
            result = cls(
                metric=str(content["metric"]),
                better=content["better"],
                value=float(content["value"]),
                values={str(name): float(value) for name, value in content["values"].items()},
                protocol=dict(content["protocol"]),
                interval=interval and Interval(**interval),
                about=dict(content["about"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"this is no result of gangen ({type(error).__name__}: {error}).") from error
        count = len(result.values)
        if count != result.protocol.get("pictures", 0):
            raise UserError(
                f"{result.metric} has {count} values, of {result.protocol.get('pictures', 'no')} pictures."
            )
        if count and not abs(_mean(result.values) - result.value) <= 1e-6 * max(1, abs(result.value)):
            raise UserError(
                f"the value of {result.metric}, {result.value}, is not the mean of its {count} values."
            )
        return result


def bootstrap(
    values: Sequence[float], *, resamples: int = RESAMPLES, seed: int = 0, level: float = LEVEL
) -> Interval | None:
    """Bootstrap the mean: the percentile interval of Efron 1979 ("Bootstrap methods"), over pictures.

    Pictures are drawn with replacement, as many as there are, `resamples` times; the interval lies between the
    quantiles (1 - level) / 2 and (1 + level) / 2 of the means. The same seed gives the same interval. It does
    not cover what another training would give. Below some 20 pictures it tends to be too narrow.

    Returns:
        The interval; None for fewer than two values.
    """
    return bootstrap_sum([values], resamples=resamples, seed=seed, level=level)


def bootstrap_sum(
    sets: Sequence[Sequence[float]], *, resamples: int = RESAMPLES, seed: int = 0, level: float = LEVEL
) -> Interval | None:
    """`bootstrap` of the sum of several sets' means, each set drawn by itself.

    Returns:
        The interval; None where there is no set, or one has fewer than two values.
    """
    if not sets or min(map(len, sets)) < 2:
        return None
    generator = torch.Generator().manual_seed(seed)
    sums = torch.zeros(resamples, dtype=torch.float64)
    for values in sets:
        data = torch.tensor(values, dtype=torch.float64)
        step = max(1, _AT_ONCE // len(data))
        for first in range(0, resamples, step):
            part = sums[first : first + step]
            drawn = torch.randint(len(data), (len(part), len(data)), generator=generator)
            part.add_(data[drawn].mean(dim=1))
    tails = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = sums.quantile(tails).tolist()
    return Interval(low, high, level, resamples, seed)


def write_results(results: Sequence[Result], path: str | Path) -> None:
    """Write results as JSON in place of `path`, atomically.

    Raises:
        RunError: the disk is full or not writable.
    """
    files.write_json(path, {"format": FORMAT, "results": [result.to_json() for result in results]})


def read_results(path: str | Path) -> list[Result]:
    """Read what `write_results` wrote.

    Raises:
        UserError: there is no such file, or it holds something else.
    """
    expected = "Expected a file that `gangen score` or `gangen evaluate` wrote with --out."
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}. {expected}") from error
    if (
        not isinstance(content, dict)
        or content.get("format") != FORMAT
        or not isinstance(content.get("results"), list)
    ):
        raise UserError(f"{path} holds no results of format {FORMAT}. {expected}")
    try:
        return [Result.from_json(result) for result in content["results"]]
    except UserError as error:
        raise UserError(f"{path}: {error} {expected}") from error


def _mean(values: Mapping[str, float]) -> float:
    return sum(values.values()) / len(values)
