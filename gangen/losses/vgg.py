"""VGG-16 as an eye: the features that losses compare, without a gradient for its own weights."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import VGG16_Weights
from torchvision.models.vgg import cfgs, make_layers

from gangen import weights as stored
from gangen.errors import UserError, WeightsError
from gangen.layout import laying_out

# Where VGG-16's rectified convolutions stand among torchvision's `features`. A pooling follows each block's last.
PLACES = {
    "relu1_1": 1, "relu1_2": 3,
    "relu2_1": 6, "relu2_2": 8,
    "relu3_1": 11, "relu3_2": 13, "relu3_3": 15,
    "relu4_1": 18, "relu4_2": 20, "relu4_3": 22,
    "relu5_1": 25, "relu5_2": 27, "relu5_3": 29,
}  # fmt: skip


class VGG(nn.Module):
    """Rectified features of VGG-16 (Simonyan & Zisserman 2014, arXiv:1409.1556) at some of its layers.

    Pictures are (N, 3, H, W) or, grey, (N, 1, H, W) in [-1, 1]; the ImageNet normalisation happens inside. It
    learns nothing, stays in eval mode and moves by itself to the device of the pictures. Under autocast it
    computes in autocast's type. Keep it out of the generator, so that it is not saved with it.

    Args:
        weights: "imagenet" (downloads torchvision's, 528 MB) or a local file in torchvision's names and
            layout, with or without its classifier, half precision too.
        layers: names such as "relu2_2", the second of the second block.
        remedy: what the person may do where the weights cannot be had, for the error.

    Attributes:
        layers: their names, finest first.
        smallest: least height and width of a picture, in pixels.

    Raises:
        UserError: a layer is unknown, or none is given.
        WeightsError: the weights cannot be downloaded or read, or belong to another network.
    """

    def __init__(self, weights: str | Path, layers: Iterable[str], remedy: str) -> None:
        super().__init__()
        named = list(dict.fromkeys(layers))
        unknown = [name for name in named if name not in PLACES]
        if unknown or not named:
            raise UserError(f"layers {unknown or 'none'} cannot be compared; choose from {', '.join(PLACES)}.")
        self.layers = sorted(named, key=PLACES.__getitem__)
        self.features = make_layers(cfgs["D"], batch_norm=False)[: PLACES[self.layers[-1]] + 1]
        self.smallest = 2 ** sum(isinstance(layer, nn.MaxPool2d) for layer in self.features)
        self.register_buffer(
            "centre", 2 * torch.tensor(stored.IMAGENET_MEAN).view(1, 3, 1, 1) - 1, persistent=False
        )
        self.register_buffer("spread", 2 * torch.tensor(stored.IMAGENET_STD).view(1, 3, 1, 1), persistent=False)
        self.centre: Tensor
        self.spread: Tensor
        self._load(weights, remedy)
        self.requires_grad_(False)
        self.eval()

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """The features (N, C, h, w) by layer, finest first. On some CPUs they lie with channels last in memory.

        Raises:
            UserError: the pictures are too small for the deepest layer, or neither grey nor of three colours.
        """
        self._check(pictures)
        if self.centre.device != pictures.device:
            with torch.inference_mode(False):  # a training may use it after a validation has
                self.to(pictures.device)
        x = (pictures - self.centre) / self.spread  # a grey picture becomes three equal colours here
        names = {PLACES[name]: name for name in self.layers}
        seen = {}
        with laying_out(self, x):
            for place, layer in enumerate(self.features):
                x = layer(x)
                if place in names:
                    seen[names[place]] = x
        return seen

    def train(self, mode: bool = True) -> VGG:
        """Stays in eval mode: it judges and does not learn."""
        return super().train(False)

    def _check(self, pictures: Tensor) -> None:
        channels, height, width = pictures.shape[1:]
        if channels not in (1, 3):
            raise UserError(
                f"pictures with {channels} channels cannot be compared through VGG-16; it knows 1 or 3."
            )
        if min(height, width) < self.smallest:
            raise UserError(
                f"pictures of {width}x{height} pixels are too small for layer {self.layers[-1]}, which "
                f"needs {self.smallest} a side; train at a larger size or compare earlier layers."
            )

    def _load(self, weights: str | Path, remedy: str) -> None:
        try:
            url = VGG16_Weights.IMAGENET1K_V1.url
            path = stored.download(url) if weights == "imagenet" else Path(weights)
            stored.load_into(self, stored.read(path), path, may_have=("features.", "classifier."))
        except WeightsError as error:
            raise WeightsError(f"{error} {remedy}") from error


def see_both(eye: VGG, output: Tensor, target: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The features of output and target; gradients flow to `output` alone.

    Where no gradient is wanted, as in validation, both go through the network once, as one batch. Where one is,
    the target goes by itself without a graph: joined, its activations would be kept and its half of the
    backward pass be computed for nothing. Forward and backward, batches of 8, one thread, median of 12 and 7
    (relu2_2 to relu4_3): 0.69 s against 0.93 s joined at 64 pixels, 2.78 s against 4.30 s at 128. A joined
    forward with a backward pass of its own, written by hand for the outputs alone, took 0.73 s and 2.86 s.
    """
    if torch.is_grad_enabled() and output.requires_grad:
        with torch.no_grad():
            wanted = eye(target)
        return eye(output), wanted
    with torch.no_grad():
        joined = eye(torch.cat([output, target]))
    count = len(output)
    return {k: v[:count] for k, v in joined.items()}, {k: v[count:] for k, v in joined.items()}


def gram(features: Tensor) -> Tensor:
    """Which features occur together, wherever: (N, C, H, W) to (N, C, C) float32, divided by C * H * W.

    Equation 3 of Johnson et al. 2016 (arXiv:1603.08155). Always in float32: of bfloat16's 8 bits nothing would be
    left in the difference of two such sums.
    """
    channels, height, width = features.shape[1:]
    with torch.autocast(features.device.type, enabled=False):
        flat = features.float().flatten(2)
        return flat @ flat.mT / (channels * height * width)
