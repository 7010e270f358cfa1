"""Networks whose forward and backward passes are compiled, by `torch.compile`, each by itself."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import nn

from gangen.errors import UserError
from gangen.train.launch import is_on_cpu

Backend = str | Callable[..., Any]
"""What `torch.compile` is given: "inductor", or another of its backends."""

_VARIANTS = 64
"""How many forms of one network may be compiled: learning and resting, by frozen parts and size of the batch."""


def check_compiler() -> None:
    """Refuse to compile where what writes the machine's code is missing.

    Raises:
        UserError: says what is missing, and what to do.
    """
    if is_on_cpu():
        found = any(shutil.which(name) for name in (os.environ.get("CXX"), "g++", "clang++") if name)
        missing, remedy = "a C++ compiler", "Install g++, or name one by CXX"
    else:
        found = importlib.util.find_spec("triton") is not None
        missing, remedy = "triton", "Install it as PyTorch's instructions say"
        if found:  # which itself calls a C compiler
            found = any(shutil.which(name) for name in (os.environ.get("CC"), "gcc", "clang") if name)
            missing, remedy = "a C compiler", "Install gcc, or name one by CC"
        if found and torch.cuda.get_device_capability() < (7, 0):
            found, missing, remedy = False, "a GPU of compute capability 7.0 or more", "Take a newer GPU"
    if not found:
        raise UserError(f"--compile: torch needs {missing}, which is not here. {remedy}, or leave it out.")


def compiled(network: nn.Module, backend: Backend | None) -> nn.Module:
    """`network`, compiled at the first call of each kind; as it is where `backend` is None.

    Whether it learns or rests, which parts are frozen, and the shape of the batch are each compiled once; later
    turns and phases find what was compiled for them. The weights stay those of `network`, under their names, so
    that checkpoints, averages and optimizers do not know of it. Sums may be taken in another order, and dropout
    draws other numbers: results differ by rounding, and by that, from those of the network as it is.
    """
    if backend is None:
        return network
    limits = torch._dynamo.config  # by default 8, of all phases and turns together
    limits.recompile_limit = max(limits.recompile_limit, _VARIANTS)
    return cast("nn.Module", torch.compile(network, backend=backend, dynamic=False))
