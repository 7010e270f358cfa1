"""How maps lie in memory: on CPUs with AVX512 the channels of each place side by side, where that is faster."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode

WEIGHTS_A_PLACE = 512 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 0
"""Up to how many weights for each place of its maps, over the whole batch, a convolution takes them channels last.
With more, bringing the weights and their gradients into order costs what it gives. Measured on two cores of an AMD
EPYC with AVX512; without, nothing is gained anywhere, and 0 says so."""

# Whose layers answer alike however maps lie in memory. Others might not: `Tensor.view`, for one, refuses some.
_INDIFFERENT = ("gangen", "timm", "torch", "torchvision")


def laying_out(network: nn.Module, x: Tensor) -> AbstractContextManager[Any]:
    """Within this block the maps of a network lie as the CPU's convolutions take them best.

    Where there are many places they take them with channels last, (N, H, W, C) in memory; so do pooling, enlarging
    and BatchNorm. Shapes and weights are as ever, numbers differ by rounding alone. Hooks on layers see the maps
    as they lie. Nothing is changed on other devices and other CPUs, where pictures come with channels last, in
    networks with parts that are not of gangen, torch, torchvision or timm, and while torch compiles, exports,
    traces or transforms functions (vmap).

    Args:
        network: whose layers work within.
        x: what it is given.
    """
    helps = (
        WEIGHTS_A_PLACE > 0
        and isinstance(x, Tensor)
        and x.device.type == "cpu"
        and (x.is_contiguous() or not x.is_contiguous(memory_format=torch.channels_last))
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined]
        and torch._C._functorch.peek_interpreter_stack() is None
        and all(map(_is_indifferent, network.modules()))
    )
    return _ChannelsLast() if helps else nullcontext()


def laid_out(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Decorate a network's `forward` to work so; the answer then lies in memory as it does otherwise."""

    @functools.wraps(forward)
    def within(network: nn.Module, x: Tensor, *args: Any, **named: Any) -> Tensor:
        with laying_out(network, x) as changed:
            answer = forward(network, x, *args, **named)
        return answer.contiguous() if changed else answer

    return within


class _ChannelsLast(TorchFunctionMode):
    """Lays out what each convolution is given; what follows leaves it so."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Lay out the maps, where they lie otherwise."""
        if func in (F.conv2d, F.conv_transpose2d) and len(args) > 1 and args[0].ndim == 4:
            maps, weight, *others = args
            args = (maps.contiguous(memory_format=_layout(maps, weight)), weight, *others)
        elif func is torch.group_norm and args[1] == args[0].shape[1]:
            # A group for each channel, as in instance normalisation, is several times slower with channels last.
            args = (args[0].contiguous(), *args[1:])
        return func(*args, **(kwargs or {}))


def _is_indifferent(part: nn.Module) -> bool:
    kind = parametrize.type_before_parametrizations(part)
    return kind.__module__.partition(".")[0] in _INDIFFERENT and not isinstance(part, torch.jit.ScriptModule)


def _layout(maps: Tensor, weight: Tensor) -> torch.memory_format:
    places = len(maps) * maps.shape[2] * maps.shape[3]
    return torch.channels_last if weight.numel() <= places * WEIGHTS_A_PLACE else torch.contiguous_format
