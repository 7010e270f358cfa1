"""The body: a classifier cut before its pooling, as a list of feature maps."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models

from gangen import weights as stored
from gangen.errors import UserError, WeightsError
from gangen.nets import freezing
from gangen.nets.cut import classifiers, cut
from gangen.nets.timm_body import TIMM, cut_timm, timm_state, timm_weights


class Body(nn.Module):
    """Feature maps of a classifier: a ResNet (He et al. 2015, arXiv:1512.03385), or any other of torchvision's.

    `forward` takes pictures (N, in_channels, H, W) in [-1, 1], of any height and width from one pixel up, and
    gives feature maps, finest first; `channels` and `strides` describe them. A ResNet has five: the stem at
    stride 2 and the four stages at strides 4, 8, 16 and 32. Any other network with this `forward`,
    `in_channels`, `channels` and `strides`, whose map k is ceil(H / strides[k]) by ceil(W / strides[k]), can
    stand in for it in a `UNet`.

    The normalisation that the classifier was trained with happens inside. With 3 channels they are red, green and
    blue; with a multiple of 3 they are a stack of such pictures; with any other count each channel is a grey
    picture that the first layer sees as red, green and blue alike. That layer's pretrained weights are repeated
    for every picture and divided by the number of pictures: equal pictures answer as one would, and a grey
    channel exactly as the same picture in colour, borders included.

    Args:
        arch: a classifier of torchvision, such as "resnet18", "efficientnet_b0", "convnext_tiny"; or, where timm
            is installed, "timm/NAME" of any network there that offers features.
        weights: "imagenet" (downloads torchvision's, or timm's own), "none" (random), or a local file in the
            library's names and layout, with or without its classifier, half precision too.
        in_channels: channels of the pictures.

    Raises:
        UserError: `arch` or `in_channels` is unknown or impossible.
        WeightsError: the weights cannot be downloaded or read, or belong to another network.
    """

    def __init__(self, arch: str = "resnet18", weights: str | Path = "none", in_channels: int = 3) -> None:
        super().__init__()
        if isinstance(in_channels, bool) or not isinstance(in_channels, int) or in_channels < 1:
            raise UserError(f"a body for {in_channels!r} channels is impossible; give a whole number from 1 up.")
        self.arch = arch
        self.in_channels = in_channels
        self._grey = in_channels % 3 != 0
        pictures = in_channels if self._grey else in_channels // 3

        mean: tuple[float, ...]
        std: tuple[float, ...]
        if arch.startswith(TIMM):
            self.net, self._cut, mean, std = cut_timm(arch)
        elif arch in classifiers():
            self.net, self._cut = cut(arch)
            mean, std = stored.normalisation(arch)
        else:
            near = difflib.get_close_matches(arch, classifiers(), n=3) or ["resnet34", "efficientnet_b0"]
            raise UserError(
                f"body {arch!r} is unknown; expected a classifier of torchvision, such as {', '.join(near)}, or "
                f"{TIMM}NAME where timm is installed. `gangen.nets.classifiers()` lists them."
            )
        self.channels, self.strides = self._cut.channels, self._cut.strides
        self._stem = _widen(self.net, pictures)

        # Normalising [0, 1] pictures as (p - mean) / std is, for x = 2p - 1, (x - (2 mean - 1)) / (2 std).
        centre = 2 * torch.tensor(mean).repeat(pictures).view(1, -1, 1, 1) - 1
        spread = 2 * torch.tensor(std).repeat(pictures).view(1, -1, 1, 1)
        self.register_buffer("centre", centre, persistent=False)
        self.register_buffer("spread", spread, persistent=False)
        self.centre: Tensor
        self.spread: Tensor

        self.initial = self._load(weights)

    @property
    def pretrained(self) -> bool:
        """Whether its weights were not random ones when it was made."""
        return bool(self.initial["kind"] != "none")

    def forward(self, x: Tensor) -> list[Tensor]:
        """Pictures (N, in_channels, H, W) in [-1, 1] to feature maps (N, channels[k], ...), finest first."""
        if x.shape[1] != self.in_channels:
            raise UserError(
                f"pictures with {x.shape[1]} channels were given to a body made for {self.in_channels}; build it "
                f"with in_channels={x.shape[1]}, or convert the pictures."
            )
        if self._grey:
            x = x.repeat_interleave(3, dim=1)
        x = (x - self.centre) / self.spread
        if self._cut.exact and self._cut.least == 1 and 3 not in self._cut.places:
            return list(self.net(x))
        height, width = x.shape[2:]
        maps = self.net(self._padded(x))
        return [
            _fit(found.permute(0, 3, 1, 2) if place == 3 else found, -(-height // stride), -(-width // stride))
            for found, stride, place in zip(maps, self.strides, self._cut.places, strict=True)
        ]

    def _padded(self, x: Tensor) -> Tensor:
        """Extend the borders as far as the classifier needs."""
        height, width = x.shape[2:]
        step = 1 if self._cut.exact else self.strides[-1]
        down, right = (-(-max(side, self._cut.least) // step) * step - side for side in (height, width))
        return F.pad(x, (0, right, 0, down), mode="replicate") if down or right else x

    @property
    def local(self) -> bool:
        """Whether a map's values at a place depend on its surroundings alone, so that pictures can be tiled."""
        return self._cut.local

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """The weights in two groups: those that the maps up to stride 8 are made by, and those that come after.

        As fastai divides a ResNet, for learning rates that rise with depth.
        """
        early = self._cut.early
        first = [p for name, p in self.net.named_parameters() if name.rpartition(".")[0] in early]
        chosen = {id(parameter) for parameter in first}
        return [first, [p for p in self.net.parameters() if id(p) not in chosen]]

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
        path = self._download() if weights == "imagenet" else Path(weights)
        state = stored.read(path)
        if self.arch.startswith(TIMM):
            state = timm_state(self.net, state)
        name = f"{self._stem}.weight"
        stem = state.get(name)
        if stem is not None and stem.ndim == 4 and stem.shape[1] == 3:
            pictures = self.centre.shape[1] // 3
            state[name] = stem.repeat(1, pictures, 1, 1) / pictures
        stored.load_into(self.net, state, path, may_have=self._cut.ends)
        kind = "imagenet" if weights == "imagenet" else "file"
        return {"kind": kind, "path": str(path), "sha256": stored.fingerprint(path)}

    def _download(self) -> Path:
        try:
            if self.arch.startswith(TIMM):
                return timm_weights(self.arch)
            return stored.download(models.get_model_weights(self.arch).DEFAULT.url)
        except WeightsError as error:
            raise WeightsError(f"{error} For the body that is --weights FILE or --weights none.") from error


def _widen(net: nn.Module, pictures: int) -> str:
    """Let the first convolution take a stack of colour pictures, answering to equal ones as to one; its name."""
    name, conv = next((name, part) for name, part in net.named_modules() if isinstance(part, nn.Conv2d))
    if pictures > 1:
        above, _, own = name.rpartition(".")
        weight = conv.weight.detach()
        wide = nn.Conv2d(
            3 * pictures,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            conv.stride,  # type: ignore[arg-type]
            conv.padding,  # type: ignore[arg-type]
            bias=conv.bias is not None,
        )
        wide.weight.data = weight.repeat(1, pictures, 1, 1) / pictures
        if conv.bias is not None and wide.bias is not None:
            wide.bias.data = conv.bias.detach()
        setattr(net.get_submodule(above), own, wide)
    return name


def _fit(maps: Tensor, height: int, width: int) -> Tensor:
    """Maps (N, C, ...) at exactly this size: what is too much is cut off, what lacks is as the border is."""
    maps = maps[..., :height, :width]
    down, right = height - maps.shape[2], width - maps.shape[3]
    if down or right:
        maps = F.pad(maps, (right // 2, right - right // 2, down // 2, down - down // 2), mode="replicate")
    return maps
