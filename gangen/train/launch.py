"""Starting: processes, device, precision, threads. Says so when the launch is not what it seems."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from accelerate import Accelerator, DistributedType
from torch import distributed
from torch._C._distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from gangen.errors import UserError
from gangen.train.memory import keep_freed_memory

_IN_PIECES = (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM)


def launch(
    *,
    precision: str | None = None,
    track: Sequence[str] = (),
    folder: str | None = None,
    threads: int = 0,
) -> Accelerator:
    """The accelerator of this process, after checking that it is connected to the others.

    Args:
        precision: "no" (float32), "tf32", "bf16", or, on a GPU, "fp16"; None for what `accelerate launch` or
            `accelerate config` say. What is computed in float32 uses TensorFloat-32 on GPUs, unless this is "no".
        track: trackers by accelerate's names.
        folder: where trackers that write files write them.
        threads: CPU threads of this process; 0 shares the usable cores among the processes of this machine.

    Raises:
        UserError: this was started as one of several processes but finds itself alone, or networks would be cut
            into pieces, or the precision is none that can be trained in here.
    """
    on_cpu = is_on_cpu()
    # Torch is told first: accelerate would otherwise find a thread count of 1 left by the launchers.
    if on_cpu:
        torch.set_num_threads(threads or _fair_share(os.environ))
        keep_freed_memory()
    mixed = "no" if precision == "tf32" else precision
    asked = mixed or os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if asked == "fp16" and on_cpu:
        raise UserError("--precision fp16: float16 is trained in on GPUs only. Use no or bf16.")
    _rejoin(os.environ, "gloo" if on_cpu else "nccl")
    accelerator = Accelerator(mixed_precision=mixed, log_with=list(track) or None, project_dir=folder)
    check_connected(os.environ, accelerator.num_processes)
    check_whole(accelerator.distributed_type)
    if accelerator.mixed_precision not in ("no", "bf16", "fp16"):
        raise UserError(
            f"mixed precision {accelerator.mixed_precision!r}: use --precision bf16, fp16, tf32 or no."
        )
    if not on_cpu:
        choose_float32("ieee" if precision == "no" else "tf32")
    return accelerator


def is_on_cpu() -> bool:
    """Whether there is no GPU, or accelerate was told to leave it alone."""
    told = os.environ.get("ACCELERATE_USE_CPU", "").lower()
    return not torch.cuda.is_available() or told in ("1", "true", "yes")


def choose_float32(kind: Literal["ieee", "tf32"]) -> None:
    """Say how GPUs multiply in float32: by IEEE 754, or rounded to 10 bits of mantissa, several times as fast.

    It holds for the whole process. PyTorch by itself rounds in convolutions and not in matrix products. CPUs do
    not round.
    """
    # By the older names: where only the newer were told, torch.compile of 2.9 and 2.10 stumbles over both.
    torch.set_float32_matmul_precision("high" if kind == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = kind == "tf32"


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


def _rejoin(environment: Mapping[str, str], backend: str) -> None:
    """Connect processes that `torchrun --max_restarts` has started again, under names of their own.

    torchrun keeps the store through which processes find each other; under the old names they would find the
    addresses of those that died.
    """
    attempt = int(environment.get("TORCHELASTIC_RESTART_COUNT", "0"))
    if attempt and int(environment.get("WORLD_SIZE", "1")) > 1 and not distributed.is_initialized():
        store, rank, world = next(rendezvous("env://"))
        mine = PrefixStore(f"gangen/attempt-{attempt}", store)
        distributed.init_process_group(backend, store=mine, rank=rank, world_size=world)


def check_whole(kind: DistributedType) -> None:
    """Refuse launches that cut networks into pieces: FSDP, DeepSpeed, Megatron-LM.

    Turns, moving averages, frozen parts and exact checkpoints are all of whole networks on every process. The
    networks here are of some ten to a hundred million weights, whose gradients and moments fit on any GPU that
    their activations fit on, so that cutting them would save little.

    Raises:
        UserError: names the kind, and what works.
    """
    if kind in _IN_PIECES:
        raise UserError(
            f"accelerate was configured for {kind.value}, which cuts networks into pieces; gangen keeps them "
            "whole on every process. Launch with `accelerate launch --multi_gpu`, or take it out of "
            "`accelerate config`."
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
