"""Chance that depends on a key alone, whoever draws and when."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derived(*key: int) -> int:
    """A seed of 63 bits that depends on the key alone."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@contextmanager
def seeded(*key: int) -> Iterator[None]:
    """Seed torch's (CPU), Python's and numpy's global generators from `key` in this block; put them back then."""
    value = derived(*key)
    saved = random.getstate(), np.random.get_state()  # noqa: NPY002 (the generator that others use)
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would reseed the accelerators as well, and they are not put back.
        torch.default_generator.manual_seed(value)
        random.seed(value)
        np.random.seed(value % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(saved[0])
            np.random.set_state(saved[1])  # noqa: NPY002
