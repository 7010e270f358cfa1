"""Convolutions of few places and many weights, as matrix products: on CPUs they are faster so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

WEIGHTS_A_PLACE = 131_072 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 8192
"""From how many weights for each place of the smaller map on, over the whole batch. Below that, products of 3x3
kernels cost more than convolutions on two cores of an AMD EPYC. On one with AVX512 convolutions are three times as
fast as on one without, but products, which torch leaves to MKL, a quarter faster. Others were not measured."""

Pair = int | Sequence[int]


class SmallMaps(TorchFunctionMode):
    """Within this block, convolutions whose weights outnumber the places they are applied to become products.

    oneDNN, which computes convolutions on CPUs, arranges all weights anew in each pass, and again their gradient.
    Where a map has a few places, as in the innermost layers of a UNet, that costs more than the multiplications.
    There the patches are laid side by side (im2col; Chellapilla et al. 2006, "High Performance
    Convolutional Neural Networks for Document Processing") and multiplied by the weights as they lie.

    What comes out differs by rounding alone. On GPUs, in lower precision, with groups or dilation, without
    gradients, and in parts that the backward pass computes again (checkpointing), nothing is changed.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Replace what is to be replaced."""
        named = kwargs or {}
        if func is F.conv2d:
            product = _as_product(*args, **named)
        elif func is F.conv_transpose2d:
            product = _transposed_as_product(*args, **named)
        else:
            product = None
        return func(*args, **named) if product is None else product


def _as_product(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Pair = 1,
    padding: Pair | str = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Tensor | None:
    """`torch.nn.functional.conv2d` as a product; None where it had better not be one."""
    steps, rims = _two(stride), _two(padding)
    if steps is None or rims is None or not _plain(input, weight, bias, dilation, groups, channels=1):
        return None
    sides = [
        (side + 2 * rim - kernel) // step + 1
        for side, rim, kernel, step in zip(input.shape[2:], rims, weight.shape[2:], steps, strict=True)
    ]
    count = len(input)
    if min(sides) < 1 or not _pays(weight, count * sides[0] * sides[1]):
        return None
    patches = F.unfold(input, weight.shape[2:], padding=rims, stride=steps)
    laid = patches.transpose(0, 1).flatten(1)  # (in * kernel, N * places)
    answer = (weight.flatten(1) @ laid).unflatten(1, (count, *sides)).transpose(0, 1).contiguous()
    return answer if bias is None else answer + bias.view(-1, 1, 1)


def _transposed_as_product(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    output_padding: Pair = 0,
    groups: int = 1,
    dilation: Pair = 1,
) -> Tensor | None:
    """`torch.nn.functional.conv_transpose2d`, likewise: the patches that it lays down are added up."""
    steps, rims, ends = _two(stride), _two(padding), _two(output_padding)
    if steps is None or rims is None or ends is None:
        return None
    if not _plain(input, weight, bias, dilation, groups, channels=0):
        return None
    if not _pays(weight, len(input) * input.shape[2] * input.shape[3]):
        return None
    sides = [
        (side - 1) * step - 2 * rim + kernel + more
        for side, step, rim, kernel, more in zip(input.shape[2:], steps, rims, weight.shape[2:], ends, strict=True)
    ]
    laid = weight.flatten(1).mT @ input.transpose(0, 1).flatten(1)  # (out * kernel, N * places)
    patches = laid.unflatten(1, (len(input), -1)).transpose(0, 1)
    answer = F.fold(patches, sides, weight.shape[2:], padding=rims, stride=steps)  # type: ignore[arg-type]
    return answer if bias is None else answer + bias.view(-1, 1, 1)


def _plain(
    input: Tensor, weight: Tensor, bias: Tensor | None, dilation: Pair, groups: int, *, channels: int
) -> bool:
    """Whether all is as it mostly is: a batch on a CPU, float32, no groups or dilation, weights in a row.

    What torch would refuse is not plain either, so that torch says why.

    Args:
        channels: the axis of the weights that is the input's channels.
    """
    given = [input, weight] if bias is None else [input, weight, bias]
    common = all(t.device.type == "cpu" and t.dtype == torch.float32 for t in given)
    if (
        not common
        or _computed_again()
        or torch.is_autocast_enabled("cpu")
        or groups != 1
        or _two(dilation) != (1, 1)
    ):
        return False
    if input.layout != torch.strided or input.ndim != 4 or weight.ndim != 4 or not weight.is_contiguous():
        return False
    return len(input) > 0 and input.shape[1] == weight.shape[channels]


def _computed_again() -> bool:
    """Whether this may be a checkpointed part of a network, which the backward pass, out of reach, computes again.

    Such a part runs without gradients (reentrant), or with hooks on what is saved for the backward pass.
    """
    return not torch.is_grad_enabled() or torch._C._autograd._top_saved_tensors_default_hooks(True) is not None


def _pays(weight: Tensor, places: int) -> bool:
    return 0 < places * WEIGHTS_A_PLACE <= weight.numel()


def _two(size: Pair | str) -> tuple[int, int] | None:
    """Down and across; None for what is neither a number nor a pair of them."""
    if isinstance(size, int):
        return size, size
    return (size[0], size[1]) if isinstance(size, (tuple, list)) and len(size) == 2 else None
