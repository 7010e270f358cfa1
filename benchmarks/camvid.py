"""Street scenes labelled by gangen, by fastai's `unet_learner` and by segmentation_models_pytorch's `Unet`.

    pip install "gangen[peers]"
    python benchmarks/camvid.py --data camvid --weights resnet34.safetensors

All begin from one file of weights of a ResNet-34, learn from the same 367 pictures for as many epochs, the
first with the body held, with pictures mirrored, enlarged and lit as strongly (fastai's by presizing, from
pictures that are larger by as much); and all are judged on the same 101 pictures, prepared as each does it, by
the same count, Void aside. Their decoders differ, and so does the peak rate that suits them: each learns at the
one of 2e-3 (fastai's default) and 4e-3 that gave it the better mean IoU for seed 0 (`--rates`; fastai's was
chosen without presizing). What is timed is the call that trains, validation after each epoch included for gangen
and fastai. segmentation_models_pytorch has no loop: its network learns in one as its users write it, from
gangen's data. On a GPU, `--size 360 480` is what CamVid's numbers are known for, with `--epochs 30`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from peers import (
    OURS,
    Answers,
    Contestant,
    Settings,
    answers,
    compare,
    fastai_arch,
    fastai_variations,
    on_imagenet_scale,
    tune_fastai,
    tune_gangen,
)
from timing import device
from torch import nn
from torch.utils.data import DataLoader

from gangen import weights
from gangen.data import Augment, Masks, open_masks
from gangen.losses import cross_entropy
from gangen.metrics import CountMetric, accuracy, mean_iou
from gangen.nets import Body, MaskHead, UNet
from gangen.train import set_seed

Library = Literal["gangen", "fastai", "smp"]


@dataclass(kw_only=True)
class CamVid(Settings):
    """What is measured."""

    size: tuple[int, int] = (96, 128)
    """Height and width of the pictures, in pixels."""
    libraries: tuple[Library, ...] = ("gangen", "fastai", "smp")
    """Which are run."""
    rates: dict[str, float] = field(default_factory=lambda: {"gangen": 4e-3})
    """Peak rates of single libraries, where they are not --lr."""


def opened(settings: CamVid) -> tuple[Masks, Masks]:
    varied = Augment(settings.size, scale=(1 / settings.zoom, 1.0), jitter=settings.lighting)
    return open_masks(settings.data, size=settings.size, augment=varied, keep=512)


def by_gangen(settings: CamVid, seed: int, run: Path) -> tuple[float, Answers]:
    data = opened(settings)
    set_seed(seed)
    network = UNet(Body("resnet34", settings.weights), MaskHead(len(data[0].classes)))
    return tune_gangen(data, network, settings, seed, run)


def by_fastai(settings: CamVid, seed: int, run: Path) -> tuple[float, Answers]:
    from fastai.vision import all as fastai

    fastai.set_seed(seed)
    codes = opened(settings)[0].classes.names
    larger = tuple(round(settings.zoom * side) for side in settings.size)
    block = fastai.DataBlock(
        blocks=(fastai.ImageBlock, fastai.MaskBlock(codes=[*codes, "Void"])),
        get_items=lambda folder: sorted(folder.glob("*/images/*")),
        splitter=fastai.FuncSplitter(lambda path: path.parent.parent.name == "val"),
        get_y=lambda path: path.parent.parent / "labels" / f"{path.stem}.png",
        item_tfms=fastai.Resize(larger, method=fastai.ResizeMethod.Squish),
        batch_tfms=fastai_variations(settings, settings.size),
    )
    given = {"bs": settings.batch_size, "num_workers": settings.workers}
    loaders = block.dataloaders(settings.data, **given)
    learner = fastai.unet_learner(
        loaders,
        fastai_arch("resnet34", settings.weights),
        n_out=len(codes),
        loss_func=fastai.CrossEntropyLossFlat(axis=1, ignore_index=len(codes)),
        path=run,
    )
    return tune_fastai(learner, settings, ignored=len(codes))


def by_smp(settings: CamVid, seed: int, run: Path) -> tuple[float, Answers]:
    import segmentation_models_pytorch as smp

    train, held_out = opened(settings)
    set_seed(seed)
    network = smp.Unet("resnet34", encoder_weights=None, classes=len(train.classes))
    network.encoder.load_state_dict(weights.read(settings.weights), strict=False)
    network.to(device())
    loader = DataLoader(
        train,
        settings.batch_size,
        shuffle=True,
        num_workers=settings.workers,
        drop_last=True,
        persistent_workers=settings.workers > 0,
    )
    begun = time.perf_counter()
    network.train()
    for frozen, epochs in ((True, 1), (False, settings.epochs)):
        _learn(network, loader, settings.lr if frozen else settings.lr / 2, frozen, epochs)
    seconds = time.perf_counter() - begun
    network.eval()
    return seconds, answers(lambda pictures: network(on_imagenet_scale(pictures)), held_out, device())


def _learn(network: Any, loader: DataLoader[Any], lr: float, frozen: bool, epochs: int) -> None:
    """One cycle, the encoder held or at a tenth of the decoder's rate."""
    held: list[nn.Parameter] = list(network.encoder.parameters())
    learned = [*network.decoder.parameters(), *network.segmentation_head.parameters()]
    groups = [(learned, lr)] if frozen else [(learned, lr), (held, lr / 10)]
    optimizer = torch.optim.Adam([{"params": group} for group, _ in groups], weight_decay=0.0)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [rate for _, rate in groups], epochs=epochs, steps_per_epoch=len(loader)
    )
    for parameter in held:
        parameter.requires_grad_(not frozen)
    for _ in range(epochs):
        for batch in loader:
            logits = network(on_imagenet_scale(batch.input.to(device())))
            loss = cross_entropy(logits, batch.target.to(device()))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            cycle.step()


BY: dict[str, Callable[[CamVid, int, Path], tuple[float, Answers]]] = {
    OURS: by_gangen,
    "fastai": by_fastai,
    "smp": by_smp,
}


def judged_by(settings: CamVid) -> list[CountMetric]:
    count = len(opened(settings)[1].classes)
    return [accuracy(count, "pixel_accuracy"), mean_iou(count)]


def main(settings: CamVid) -> None:
    contestants: dict[str, Contestant] = {
        name: partial(BY[name], replace(settings, lr=settings.rates.get(name, settings.lr)))
        for name in settings.libraries
    }
    rates = ", ".join(f"{name} {settings.rates.get(name, settings.lr):g}" for name in settings.libraries)
    height, width = settings.size
    about = (
        f"Street scenes of {height}x{width}, an epoch with the body held and {settings.epochs} more; "
        f"peak rates: {rates}."
    )
    packages = ("torchvision", "fastai", "segmentation-models-pytorch")
    compare(contestants, settings, partial(judged_by, settings), "CamVid", about, packages)


if __name__ == "__main__":
    main(tyro.cli(CamVid, description=__doc__))
