"""The body: a classifier of torchvision's ResNet family, cut before its pooling, as a list of feature maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models

from gangen import weights as stored
from gangen.errors import UserError, WeightsError
from gangen.nets import freezing


class Body(nn.Module):
    """Feature maps of a ResNet, ResNeXt or wide ResNet (He et al. 2015, arXiv:1512.03385).

    `forward` takes pictures (N, in_channels, H, W) in [-1, 1], of any height and width from one pixel up, and
    gives five feature maps, finest first: the stem at stride 2 and the four stages at strides 4, 8, 16 and
    32. `channels` and `strides` describe them. Any other network with this `forward`, `channels` and
    `strides`, whose map k is ceil(H / strides[k]) by ceil(W / strides[k]), can stand in for it in a `UNet`.

    The ImageNet normalisation happens inside. With 3 channels they are red, green and blue; with a multiple
    of 3 they are a stack of such pictures; with any other count each channel is a grey picture that the stem
    sees as red, green and blue alike. The stem's pretrained weights are repeated for every picture and
    divided by the number of pictures: equal pictures answer as one would, and a grey channel exactly as the
    same picture in colour, borders included.

    Args:
        arch: a constructor of torchvision's ResNet family, such as "resnet18", "resnet50", "wide_resnet50_2".
        weights: "imagenet" (downloads torchvision's), "none" (random), or a local file in torchvision's names
            and layout, with or without its classifier, half precision too.
        in_channels: channels of the pictures.

    Raises:
        UserError: `arch` or `in_channels` is unknown or impossible.
        WeightsError: the weights cannot be downloaded or read, or belong to another network.
    """

    strides = (2, 4, 8, 16, 32)

    def __init__(self, arch: str = "resnet18", weights: str | Path = "none", in_channels: int = 3) -> None:
        super().__init__()
        if arch not in families():
            raise UserError(f"body {arch!r} is unknown; choose one of {', '.join(families())}.")
        if isinstance(in_channels, bool) or not isinstance(in_channels, int) or in_channels < 1:
            raise UserError(f"a body for {in_channels!r} channels is impossible; give a whole number from 1 up.")
        self.arch = arch
        self.in_channels = in_channels
        self._grey = in_channels % 3 != 0
        pictures = in_channels if self._grey else in_channels // 3

        net = models.get_model(arch, weights=None)
        self.conv1 = _stem(net.conv1, pictures)
        self.bn1, self.relu, self.maxpool = net.bn1, net.relu, net.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = net.layer1, net.layer2, net.layer3, net.layer4
        stages = (net.layer1, net.layer2, net.layer3, net.layer4)
        self.channels = (net.conv1.out_channels, *(_width(stage) for stage in stages))

        # Normalising [0, 1] pictures as (p - mean) / std is, for x = 2p - 1, (x - (2 mean - 1)) / (2 std).
        mean = torch.tensor(stored.IMAGENET_MEAN).repeat(pictures).view(1, -1, 1, 1)
        std = torch.tensor(stored.IMAGENET_STD).repeat(pictures).view(1, -1, 1, 1)
        self.register_buffer("centre", 2 * mean - 1, persistent=False)
        self.register_buffer("spread", 2 * std, persistent=False)
        self.centre: Tensor
        self.spread: Tensor

        self.initial = self._load(weights)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Pictures (N, in_channels, H, W) in [-1, 1] to five feature maps (N, channels[k], ...), finest first."""
        if x.shape[1] != self.in_channels:
            raise UserError(
                f"pictures with {x.shape[1]} channels were given to a body made for {self.in_channels}; build it "
                f"with in_channels={x.shape[1]}, or convert the pictures."
            )
        if self._grey:
            x = x.repeat_interleave(3, dim=1)
        stem = self.relu(self.bn1(self.conv1((x - self.centre) / self.spread)))
        first = self.layer1(self.maxpool(stem))
        second = self.layer2(first)
        third = self.layer3(second)
        return [stem, first, second, third, self.layer4(third)]

    def freeze(self) -> None:
        """Hold weights and BatchNorm statistics still, through every `train()`, until `unfreeze`."""
        freezing.freeze(self)

    def unfreeze(self) -> None:
        """Let the body learn again."""
        freezing.unfreeze(self)

    def train(self, mode: bool = True) -> Body:
        """Set train or eval mode; the statistics of frozen parts stay still."""
        super().train(mode)
        freezing.keep_frozen_still(self)
        return self

    @property
    def config(self) -> dict[str, Any]:
        """What rebuilds this architecture: `Body(**config)`. JSON-able; says nothing of weights."""
        return {"arch": self.arch, "in_channels": self.in_channels}

    def _load(self, weights: str | Path) -> dict[str, str | None]:
        """Fill in the weights; gives where they came from, as `initial`: kind, path, sha256."""
        if weights == "none":
            return {"kind": "none", "path": None, "sha256": None}
        if weights == "imagenet":
            try:
                path = stored.download(models.get_model_weights(self.arch).DEFAULT.url)
            except WeightsError as error:
                raise WeightsError(f"{error} For the body that is --weights FILE or --weights none.") from error
        else:
            path = Path(weights)
        state = stored.read(path)
        stem = state.get("conv1.weight")
        if stem is not None and stem.ndim == 4 and stem.shape[1] == 3:
            pictures = self.conv1.in_channels // 3
            state["conv1.weight"] = stem.repeat(1, pictures, 1, 1) / pictures
        stored.load_into(self, state, path, may_have=("fc.",))
        kind = "imagenet" if weights == "imagenet" else "file"
        return {"kind": kind, "path": str(path), "sha256": stored.fingerprint(path)}


def families() -> list[str]:
    """The names that `Body` knows."""
    return models.list_models(module=models, include=["resnet*", "resnext*", "wide_resnet*"])


def _stem(conv: nn.Conv2d, pictures: int) -> nn.Conv2d:
    """The first convolution for a stack of colour pictures, answering to equal ones as to a single one."""
    if pictures == 1:
        return conv
    wide = nn.Conv2d(3 * pictures, conv.out_channels, 7, stride=2, padding=3, bias=False)
    with torch.no_grad():
        wide.weight.copy_(conv.weight.repeat(1, pictures, 1, 1) / pictures)
    return wide


def _width(stage: nn.Sequential) -> int:
    """Channels that a stage gives: those of its last block's last convolution."""
    return [part for part in stage[-1].modules() if isinstance(part, nn.Conv2d)][-1].out_channels
