"""Critics: networks that learn to tell real pictures from generated ones. The literature also says discriminator.

None has BatchNorm, which would let one picture's verdict depend on its neighbours in the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from gangen.errors import UserError
from gangen.nets.layers import SelfAttention, normalisation

Wrap = Callable[[nn.Module], nn.Module]


class PatchCritic(nn.Module):
    """Judges overlapping patches of a picture (Isola et al. 2017, arXiv:1611.07004, section 3.2.2).

    `layers` strided 4x4 convolutions, each halving the picture and doubling the channels (up to 8 times
    `width`), then two unstrided ones. A patch spans `receptive_field` pixels: 16, 34, 70, 142 for 1, 2, 3, 4
    layers. Pictures need `smallest` = 2**layers pixels a side; where a patch is larger than the picture,
    fewer layers serve better.

    With `shrink` the critic sees the picture averaged down, like the coarse critics of pix2pixHD (Wang et al.
    2018, arXiv:1711.11585, section 3.2) and the colour critic of DPED (Ignatov et al. 2017, arXiv:1704.02470): it
    judges colours and shapes and cannot ask for texture. A patch is then `shrink` times as wide, and so is
    `smallest`. Rows and columns that are left over when a side is divided by `shrink` are not seen.

    Args:
        in_channels: channels of the pictures that are judged.
        condition_channels: channels of what the picture was made from; 0 to judge the picture by itself.
        width: channels of the first layer.
        layers: how often the picture is halved.
        norm: "instance" normalises between the first and the last layer; "none" does not.
        spectral: bound every layer's gain (spectral norm, Miyato et al. 2018, arXiv:1802.05957).
        shrink: by what the picture is averaged down first; 1 to see it as it is.
    """

    def __init__(
        self,
        in_channels: int = 3,
        condition_channels: int = 0,
        width: int = 64,
        layers: int = 3,
        norm: Literal["none", "instance"] = "none",
        spectral: bool = True,
        *,
        shrink: int = 1,
    ) -> None:
        super().__init__()
        if norm not in ("none", "instance"):
            raise UserError(f"norm {norm!r} is not for critics; choose 'none' or 'instance'.")
        _require_positive(in_channels=in_channels, width=width, layers=layers, shrink=shrink)
        self.config: dict[str, Any] = {
            "in_channels": in_channels,
            "condition_channels": condition_channels,
            "width": width,
            "layers": layers,
            "norm": norm,
            "spectral": spectral,
            "shrink": shrink,
        }
        self.smallest = shrink * 2**layers
        wrap = _wrap(spectral)
        widths = [width * min(2**k, 8) for k in range(layers + 1)]
        steps: list[nn.Module] = [nn.AvgPool2d(shrink)] if shrink > 1 else []
        steps += [wrap(_conv(in_channels + condition_channels, width, 4, 2, 1)), _leak()]
        for k in range(layers):
            # Padding of 2 where the stride is 1: the map does not shrink, so that small pictures keep one.
            stride, padding = (2, 1) if k < layers - 1 else (1, 2)
            steps += [wrap(_conv(widths[k], widths[k + 1], 4, stride, padding))]
            steps += [*normalisation(norm, widths[k + 1]), _leak()]
        steps.append(wrap(_conv(widths[-1], 1, 4, 1, 2)))
        self.judge = nn.Sequential(*steps)

    def forward(self, picture: Tensor, condition: Tensor | None = None) -> Tensor:
        """Logits, high for real, one for each patch.

        Args:
            picture: (N, in_channels, H, W) in [-1, 1].
            condition: (N, condition_channels, H, W) in [-1, 1], what the picture was made from.

        Returns:
            (N, 1, h, w) where h is H / smallest, rounded down, and 2 more.

        Raises:
            UserError: the picture is smaller than `smallest`.
            TypeError: the condition is missing or not expected.
        """
        return self.judge(_joined(self, picture, condition))

    @property
    def receptive_field(self) -> int:
        """Side, in pixels, of the patch that one logit sees."""
        side = 1
        for layer in reversed([step for step in self.judge if isinstance(step, nn.Conv2d)]):
            side = (side - 1) * layer.stride[0] + layer.kernel_size[0]
        return side * self.config["shrink"]


class WholeCritic(nn.Module):
    """Judges a picture as a whole, with one logit, at any size.

    The plan of fastai's critic for generators that restore pictures (Antic 2018, NoGAN): a strided
    convolution, a dense block that keeps what came before (arXiv:1608.06993), strided convolutions that
    double the channels, self-attention after the first of them (arXiv:1805.08318), spectral norm throughout.
    The verdict is the mean over the last map, so it needs no fixed size, but at least `smallest` = 2**(blocks
    + 1) pixels a side.

    Args:
        in_channels: channels of the pictures that are judged.
        condition_channels: channels of what the picture was made from; 0 to judge the picture by itself.
        width: channels of the first layer.
        blocks: how often the picture is halved after the first layer.
        attention: whether places look at each other.
        spectral: bound every layer's gain (spectral norm, arXiv:1802.05957).
    """

    def __init__(
        self,
        in_channels: int = 3,
        condition_channels: int = 0,
        width: int = 64,
        blocks: int = 3,
        attention: bool = True,
        spectral: bool = True,
    ) -> None:
        super().__init__()
        _require_positive(in_channels=in_channels, width=width, blocks=blocks)
        self.config: dict[str, Any] = {
            "in_channels": in_channels,
            "condition_channels": condition_channels,
            "width": width,
            "blocks": blocks,
            "attention": attention,
            "spectral": spectral,
        }
        self.smallest = 2 ** (blocks + 1)
        wrap = _wrap(spectral)
        steps: list[nn.Module] = [wrap(_conv(in_channels + condition_channels, width, 4, 2, 1)), _leak()]
        steps.append(_Dense(width, wrap))
        channels = 2 * width
        for k in range(blocks):
            steps += [wrap(_conv(channels, 2 * channels, 4, 2, 1)), _leak()]
            channels *= 2
            if k == 0 and attention:
                steps.append(SelfAttention(channels, wrap))
        steps.append(wrap(_conv(channels, 1, 3, 1, 1)))
        self.judge = nn.Sequential(*steps)

    def forward(self, picture: Tensor, condition: Tensor | None = None) -> Tensor:
        """Logits (N, 1), high for real; arguments and errors as for `PatchCritic.forward`."""
        return self.judge(_joined(self, picture, condition)).mean(dim=(2, 3))


class _Dense(nn.Module):
    """Joins what a convolution makes of a map to the map itself: (N, C, H, W) to (N, 2C, H, W)."""

    def __init__(self, channels: int, wrap: Wrap) -> None:
        super().__init__()
        self.conv = nn.Sequential(wrap(_conv(channels, channels, 3, 1, 1)), _leak())

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv(x)], dim=1)


def _joined(critic: PatchCritic | WholeCritic, picture: Tensor, condition: Tensor | None) -> Tensor:
    """The picture, and its condition behind it, after all that can be wrong with them has been told."""
    height, width = picture.shape[-2:]
    if min(height, width) < critic.smallest:
        raise UserError(
            f"a picture of {width}x{height} pixels is too small for this {type(critic).__name__}, which needs "
            f"{critic.smallest} a side; train at a larger size, or build it with fewer "
            f"{'layers or a smaller shrink' if isinstance(critic, PatchCritic) else 'blocks'}."
        )
    expected = critic.config["condition_channels"]
    if not expected:
        if condition is not None:
            raise TypeError(
                "this critic judges pictures by themselves: build it with condition_channels to give a condition"
            )
        return picture
    if condition is None:
        raise TypeError(f"this critic judges a picture beside its condition of {expected} channels: give one")
    return torch.cat([picture, condition], dim=1)


def _conv(in_channels: int, out_channels: int, kernel: int, stride: int, padding: int) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding)
    nn.init.kaiming_normal_(conv.weight, a=0.2, nonlinearity="leaky_relu")
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv


def _leak() -> nn.Module:
    return nn.LeakyReLU(0.2, inplace=True)


def _wrap(spectral: bool) -> Wrap:
    return spectral_norm if spectral else lambda layer: layer


def _require_positive(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise UserError(f"a critic with {name}={count} is impossible; give 1 or more.")
