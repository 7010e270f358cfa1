"""The run's log: JSON lines that an interrupted run, once resumed, continues as if nothing had happened."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from gangen.errors import RunError
from gangen.files import explain_disk_trouble


class Journal:
    """An append-only file of JSON lines. Without a path (not the main process, or no run folder) it is silent."""

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def write(self, record: dict[str, Any]) -> None:
        """Append one record. Numbers that JSON lacks (nan, infinity) become null.

        Raises:
            RunError: the disk is full or not writable.
        """
        if self.path is None:
            return
        clean = {key: _or_null(value) for key, value in record.items()}
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(clean, ensure_ascii=False) + "\n")
        except OSError as error:
            raise RunError(explain_disk_trouble(self.path, error)) from error

    def offset(self) -> int:
        """Bytes so far, safely on the disk: a checkpoint must not know of lines that a power cut could take."""
        if self.path is None or not self.path.exists():
            return 0
        with self.path.open("r+b") as file:  # Windows syncs only what may be written to
            os.fsync(file.fileno())
        return self.path.stat().st_size

    def rewind(self, offset: int) -> None:
        """Forget all after `offset` bytes."""
        if self.path is None:
            return
        present = self.path.stat().st_size if self.path.exists() else 0
        if present < offset:
            raise RunError(
                f"{self.path} is shorter ({present} bytes) than its checkpoint remembers ({offset}); it was cut "
                "or replaced. Put it back, or start a new run in another --out."
            )
        if self.path.exists():
            os.truncate(self.path, offset)


class Meters:
    """Running means of named scalars since the last reading, kept on the device: adding never waits for it."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, name: str, value: Tensor) -> None:
        """Add one value."""
        value = value.detach().float()
        self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._counts[name] = self._counts.get(name, 0) + 1

    def read(self, accelerator: Accelerator) -> dict[str, float]:
        """The means over time and processes, in one transfer; then begin anew."""
        if not self._sums:
            return {}
        means = torch.stack([self._sums[name] / self._counts[name] for name in self._sums])
        values = accelerator.reduce(means, "mean").tolist()
        names = list(self._sums)
        self._sums, self._counts = {}, {}
        return dict(zip(names, values, strict=True))

    def state_dict(self) -> dict[str, Any]:
        """Sums and counts."""
        return {"sums": {k: v.cpu() for k, v in self._sums.items()}, "counts": dict(self._counts)}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Take them back."""
        self._sums = {key: value.to(device) for key, value in state["sums"].items()}
        self._counts = dict(state["counts"])


def _or_null(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
