"""LPIPS: how far two pictures are apart in the eyes of a classifier."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchvision.models import alexnet, vgg16

from gangen import weights
from gangen.errors import WeightsError
from gangen.metrics.protocol import Better, describe, require_side, unit


@dataclass(frozen=True)
class _Backbone:
    """Where LPIPS looks into a classifier: after these layers of `features`, of these widths."""

    build: Callable[..., nn.Module]
    taps: tuple[int, ...]
    widths: tuple[int, ...]
    least: int  # side in pixels that the last tap needs


_BACKBONES = {
    "alex": _Backbone(alexnet, (1, 4, 7, 9, 11), (64, 192, 384, 256, 256), 31),
    "vgg": _Backbone(vgg16, (3, 8, 15, 22, 29), (64, 128, 256, 512, 512), 16),
}


class LPIPS:
    """Learned perceptual distance, version 0.1 (Zhang et al. 2018, arXiv:1801.03924, eq. 1); lower is closer.

    Nothing is downloaded. It follows the pictures to whatever device they are on.

    Args:
        net: "alex", the usual choice for judging, or "vgg".
        weights: file of torchvision's AlexNet or VGG-16 (`features.N...`; half precision will do).
        head: file of the linear layers (`linN.model.1.weight`); those of version 0.1, which come with
            torchmetrics, when None.

    Attributes:
        least: side in pixels below which pictures are too small.

    Raises:
        WeightsError: a file cannot be read or belongs to another network.
    """

    name = "lpips"
    better: Better = "lower"

    def __init__(
        self, net: Literal["alex", "vgg"] = "alex", *, weights: str | Path, head: str | Path | None = None
    ) -> None:
        head = head or str(resources.files("torchmetrics") / f"functional/image/lpips_models/{net}.pth")
        self.least = _BACKBONES[net].least
        self._network = _Embedding(_BACKBONES[net], Path(weights), Path(head)).eval().requires_grad_(False)
        self.protocol: dict[str, Any] = {
            **describe(range="-1..1, clamped, not rounded"),
            "network": net,
            "version": "0.1",
            "weights": _hash(weights),
            "head": _hash(head),
        }

    @torch.no_grad()
    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """(N, 3, H, W) twice, in [-1, 1], to (N,).

        Raises:
            ValueError: the shapes differ.
            UserError: a side is too short for the network (31 pixels for "alex", 16 for "vgg").
        """
        output, target = unit(output, target)
        require_side("LPIPS", output, self.least)
        ours, theirs = self.points(torch.cat([output, target]) * 2 - 1).chunk(2)
        return (ours - theirs).square().sum(dim=1)

    @torch.no_grad()
    def points(self, pictures: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1] to (N, D): points whose squared distances are LPIPS."""
        found: Tensor = self._network.to(pictures.device)(pictures)
        return found


class _Embedding(nn.Module):
    """LPIPS's network: pictures to points."""

    shift: Tensor
    scale: Tensor

    def __init__(self, backbone: _Backbone, features: Path, head: Path) -> None:
        super().__init__()
        # Without memory first: the classifier's millions of weights would be drawn at random and thrown away.
        with torch.device("meta"):
            network = backbone.build(weights=None)
        layers = list(network.get_submodule("features").children())[: backbone.taps[-1] + 1]
        self.features = nn.Sequential(*layers).to_empty(device="cpu")
        weights.load_part(self.features, features, "features.")
        self.taps = backbone.taps
        self.head = nn.ModuleDict(
            {f"lin{i}": nn.Conv2d(width, 1, 1, bias=False) for i, width in enumerate(backbone.widths)}
        )
        plain = {name.replace(".model.1.", "."): value for name, value in weights.read(head).items()}
        weights.load_into(self.head, plain, head)
        if any(bool((weight < 0).any()) for weight in self.head.state_dict().values()):
            raise WeightsError(
                f"{head}: LPIPS's linear layers are never negative, these are. Give LPIPS's own file."
            )
        # LPIPS's own normalisation: ImageNet's mean and deviation, said of [-1, 1].
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1))

    def forward(self, pictures: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1] to (N, D): points whose squared distances are LPIPS.

        With w the head's weights, which are never negative, equation 1 is the squared length of the difference of
        sqrt(w / (H W)) times the features of unit length, over all layers and places.
        """
        x = (pictures - self.shift) / self.scale
        points = []
        heads = self.head.parameters()
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.taps:
                length = x.square().sum(dim=1, keepdim=True).sqrt()
                scale = (next(heads).squeeze(0) / x[0, 0].numel()).sqrt()
                points.append((scale * (x / (length + 1e-10))).flatten(1))
        return torch.cat(points, dim=1)


def _hash(path: str | Path) -> str:
    """The beginning of a file's hash, long enough to tell weights apart."""
    return weights.fingerprint(path)[:16]
