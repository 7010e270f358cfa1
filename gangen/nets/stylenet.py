"""A small generator without a pretrained body, for changing the look of a picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from gangen.errors import UserError
from gangen.layout import laid_out
from gangen.nets.configs import expect_keys
from gangen.nets.heads import ImageHead
from gangen.nets.layers import InstanceNorm, Upsample


class StyleNet(nn.Module):
    """Picture in, picture out, of the same height and width, which may be any from one pixel up.

    The plan of Johnson et al. 2016 (arXiv:1603.08155, supplement): two halvings, residual blocks at a quarter of
    the resolution, two enlargements; with instance norm (Ulyanov et al. 2016, arXiv:1607.08022), which takes the
    picture's own contrast away. Enlarging is by pixel shuffle with ICNR initialisation and a blur, and the border
    is repeated outwards, where the paper's strided transposed convolutions and zeros leave marks.

    What it paints is added to the picture, and at first it is nothing: it begins as the identity, with all of the
    content, where the paper's generator spends thousands of steps on learning to repeat what it sees.

    Instance norm looks at the whole picture, so tiles of it would not match in colour: a `Pipeline` paints such a
    network's pictures whole or refuses.

    Args:
        width: channels at full resolution; a quarter of the resolution has 4 times as many.
        blocks: residual blocks.

    Raises:
        UserError: `width` or `blocks` is impossible.
    """

    tiles_exactly = False

    def __init__(self, width: int = 32, blocks: int = 5) -> None:
        super().__init__()
        for name, value in (("width", width), ("blocks", blocks)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UserError(f"a StyleNet of {name} {value!r} is impossible; give a whole number from 1 up.")
        self.config: dict[str, Any] = {"width": width, "blocks": blocks}
        self.stem = _block(3, width, 9)
        self.down = nn.ModuleList([_block(width, 2 * width, 3, 2), _block(2 * width, 4 * width, 3, 2)])
        self.blocks = nn.Sequential(*(_Residual(4 * width) for _ in range(blocks)))
        self.up = nn.ModuleList(
            nn.Sequential(Upsample(wide, wide // 2, blur=True), _block(wide // 2, wide // 2, 3))
            for wide in (4 * width, 2 * width)
        )
        self.head = ImageHead(3, (-2.0, 2.0)).build(width)  # from black to white, and back
        nn.init.zeros_(self.head[0].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.head[0].bias)  # type: ignore[arg-type]

    @laid_out
    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1] to the same."""
        maps, sizes = self.stem(x), []
        for halve in self.down:
            sizes.append(maps.shape[2:])
            maps = halve(maps)
        maps = self.blocks(maps)
        for enlarge, (height, width) in zip(self.up, reversed(sizes), strict=True):
            maps = enlarge(maps)[..., :height, :width]
        return (x + self.head(maps)).clamp(-1, 1)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> StyleNet:
        """The architecture that a StyleNet's `config` describes, with random weights.

        Raises:
            RunError: a key is missing or unknown.
            UserError: a value is impossible.
        """
        expect_keys("a StyleNet", config, ("width", "blocks"))
        return cls(**config)


class _Residual(nn.Module):
    """(N, C, H, W) plus what two convolutions make of it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.change = nn.Sequential(_block(channels, channels, 3), *_block(channels, channels, 3)[:2])

    def forward(self, x: Tensor) -> Tensor:
        return x + self.change(x)


def _block(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution with a repeated border, instance norm, ReLU; a stride of s gives ceil(H / s) rows."""
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, padding_mode="replicate", bias=False)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    return nn.Sequential(conv, InstanceNorm(out_channels), nn.ReLU(inplace=True))
