"""What the UNet learns beside a plain decoder on the same body.

    python benchmarks/learning.py --data PAIRS --weights resnet18.safetensors   # about 4 minutes

Told are the mean absolute error, on a scale of 0 to 1, on held-out pairs after equal steps on equal batches
with equal rates and an L1 loss, and the seconds that the training took. The plain decoder doubles by nearest
neighbour, joins the body's map, and convolves twice with batch norm, as in Ronneberger et al. 2015
(arXiv:1505.04597), with the widths 256, 128, 64, 32, 16 that are customary on ResNets.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from reporting import Found, Table, tell
from torch import Tensor, nn
from torch.nn import functional as F

from gangen.data import Augment, open_pairs
from gangen.losses import l1
from gangen.metrics import L1
from gangen.nets import Body, ImageHead, UNet
from gangen.train import Phase, Player, Trainer, Validation, launch, set_seed
from gangen.train.schedule import one_cycle


@dataclass(kw_only=True)
class Settings:
    """What is measured."""

    data: Path
    """Folder of pairs."""
    input_folder: str = "sketch"
    """Folder of the inputs inside the data."""
    target_folder: str = "color"
    """Folder of the targets inside the data."""
    weights: str = "none"
    """The body's weights: none, imagenet, or a file."""
    size: int = 64
    """Side of the pictures, in pixels."""
    steps: int = 250
    """Steps, of 8 pictures."""
    seeds: int = 1
    """Runs of each."""
    out: Path | None = None
    """JSON file for the result."""


class Plain(nn.Module):
    """Body, nearest-neighbour doubling, two convolutions a level."""

    def __init__(self, body: Body) -> None:
        super().__init__()
        self.body = body
        skips = [*reversed(body.channels[:-1]), 0]
        channels = [body.channels[-1], 256, 128, 64, 32, 16]
        self.levels = nn.ModuleList(
            nn.Sequential(_conv(channels[k] + skips[k], channels[k + 1]), _conv(channels[k + 1], channels[k + 1]))
            for k in range(5)
        )
        self.head = nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1] to the same; sides are multiples of 32."""
        *skips, y = self.body(x)
        for level, skip in zip(self.levels, [*reversed(skips), None], strict=True):
            y = F.interpolate(y, scale_factor=2.0, mode="nearest")
            y = level(y if skip is None else torch.cat([y, skip], 1))
        return torch.tanh(self.head(y))


def _conv(inputs: int, outputs: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


DECODERS: dict[str, Callable[[Body], nn.Module]] = {
    "gangen UNet": lambda body: UNet(body, ImageHead(3)),
    "plain decoder": Plain,
}


def learn(settings: Settings, name: str, seed: int) -> dict[str, Any]:
    train, held_out = open_pairs(
        settings.data,
        input_folder=settings.input_folder,
        target_folder=settings.target_folder,
        size=settings.size,
        augment=Augment(settings.size),
    )
    set_seed(seed)
    network = DECODERS[name](Body("resnet18", settings.weights))
    player = Player(
        "generator",
        network,
        lambda nets, batch: {"pixel": l1(nets.generator(batch.input), batch.target)},
        lr=1e-3,
        schedule=one_cycle(),
    )
    judge = Validation(held_out, [L1])
    trainer = Trainer(None, train, batch_size=8, seed=seed, callbacks=[judge], accelerator=launch())
    begun = time.perf_counter()
    trainer.fit([Phase(f"{name}, seed {seed}", [player], settings.steps)])
    return {"network": name, "seed": seed, **judge.latest, "seconds": round(time.perf_counter() - begun, 1)}


def main(settings: Settings) -> None:
    runs = [learn(settings, name, seed) for seed in range(settings.seeds) for name in DECODERS]
    heads = ["network", "L1, by seed", "seconds, by seed"]
    rows = []
    for name in DECODERS:
        own = [run for run in runs if run["network"] == name]
        rows.append(
            [name, ", ".join(f"{run['l1']:.4f}" for run in own), ", ".join(f"{run['seconds']}" for run in own)]
        )
    about = f"{settings.steps} steps of 8 pictures of {settings.size}x{settings.size}."
    tell(Found("What the UNet learns", [Table(heads, rows, about)], {"runs": runs}), settings.out)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
