"""Networks that see a picture as a point; set metrics compare the clouds of points of two sets."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights
from torchvision.transforms.v2 import functional as F

from gangen import weights as stored
from gangen.errors import UserError, WeightsError

INCEPTION_URL = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
)


@dataclass(frozen=True, eq=False)
class FeatureNet:
    """What a set metric sees of each picture.

    Attributes:
        network: (N, 3, H, W) in [-1, 1] to (N, D), each picture by itself; a module follows the pictures' device.
        protocol: what a number that is measured with it must tell: its name, the hash of its weights, how pictures
            are resized for it.
    """

    network: Callable[[Tensor], Tensor]
    protocol: Mapping[str, Any] = field(repr=False)

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1], clamped, to (N, D) float32."""
        if isinstance(self.network, nn.Module):
            self.network.to(pictures.device)
        return self.network(pictures.float().clamp(-1, 1)).float()


def inception(weights: str | Path = "imagenet") -> FeatureNet:
    """The Inception of 2015-12-05 with its 2,048 pooled features, which published FID and KID are of.

    torch-fidelity's network and preparation: levels of 8 bits, TensorFlow 1's bilinear resize to 299x299 without
    antialiasing. Its weights pass gangen's own reader, which executes nothing.

    Args:
        weights: "imagenet" (downloaded), or a file with the names of torch-fidelity's, such as its own
            `weights-inception-2015-12-05-6726825d.pth`. A TorchScript file is a program, and refused.

    Raises:
        UserError: torch-fidelity is not installed.
        WeightsError: the weights cannot be had, or belong to another network.
    """
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError as error:
        raise UserError(
            "Inception's features need torch-fidelity. Install it (pip install 'gangen[fid]'), or take another "
            "feature network, such as resnet18."
        ) from error
    path = _find(INCEPTION_URL, weights)
    plain = io.BytesIO()
    torch.save(stored.read(path), plain)
    plain.seek(0)
    try:
        # Its weights are drawn at random before they are read; no training may notice.
        with torch.random.fork_rng(devices=[]):
            network = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=plain)
    except RuntimeError as error:
        raise WeightsError(
            f"{path}: these weights are not those of torch-fidelity's Inception. Give its file "
            f"{INCEPTION_URL.rsplit('/', 1)[-1]}."
        ) from error
    protocol = {
        "network": "inception-2015-12-05",
        "weights": stored.fingerprint(path)[:16],
        "layer": "pool, 2048",
        "resize": "8 bits, then TensorFlow 1's bilinear without antialias to 299x299",
        "library": "torch-fidelity",
        "versions": {"torch-fidelity": version("torch-fidelity")},
    }
    return FeatureNet(_Levels(network), protocol)


def classifier(name: str = "resnet18", weights: str | Path = "imagenet", *, size: int = 224) -> FeatureNet:
    """A classifier of torchvision without its last layer, as a stand-in for Inception: pooled features.

    Numbers of one stand-in compare with one another, and with nothing that is published.

    Args:
        name: any of torchvision's classifiers that end in `fc` or `classifier`: resnet18, alexnet, vgg16, ...
        weights: "imagenet" (downloaded), or a file of torchvision's; its last layers need not be in it.
        size: side in pixels that pictures are brought to, by an antialiased bilinear filter whatever their
            proportions; 224 is what the classifiers were trained with, less is faster.

    Raises:
        UserError: there is no such classifier, or the size is too small.
        WeightsError: the weights cannot be had, or belong to another network.
    """
    if size < 32:
        raise UserError(f"size={size}: pictures are shown to a classifier at 32 pixels a side or more.")
    try:
        url = get_model_weights(name).DEFAULT.url if weights == "imagenet" else ""
        # Without memory first: millions of weights would be drawn at random and thrown away.
        with torch.device("meta"):
            network = get_model(name, weights=None)
    except ValueError as error:
        raise UserError(
            f"{name} is no classifier of torchvision. Take inception, resnet18, resnet50, alexnet, vgg16, ..."
        ) from error
    heads = [head for head in ("fc", "classifier") if hasattr(network, head)]
    if not heads:
        raise UserError(f"{name} has neither fc nor classifier to be taken off. Take resnet18 or another ResNet.")
    for head in heads:
        setattr(network, head, nn.Identity())
    if hasattr(network, "avgpool"):  # AlexNet's and VGG's would leave some places
        network.avgpool = nn.AdaptiveAvgPool2d(1)
    path = _find(url, weights)
    network = network.to_empty(device="cpu").eval().requires_grad_(False)
    stored.load_into(network, stored.read(path), path, may_have=("fc.", "classifier."))
    protocol = {
        "network": f"torchvision {name}",
        "weights": stored.fingerprint(path)[:16],
        "layer": "last, pooled",
        "resize": resize_protocol(size),
    }
    return FeatureNet(_Normalised(network, size, *stored.normalisation(name)), protocol)


def feature_net(name: str = "inception", weights: str | Path = "imagenet") -> FeatureNet:
    """`inception` or a `classifier` by its name, as flags give it."""
    return inception(weights) if name == "inception" else classifier(name, weights)


def resized(pictures: Tensor, size: int) -> Tensor:
    """(N, 3, H, W) to (N, 3, size, size) whatever the proportions, bilinear and antialiased."""
    if pictures.shape[2:] == (size, size):
        return pictures
    return F.resize(pictures, [size, size], antialias=True)


def resize_protocol(size: int) -> str:
    """What `resized` does, in words."""
    return f"bilinear with antialias to {size}x{size}"


class _Levels(nn.Module):
    """A network that takes pictures of 8 bits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pictures: Tensor) -> Tensor:
        found: Tensor = self.network(((pictures + 1) * 127.5).round().to(torch.uint8))[0]
        return found


class _Normalised(nn.Module):
    """A classifier that takes pictures in [-1, 1] of any size."""

    def __init__(self, network: nn.Module, size: int, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network, self.size = network, size
        self.mean, self.std = list(mean), list(std)

    def forward(self, pictures: Tensor) -> Tensor:
        unit = (resized(pictures, self.size) + 1) / 2
        found: Tensor = self.network(F.normalize(unit, self.mean, self.std)).flatten(1)
        return found


def _find(url: str, weights: str | Path) -> Path:
    """The file of weights, downloaded if need be."""
    if weights != "imagenet":
        return Path(weights)
    try:
        return stored.download(url)
    except WeightsError as error:
        raise WeightsError(f"{error} For a feature network: --features FILE, in Python weights=FILE.") from error
