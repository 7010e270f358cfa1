"""Photographs in ten classes, told apart by gangen and by fastai's `vision_learner(...).fine_tune(3)`.

    pip install "gangen[peers]"
    python benchmarks/imagenette.py --data imagenette --weights resnet34.safetensors

Both begin from one file of weights of a ResNet-34 and learn from the same pictures for as many epochs, the
first with the body held, at the same peak rate, with pictures mirrored, enlarged and lit as strongly; and both
are judged on the same pictures, prepared as each does it. What is timed is the call that trains, validation after
each epoch included.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import tyro
from peers import OURS, Answers, answers, device, fastai_answers, fastai_arch, judge, tell

from gangen import Learner
from gangen.data import Augment, ClassSet, open_classes
from gangen.metrics import accuracy
from gangen.nets import Body, ClassHead, Classifier
from gangen.train import set_seed

Library = Literal["gangen", "fastai"]


@dataclass
class Settings:
    """What is measured."""

    data: Path
    """Imagenette: train/ and val/ with a folder for each class."""
    weights: Path
    """A ResNet-34 trained on ImageNet, in torchvision's names."""
    size: int = 96
    """Side of the pictures, in pixels."""
    epochs: int = 3
    """Passes over the data after the first, in which the body is held."""
    batch_size: int = 32
    """Pictures a batch."""
    lr: float = 2e-3
    """Peak rate of `fine_tune`."""
    zoom: float = 1.25
    """By how much training pictures are enlarged at most."""
    lighting: float = 0.2
    """How far brightness and contrast vary."""
    workers: int = 1
    """Processes that read pictures."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """A run of each library with each of them, in turn."""
    libraries: tuple[Library, ...] = ("gangen", "fastai")
    """Which are run."""
    out: Path | None = None
    """JSON file for the result."""


def opened(settings: Settings) -> tuple[ClassSet, ClassSet]:
    varied = Augment(settings.size, scale=(1 / settings.zoom, 1.0), jitter=settings.lighting)
    return open_classes(settings.data, size=settings.size, augment=varied, keep=512)


def by_gangen(settings: Settings, seed: int, run: Path) -> tuple[float, Answers]:
    data = opened(settings)
    set_seed(seed)
    network = Classifier(Body("resnet34", settings.weights), ClassHead(len(data[0].classes)))
    given = {"batch_size": settings.batch_size, "workers": settings.workers}
    learner = Learner(data, network, run=run, seed=seed, **given)  # type: ignore[arg-type]
    begun = time.perf_counter()
    learner.fine_tune(settings.epochs, lr=settings.lr)
    seconds = time.perf_counter() - begun
    return seconds, answers(learner.pipeline.network.eval(), data[1], device())


def by_fastai(settings: Settings, seed: int, run: Path) -> tuple[float, Answers]:
    from fastai.vision import all as fastai

    fastai.set_seed(seed, reproducible=True)
    varied = [
        fastai.Flip(p=0.5),
        fastai.Zoom(min_zoom=1.0, max_zoom=settings.zoom, p=1.0),
        fastai.Brightness(settings.lighting, p=1.0),
        fastai.Contrast(settings.lighting, p=1.0),
    ]
    loaders = fastai.ImageDataLoaders.from_folder(
        settings.data,
        train="train",
        valid="val",
        item_tfms=fastai.Resize(settings.size),
        batch_tfms=fastai.setup_aug_tfms(varied),
        bs=settings.batch_size,
        num_workers=settings.workers,
    )
    names = opened(settings)[0].classes.names
    if list(loaders.vocab) != list(names):
        raise ValueError(f"the classes are not in one order: {loaders.vocab} and {names}")
    learner = fastai.vision_learner(loaders, fastai_arch("resnet34", settings.weights), path=run)
    with learner.no_bar(), learner.no_logging():
        begun = time.perf_counter()
        learner.fine_tune(settings.epochs, base_lr=settings.lr)
        seconds = time.perf_counter() - begun
    return seconds, fastai_answers(learner)


BY = {OURS: by_gangen, "fastai": by_fastai}


def main(settings: Settings) -> None:
    metrics = [accuracy(len(opened(settings)[1].classes))]
    runs = []
    for seed in settings.seeds:
        for library in settings.libraries:
            with TemporaryDirectory() as folder:
                seconds, answered = BY[library](settings, seed, Path(folder) / "run")
                found = judge(answered, metrics)
            runs.append({"library": library, "seed": seed, **found, "seconds": seconds})
            print(runs[-1], flush=True)
    tell(runs, asdict(settings), settings.out, ("torch", "torchvision", "fastai"))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
