"""pix2pix as its paper has it: networks and a step, in plain PyTorch (Isola et al. 2017, arXiv:1611.07004).

Written from the paper, for benchmarks to be compared with.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class UNet256(nn.Module):
    """The generator of section 6.1.1: convolutions that halve down to one pixel, and back up with skips.

    BatchNorm but in the outermost and innermost layers, dropout in three levels of the way up.

    Args:
        size: side of the pictures, a power of 2; at 256 it has eight levels, at 128 seven.
        width: channels of the first layer.
    """

    def __init__(self, size: int = 256, width: int = 64) -> None:
        super().__init__()
        depth = size.bit_length() - 1
        widths = [width * min(8, 2**k) for k in range(depth)]
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for k, out in enumerate(widths):
            normed = 0 < k < depth - 1
            conv = nn.Conv2d(widths[k - 1] if k else 3, out, 4, 2, 1, bias=not normed)
            before = [nn.LeakyReLU(0.2)] if k else []
            self.down.append(nn.Sequential(*before, conv, *([nn.BatchNorm2d(out)] if normed else [])))
        for k in reversed(range(depth)):
            given = widths[k] * (1 if k == depth - 1 else 2)
            out = widths[k - 1] if k else 3
            dropped = [nn.Dropout(0.5)] if depth - 5 < k < depth - 1 and k else []
            after = [nn.BatchNorm2d(out), *dropped] if k else [nn.Tanh()]
            enlarge = nn.ConvTranspose2d(given, out, 4, 2, 1, bias=k == 0)
            self.up.append(nn.Sequential(nn.ReLU(), enlarge, *after))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, size, size) in [-1, 1] to the same."""
        maps = []
        for level in self.down:
            x = level(x)
            maps.append(x)
        x = self.up[0](maps.pop())
        for level in list(self.up)[1:]:
            x = level(torch.cat([x, maps.pop()], 1))
        return x


class Patches70(nn.Module):
    """The 70x70 critic of section 6.1.2, which sees input and output; with BatchNorm."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(6, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for given, out, stride in ((1, 2, 2), (2, 4, 2), (4, 8, 1)):
            conv = nn.Conv2d(given * width, out * width, 4, stride, 1, bias=False)
            layers += [conv, nn.BatchNorm2d(out * width), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(8 * width, 1, 4, 1, 1))

    def forward(self, picture: Tensor, condition: Tensor) -> Tensor:
        """Logits of patches of pictures made from conditions, each (N, 3, H, W) in [-1, 1]."""
        return self.layers(torch.cat([condition, picture], 1))


def steps(
    generator: nn.Module,
    critic: nn.Module,
    batches: Iterator[tuple[Tensor, Tensor]],
    *,
    fused: bool = False,
) -> Iterator[None]:
    """Section 3.3: on each batch the critic learns from both pairs, then the generator by it and an L1 of 100."""
    ours, theirs = (
        torch.optim.Adam(net.parameters(), lr=2e-4, betas=(0.5, 0.999), fused=fused or None)
        for net in (generator, critic)
    )

    def verdict(picture: Tensor, condition: Tensor, real: bool) -> Tensor:
        logits = critic(picture, condition)
        return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))

    for condition, target in batches:
        fake = generator(condition)
        critic.requires_grad_(True)
        theirs.zero_grad()
        (0.5 * (verdict(fake.detach(), condition, False) + verdict(target, condition, True))).backward()
        theirs.step()
        critic.requires_grad_(False)
        ours.zero_grad()
        (verdict(fake, condition, True) + 100 * F.l1_loss(fake, target)).backward()
        ours.step()
        yield
