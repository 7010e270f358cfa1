"""Convolutions of few places and many weights, as matrix products: on CPUs they are faster so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

WEIGHTS_A_PLACE = 8192
"""From how many weights for each place of the smaller map on, over the whole batch: measured, see
docs/performance.md."""

Pair = int | Sequence[int]


class SmallMaps(TorchFunctionMode):
    """Within this block, convolutions whose weights outnumber the places they are applied to become products.

    oneDNN, which computes convolutions on CPUs, arranges all weights anew in each pass, and again their gradient.
    Where a map has a few places, as in the innermost layers of a UNet, that takes several times as long as the
    convolution. There the patches are laid side by side (im2col; Chellapilla et al. 2006, "High Performance
    Convolutional Neural Networks for Document Processing") and multiplied by the weights as they lie.

    What comes out differs by rounding alone. On GPUs, in lower precision, and with groups or dilation, nothing is
    changed.
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
    if isinstance(padding, str) or not _plain(input, weight, dilation, groups):
        return None
    sides = [
        (side + 2 * rim - kernel) // step + 1
        for side, rim, kernel, step in zip(
            input.shape[2:], _two(padding), weight.shape[2:], _two(stride), strict=True
        )
    ]
    count = len(input)
    if not _pays(weight, count * sides[0] * sides[1]):
        return None
    patches = F.unfold(input, weight.shape[2:], padding=padding, stride=stride)  # type: ignore[arg-type]
    laid = patches.transpose(0, 1).flatten(1)  # (in * kernel, N * places)
    answer = (weight.flatten(1) @ laid).unflatten(1, (count, *sides)).transpose(0, 1)
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
    if not _plain(input, weight, dilation, groups) or not _pays(weight, len(input) * input[0, 0].numel()):
        return None
    sides = [
        (side - 1) * step - 2 * rim + kernel + more
        for side, step, rim, kernel, more in zip(
            input.shape[2:], _two(stride), _two(padding), weight.shape[2:], _two(output_padding), strict=True
        )
    ]
    laid = weight.flatten(1).mT @ input.transpose(0, 1).flatten(1)  # (out * kernel, N * places)
    patches = laid.unflatten(1, (len(input), -1)).transpose(0, 1)
    answer = F.fold(patches, sides, weight.shape[2:], padding=padding, stride=stride)  # type: ignore[arg-type]
    return answer if bias is None else answer + bias.view(-1, 1, 1)


def _plain(input: Tensor, weight: Tensor, dilation: Pair, groups: int) -> bool:
    """Whether it is a batch in float32 on a CPU, without groups or dilation."""
    single = input.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return input.device.type == "cpu" and input.ndim == 4 and single and groups == 1 and _two(dilation) == (1, 1)


def _pays(weight: Tensor, places: int) -> bool:
    return weight.numel() >= WEIGHTS_A_PLACE * places


def _two(size: Pair) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])
