"""Photographs in ten classes, told apart by gangen and by fastai's `vision_learner(...).fine_tune(3)`.

    pip install "gangen[peers]"
    python benchmarks/imagenette.py --data imagenette --weights resnet34.safetensors

Both begin from one file of weights of a ResNet-34 and learn from the same pictures for as many epochs, the
first with the body held, at the same peak rate, with pictures mirrored, enlarged and lit as strongly; and both
are judged on the same pictures, prepared as each does it. What is timed is the call that trains, validation after
each epoch included.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import tyro
from peers import (
    OURS,
    Answers,
    Contestant,
    Settings,
    compare,
    fastai_arch,
    fastai_variations,
    tune_fastai,
    tune_gangen,
)

from gangen.data import Augment, ClassSet, open_classes
from gangen.metrics import CountMetric, accuracy
from gangen.nets import Body, ClassHead, Classifier
from gangen.train import set_seed

Library = Literal["gangen", "fastai"]


@dataclass(kw_only=True)
class Imagenette(Settings):
    """What is measured."""

    size: int = 96
    """Side of the pictures, in pixels."""
    batch_size: int = 32
    """Pictures a batch."""
    zoom: float = 1.25
    """By how much training pictures are enlarged at most."""
    libraries: tuple[Library, ...] = ("gangen", "fastai")
    """Which are run."""


def opened(settings: Imagenette) -> tuple[ClassSet, ClassSet]:
    varied = Augment(settings.size, scale=(1 / settings.zoom, 1.0), jitter=settings.lighting)
    return open_classes(settings.data, size=settings.size, augment=varied, keep=512)


def by_gangen(settings: Imagenette, seed: int, run: Path) -> tuple[float, Answers]:
    data = opened(settings)
    set_seed(seed)
    network = Classifier(Body("resnet34", settings.weights), ClassHead(len(data[0].classes)))
    return tune_gangen(data, network, settings, seed, run, norms="adapt")


def by_fastai(settings: Imagenette, seed: int, run: Path) -> tuple[float, Answers]:
    from fastai.vision import all as fastai

    fastai.set_seed(seed)
    loaders = fastai.ImageDataLoaders.from_folder(
        settings.data,
        train="train",
        valid="val",
        item_tfms=fastai.Resize(settings.size),
        batch_tfms=fastai_variations(settings),
        bs=settings.batch_size,
        num_workers=settings.workers,
    )
    names = opened(settings)[0].classes.names
    if list(loaders.vocab) != list(names):
        raise ValueError(f"the classes are not in one order: {loaders.vocab} and {names}")
    learner = fastai.vision_learner(loaders, fastai_arch("resnet34", settings.weights), path=run)
    return tune_fastai(learner, settings)


BY = {OURS: by_gangen, "fastai": by_fastai}


def judged_by(settings: Imagenette) -> list[CountMetric]:
    return [accuracy(len(opened(settings)[1].classes))]


def main(settings: Imagenette) -> None:
    contestants: dict[str, Contestant] = {name: partial(BY[name], settings) for name in settings.libraries}
    size, epochs = settings.size, settings.epochs
    learned, judged = (len(part) for part in opened(settings))
    about = (
        f"{learned:,} photographs of {size}x{size}, and {judged:,} held out; an epoch with the body held and "
        f"{epochs} more. gangen's norms adapt while the body is held, fastai's learn."
    )
    compare(contestants, settings, partial(judged_by, settings), "Imagenette", about)


if __name__ == "__main__":
    main(tyro.cli(Imagenette, description=__doc__))
