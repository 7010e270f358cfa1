"""Memory on the CPU: what a training step frees, the next one takes again."""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Parameters of mallopt(3), by their names in glibc's malloc.h."""


def keep_freed_memory() -> bool:
    """Have glibc keep freed memory in this process and those it forks, rather than hand it back to the system.

    Every step of a training asks for the same large tensors. By default glibc maps each afresh and gives it back
    when it is freed, and the system then clears every page anew: tens of thousands of page faults a step. Kept,
    there are as good as none, and the process takes no more than at its peak. What is computed does not change.
    (mallopt(3), M_TRIM_THRESHOLD and M_MMAP_MAX.)

    Nothing is done where the user has set one of glibc's MALLOC_ variables, nor with another C library.

    Returns:
        Whether it was done.
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, -1))
