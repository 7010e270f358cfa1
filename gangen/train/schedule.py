"""Learning-rate schedules: functions from the share of the phase that is done to a factor on the player's rate.

They see progress rather than counts because a switcher decides how many steps a player gets, so the number of
its steps is not known beforehand. They have no state: a resumed run continues the curve by itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable

Schedule = Callable[[float], float]
"""Progress in the phase, 0 (first step) to 1, to a factor on the learning rate."""


def constant(warmup: float = 0.0) -> Schedule:
    """The full rate, reached linearly over the first `warmup` share of the phase."""
    _check_share("warmup", warmup)
    return lambda progress: _ramp(progress, warmup)


def one_cycle(warmup: float = 0.25, start: float = 0.04, end: float = 1e-5) -> Schedule:
    """Cosine up from `start` to 1 over the first `warmup` share, then cosine down to `end`.

    Smith & Topin, "Super-Convergence" (2017, arXiv:1708.07120), in fastai's cosine form.
    """
    _check_share("warmup", warmup)

    def factor(progress: float) -> float:
        if progress < warmup:
            return _cosine(start, 1.0, progress / warmup)
        return _cosine(1.0, end, (progress - warmup) / (1.0 - warmup))

    return factor


def flat_cosine(flat: float = 0.72, warmup: float = 0.0, end: float = 0.0) -> Schedule:
    """The full rate for the first `flat` share of the phase, then a cosine down to `end`.

    fastai's `fit_flat_cos`; 0.72 is its default.
    """
    _check_share("flat", flat)
    _check_share("warmup", warmup)

    def factor(progress: float) -> float:
        if progress < flat:
            return _ramp(progress, warmup)
        return _cosine(1.0, end, (progress - flat) / (1.0 - flat))

    return factor


def _cosine(begin: float, end: float, share: float) -> float:
    return end + (begin - end) * (1.0 + math.cos(math.pi * min(share, 1.0))) / 2.0


def _ramp(progress: float, warmup: float) -> float:
    # A hundredth rather than nothing, so that the very first step already moves.
    return 1.0 if progress >= warmup else max(progress / warmup, 0.01)


def _check_share(name: str, value: float) -> None:
    if not 0.0 <= value < 1.0:
        raise ValueError(f"{name} is a share of the phase, at least 0 and below 1, not {value}")
