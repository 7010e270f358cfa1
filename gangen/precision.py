"""How exactly is computed in float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch


def choose_float32(kind: Literal["ieee", "tf32"]) -> None:
    """Say how GPUs multiply in float32: by IEEE 754, or rounded to 10 bits of mantissa, several times as fast.

    It holds for the whole process. PyTorch by itself rounds in convolutions and not in matrix products. CPUs do
    not round.
    """
    # By the older names: where only the newer were told, torch.compile of 2.9 and 2.10 stumbles over both.
    torch.set_float32_matmul_precision("high" if kind == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = kind == "tf32"


@contextmanager
def exactly(device: str | torch.device) -> Iterator[None]:
    """Within, all is float32 by IEEE 754, whatever was chosen for the process: numbers that people compare.

    No autocast, and no rounding to TensorFloat-32. What torch.compile compiles does not belong inside: it would be
    compiled anew.

    Args:
        device: where is computed.
    """
    # By the newer names, one an operation: the older ones cannot be read where somebody has used the newer.
    rules = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # type: ignore[attr-defined]
    before = [rule.fp32_precision for rule in rules]
    try:
        for rule in rules:
            rule.fp32_precision = "ieee"
        with torch.autocast(torch.device(device).type, enabled=False):
            yield
    finally:
        for rule, kind in zip(rules, before, strict=True):
            rule.fp32_precision = kind
