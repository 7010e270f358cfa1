"""Starting: processes, device, precision, threads. Says so when the launch is not what it seems."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from accelerate import Accelerator

from gangen.errors import UserError
from gangen.train.memory import keep_freed_memory


def launch(
    *,
    precision: str | None = None,
    track: Sequence[str] = (),
    folder: str | None = None,
    threads: int = 0,
) -> Accelerator:
    """The accelerator of this process, after checking that it is connected to the others.

    Args:
        precision: "no" (float32) or "bf16"; None for what `accelerate launch` or `accelerate config` say.
        track: trackers by accelerate's names.
        folder: where trackers that write files write them.
        threads: CPU threads of this process; 0 shares the usable cores among the processes of this machine.

    Raises:
        UserError: this was started as one of several processes but finds itself alone, or fp16 is asked for.
    """
    # Torch is told first: accelerate would otherwise find a thread count of 1 left by the launchers.
    if not torch.cuda.is_available():
        torch.set_num_threads(threads or _fair_share(os.environ))
        keep_freed_memory()
    accelerator = Accelerator(mixed_precision=precision, log_with=list(track) or None, project_dir=folder)
    check_connected(os.environ, accelerator.num_processes)
    if accelerator.mixed_precision not in ("no", "bf16"):
        raise UserError(
            f"mixed precision {accelerator.mixed_precision!r}: two players on one gradient scaler are not safe. "
            "Use --precision bf16, which needs no scaler, or no."
        )
    return accelerator


def check_connected(environment: Mapping[str, str], processes: int) -> None:
    """Refuse to train n unconnected copies, or one where several were asked for.

    Raises:
        UserError: names what was asked for, what was found, and the command that works.
    """
    remedy = (
        "On GPUs: `accelerate launch --multi_gpu --num_processes N ...`. On the CPU: "
        "`ACCELERATE_USE_CPU=true torchrun --nproc_per_node N ...`."
    )
    asked = int(environment.get("WORLD_SIZE", "1"))
    if asked != processes:
        raise UserError(
            f"started as {asked} processes, but accelerate connects {processes}: {asked} copies would train "
            f"without knowing of each other. {remedy}"
        )
    # accelerate's simple launcher, asked for several processes, sets these two and starts one process alone.
    alone = "MASTER_ADDR" in environment and "WORLD_SIZE" not in environment and "RANK" not in environment
    if alone and "ACCELERATE_MIXED_PRECISION" in environment and processes == 1:
        raise UserError(
            "`accelerate launch` was asked for several processes but started only this one, as it does on the "
            f"CPU without MPI. {remedy}"
        )


def set_seed(seed: int, process: int = 0) -> None:
    """Seed torch, numpy and Python, differently for each process (for dropout and noise)."""
    random.seed(seed + process)
    np.random.seed((seed + process) % 2**32)  # noqa: NPY002 (the generator that others use)
    torch.manual_seed(seed + process)


def _fair_share(environment: Mapping[str, str]) -> int:
    """Usable cores divided by the processes on this machine. The launchers set OMP_NUM_THREADS to 1 unasked."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(environment.get("LOCAL_WORLD_SIZE", "1")))
