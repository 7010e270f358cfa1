"""A loss that compares what a classifier sees in two pictures instead of their pixels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import VGG16_Weights
from torchvision.models.vgg import cfgs, make_layers

from gangen import weights as stored
from gangen.errors import UserError, WeightsError

# Where VGG-16's rectified convolutions stand among torchvision's `features`. A pooling follows each block's last.
_PLACES = {
    "relu1_1": 1, "relu1_2": 3,
    "relu2_1": 6, "relu2_2": 8,
    "relu3_1": 11, "relu3_2": 13, "relu3_3": 15,
    "relu4_1": 18, "relu4_2": 20, "relu4_3": 22,
    "relu5_1": 25, "relu5_2": 27, "relu5_3": 29,
}  # fmt: skip

# For a slightly blurred photograph each of these counts about as much as the plain difference of the pixels.
LAYERS = {"relu2_2": 0.1, "relu3_3": 0.1, "relu4_3": 0.2}


class Perceptual(nn.Module):
    """Distance of two pictures through the eyes of VGG-16 (Johnson et al. 2016, arXiv:1603.08155, section 3.2).

    The mean absolute difference of the pixels, plus that of the rectified features of some layers, plus, if
    asked, that of their Gram matrices. The absolute difference stands where the paper squares: it forgives
    single large errors, which is how this loss is commonly used to train restoring generators.

    Pictures are (N, 3, H, W) or, grey, (N, 1, H, W) in [-1, 1]; the ImageNet normalisation happens inside.
    The target runs through the network by itself without a graph: joined with the output in one batch, its
    activations would be kept and its half of the backward pass be computed for nothing.

    The network learns nothing and moves by itself to the device of the pictures. Keep it out of the
    generator, so that it is not saved with it.

    Args:
        weights: "imagenet" (downloads torchvision's, 528 MB) or a local file in torchvision's names and
            layout, with or without its classifier, half precision too.
        layers: weight of each layer that is compared, by names such as "relu2_2", the second of the second block.
        pixel: weight of the plain difference; 0 leaves it out.
        style: weight of the Gram matrices beside the features (section 3.2, equation 4); 0 leaves them out.
            Their numbers are small: some hundreds make them count as much as the features.

    Raises:
        UserError: a layer is unknown, or none is given.
        WeightsError: the weights cannot be downloaded or read, or belong to another network.
    """

    def __init__(
        self,
        weights: str | Path = "imagenet",
        layers: Mapping[str, float] = LAYERS,
        pixel: float = 1.0,
        style: float = 0.0,
    ) -> None:
        super().__init__()
        unknown = [name for name in layers if name not in _PLACES]
        if unknown or not layers:
            raise UserError(f"layers {unknown or 'none'} cannot be compared; choose from {', '.join(_PLACES)}.")
        self.layers = dict(sorted(layers.items(), key=lambda item: _PLACES[item[0]]))
        self.pixel = pixel
        self.style = style
        deepest = _PLACES[list(self.layers)[-1]]
        self.features = make_layers(cfgs["D"], batch_norm=False)[: deepest + 1]
        self.smallest = 2 ** sum(isinstance(layer, nn.MaxPool2d) for layer in self.features)
        self.register_buffer(
            "centre", 2 * torch.tensor(stored.IMAGENET_MEAN).view(1, 3, 1, 1) - 1, persistent=False
        )
        self.register_buffer("spread", 2 * torch.tensor(stored.IMAGENET_STD).view(1, 3, 1, 1), persistent=False)
        self.centre: Tensor
        self.spread: Tensor
        self._load(weights)
        self.requires_grad_(False)
        self.eval()

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """The distance, a scalar; gradients flow to `output` alone.

        Raises:
            UserError: the pictures are too small for the deepest layer, or neither grey nor of three colours.
        """
        self._check(output)
        if self.centre.device != output.device:
            self.to(output.device)
        with torch.no_grad():
            expected = self._see(target)
        distance = self.pixel * F.l1_loss(output, target.detach())
        for weight, seen, wanted in zip(self.layers.values(), self._see(output), expected, strict=True):
            distance = distance + weight * F.l1_loss(seen, wanted)
            if self.style:
                distance = distance + self.style * weight * F.l1_loss(gram(seen), gram(wanted))
        return distance

    def train(self, mode: bool = True) -> Perceptual:
        """Stays in eval mode: it judges and does not learn."""
        return super().train(False)

    def _see(self, pictures: Tensor) -> list[Tensor]:
        """The features of each layer in `layers`, finest first."""
        x = (pictures - self.centre) / self.spread  # a grey picture becomes three equal colours here
        places = {_PLACES[name] for name in self.layers}
        seen = []
        for place, layer in enumerate(self.features):
            x = layer(x)
            if place in places:
                seen.append(x)
        return seen

    def _check(self, pictures: Tensor) -> None:
        channels, height, width = pictures.shape[1:]
        if channels not in (1, 3):
            raise UserError(
                f"pictures with {channels} channels cannot be compared through VGG-16; it knows 1 or 3."
            )
        if min(height, width) < self.smallest:
            raise UserError(
                f"pictures of {width}x{height} pixels are too small for layer {list(self.layers)[-1]}, which "
                f"needs {self.smallest} a side; train at a larger size or compare earlier layers."
            )

    def _load(self, weights: str | Path) -> None:
        remedy = "For the perceptual loss: weights=FILE, or train with a pixel loss alone."
        try:
            url = VGG16_Weights.IMAGENET1K_V1.url
            path = stored.download(url) if weights == "imagenet" else Path(weights)
            stored.load_into(self, stored.read(path), path, may_have=("features.", "classifier."))
        except WeightsError as error:
            raise WeightsError(f"{error} {remedy}") from error


def gram(features: Tensor) -> Tensor:
    """Which features occur together, wherever: (N, C, H, W) to (N, C, C), divided by C * H * W.

    Equation 3 of Johnson et al. 2016 (arXiv:1603.08155).
    """
    channels, height, width = features.shape[1:]
    flat = features.flatten(2)
    return flat @ flat.mT / (channels * height * width)
