"""Losses that compare what a classifier sees in two pictures instead of their pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gangen.losses.vgg import VGG, gram, see_both

# For a slightly blurred photograph each of these counts about as much as the plain difference of the pixels.
LAYERS = {"relu2_2": 0.1, "relu3_3": 0.1, "relu4_3": 0.2}

STYLE_LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3")
_TINY = 1e-12


class Perceptual(nn.Module):
    """Distance of two pictures through the eyes of VGG-16 (Johnson et al. 2016, arXiv:1603.08155, section 3.2).

    The mean absolute difference of the pixels, plus that of the rectified features of some layers, plus, if
    asked, that of their Gram matrices. The absolute difference stands where the paper squares: it forgives
    single large errors, which is how this loss is commonly used to train restoring generators.

    Pictures are (N, 3, H, W) or, grey, (N, 1, H, W) in [-1, 1]. Gradients are never computed for the target nor
    for the network's own weights; see `gangen.losses.vgg.see_both`.

    Args:
        weights: see `gangen.losses.vgg.VGG`.
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
        self.vgg = VGG(weights, layers, "For the perceptual loss: weights=FILE, or train with a pixel loss alone.")
        self.layers = {name: layers[name] for name in self.vgg.layers}
        self.pixel = pixel
        self.style = style

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """The distance, a scalar in float32; gradients flow to `output` alone.

        Raises:
            UserError: the pictures are too small for the deepest layer, or neither grey nor of three colours.
        """
        target = target.detach()
        ours, theirs = see_both(self.vgg, output, target)
        distance = self.pixel * F.l1_loss(output.float(), target.float())
        for name, weight in self.layers.items():
            seen, wanted = ours[name], theirs[name]
            distance = distance + weight * F.l1_loss(seen.float(), wanted.float())
            if self.style:
                distance = distance + self.style * weight * F.l1_loss(gram(seen), gram(wanted))
        return distance


class Restyle(nn.Module):
    """How far pictures are from the content of one picture and from the style of another.

    Johnson et al. 2016 (arXiv:1603.08155, equations 2 to 4), after Gatys et al. 2015 (arXiv:1508.06576): content
    is the squared difference of features, style that of Gram matrices, each here divided by the square of what
    is wanted. So 0 is a perfect likeness, 1 what a picture without any features would get, and weights mean the
    same for every style and layer.

    The Gram matrices of the style picture are computed once. The size at which it is given decides how large its
    strokes are. A training keeps neither them nor the network in its checkpoints: both come from files.

    Args:
        style: the style picture, (1, 3, H, W) in [-1, 1].
        weights: see `gangen.losses.vgg.VGG`.
        content: the layer whose features make the content.
        layers: those whose Gram matrices make the style, all weighed alike.

    Raises:
        UserError: a layer is unknown, or the style picture is too small for the deepest one.
        WeightsError: the weights cannot be downloaded or read, or belong to another network.
    """

    def __init__(
        self,
        style: Tensor,
        weights: str | Path = "imagenet",
        content: str = "relu3_3",
        layers: Sequence[str] = STYLE_LAYERS,
    ) -> None:
        super().__init__()
        remedy = (
            "Style is judged through VGG-16, so there is no going on without: name its file with --vgg FILE (in "
            "Python: weights=FILE), with torchvision's names."
        )
        self.vgg = VGG(weights, [content, *layers], remedy)
        self.content, self.styles = content, tuple(dict.fromkeys(layers))
        with torch.no_grad():
            seen = self.vgg(style)
            self.grams = {name: gram(seen[name]) for name in self.styles}

    def forward(self, output: Tensor, content: Tensor) -> dict[str, Tensor]:
        """The distances "content", from the pictures `content`, and "style": the means of `each`."""
        return {name: values.mean() for name, values in self.each(output, content).items()}

    def each(self, output: Tensor, content: Tensor) -> dict[str, Tensor]:
        """The distances "content" and "style" of each picture: (N,) in float32.

        Args:
            output: (N, 3, H, W) in [-1, 1]; gradients flow to it alone.
            content: (N, 3, H, W) in [-1, 1].
        """
        ours, theirs = see_both(self.vgg, output, content.detach())
        self.grams = {name: wanted.to(output.device) for name, wanted in self.grams.items()}
        style = [_relative(gram(ours[name]), self.grams[name]) for name in self.styles]
        return {
            "content": _relative(ours[self.content].float(), theirs[self.content].float()),
            "style": torch.stack(style).mean(dim=0),
        }


def _relative(found: Tensor, wanted: Tensor) -> Tensor:
    """Squared distance of each of N from what is wanted, over the latter's square: (N, ...) to (N,)."""
    distance = (found - wanted).square().flatten(1).sum(dim=1)
    return distance / (wanted.square().flatten(1).sum(dim=1) + _TINY)
