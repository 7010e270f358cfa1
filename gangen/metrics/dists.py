"""DISTS: how far two pictures are apart in structure and texture."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import vgg16

from gangen import weights
from gangen.metrics.protocol import Better, describe, unit
from gangen.weights import IMAGENET_MEAN, IMAGENET_STD

_STAGES = ((0, 4), (5, 9), (10, 16), (17, 23), (24, 30))
"""The layers of VGG-16's `features` between its poolings, which DISTS replaces by smoother ones."""
_WIDTHS = (3, 64, 128, 256, 512, 512)


class DISTS:
    """Deep image structure and texture similarity (Ding et al. 2020, arXiv:2004.07728, eq. 6); lower is closer.

    Unlike LPIPS it forgives a texture that is like the target's but lies elsewhere. torchmetrics' computation, of
    pictures at their own size; the authors reduce the shorter side to 256 first. Nothing is downloaded.

    Args:
        weights: file of torchvision's VGG-16 (`features.N...`; half precision will do).
        head: file of DISTS's own `alpha` and `beta`; those that come with torchmetrics when None.

    Raises:
        WeightsError: a file cannot be read or belongs to another network.
    """

    name = "dists"
    better: Better = "lower"

    def __init__(self, *, weights: str | Path, head: str | Path | None = None) -> None:
        head = head or str(resources.files("torchmetrics") / "functional/image/dists_models/weights.pt")
        self._network = _network(Path(weights), Path(head))
        self.protocol: dict[str, Any] = {
            **describe(library="torchmetrics"),
            "network": "vgg16",
            "weights": _hash(weights),
            "head": _hash(head),
        }

    @torch.no_grad()
    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """(N, 3, H, W) twice, in [-1, 1], to (N,).

        Raises:
            ValueError: the shapes differ.
        """
        output, target = unit(output, target)
        values: Tensor = self._network.to(output.device)(output, target)
        return values.reshape(len(output))


def _network(features: Path, head: Path) -> nn.Module:
    # torchmetrics brings scipy along, seconds that most programs would wait for nothing.
    from torchmetrics.functional.image.dists import DISTSNetwork, L2pooling

    class Network(DISTSNetwork):
        """torchmetrics' network, built from local files: its own constructor downloads VGG-16 each time."""

        def __init__(self) -> None:
            nn.Module.__init__(self)
            with torch.device("meta"):
                layers = vgg16(weights=None).features
            layers = layers[: _STAGES[-1][1]].to_empty(device="cpu")
            weights.load_part(layers, features, "features.")
            for number, (first, last) in enumerate(_STAGES):
                pooling = [L2pooling(channels=_WIDTHS[number])] if number else []
                setattr(self, f"stage{number + 1}", nn.Sequential(*pooling, *layers[first:last]))
            self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, -1, 1, 1), persistent=False)
            self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, -1, 1, 1), persistent=False)
            self.chns = list(_WIDTHS)
            weighing = nn.ParameterDict({n: torch.empty(1, sum(_WIDTHS), 1, 1) for n in ("alpha", "beta")})
            weights.load_into(weighing, weights.read(head), head)
            self.alpha, self.beta = weighing["alpha"], weighing["beta"]

    return Network().eval().requires_grad_(False)


def _hash(path: str | Path) -> str:
    """The beginning of a file's hash, long enough to tell weights apart."""
    return weights.fingerprint(path)[:16]
