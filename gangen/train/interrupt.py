"""Ctrl-C and SIGTERM end a training after the step at hand, with a checkpoint."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

import torch
from accelerate import Accelerator


class Interrupted(SystemExit):
    """The training was asked to stop and saved its state. The exit code is 128 plus the signal's number."""


class Interruption:
    """Catches SIGINT and SIGTERM within a `with` block and remembers the first one.

    A second Ctrl-C interrupts at once. Outside the main thread, where Python delivers no signals, it does nothing.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._remember)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def agreed(self, accelerator: Accelerator) -> int:
        """The signal that any process has received, the same answer on all of them; 0 for none."""
        if accelerator.num_processes == 1:
            return self.signal
        mine = torch.tensor([self.signal], device=accelerator.device)
        return int(accelerator.gather(mine).max())

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.signal and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number
        name = signal.Signals(number).name
        sys.stderr.write(f"\n{name}: finishing this step and saving; Ctrl-C again stops at once.\n")
