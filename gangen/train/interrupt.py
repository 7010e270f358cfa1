"""Ctrl-C, SIGTERM and SIGUSR1 end a training after the step at hand, with a checkpoint.

SIGTERM is what schedulers and `torchrun` send before they kill; SIGUSR1 what Slurm sends ahead of time where it is
asked to (`--signal=USR1@120`).
"""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

import torch
from accelerate import Accelerator


class Interrupted(SystemExit):
    """The training was asked to stop and saved its state. The exit code is 128 plus the signal's number."""


SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]

_SLOW, _FEW = 1.0, 5
"""Agreeing costs several processes a synchronisation: at steps quicker than so many seconds, only every few."""


class Interruption:
    """Catches these signals within a `with` block and remembers the first one.

    A second Ctrl-C interrupts at once. Outside the main thread, where Python delivers no signals, it does nothing.

    Attributes:
        signal: its number, or 0.
        every: steps between two times that several processes agree; the same number on all of them.
    """

    def __init__(self) -> None:
        self.signal, self.every = 0, 1
        self._asked: tuple[int, float] | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._previous[number] = signal.signal(number, self._remember)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def agreed(self, accelerator: Accelerator, step: int) -> int:
        """The signal that any process has received, the same answer on all of them; 0 for none.

        Args:
            accelerator: connects the processes.
            step: how many are done; several processes agree after each `every` of them.
        """
        if accelerator.num_processes == 1:
            return self.signal
        if step % self.every:
            return 0
        now = time.monotonic()
        pace = (now - self._asked[1]) / max(1, step - self._asked[0]) if self._asked else _SLOW
        self._asked = step, now
        mine = torch.tensor([[self.signal, pace]], device=accelerator.device)
        number, slowest = accelerator.gather(mine).max(dim=0).values.tolist()
        self.every = _FEW if slowest < _SLOW else 1
        return int(number)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.signal and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number
        told = f"\n{signal.Signals(number).name}: finishing this step and saving; Ctrl-C again stops at once.\n"
        # Not sys.stderr.write, which may be at work already: a progress bar is interrupted anywhere.
        os.write(2, told.encode())
