"""What whole trainings beside other libraries share: one body's weights, equal terms, the table of all runs."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from tempfile import TemporaryDirectory
from typing import Any

import torch
from reporting import Found, Table, tell
from timing import device
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import models

from gangen import Learner, weights
from gangen.labels import IGNORED
from gangen.metrics import Metrics
from gangen.metrics.accumulate import AnyMetric

OURS = "gangen"

Answers = Iterable[tuple[Tensor, Tensor]]
"""What a network says and what it should have said, batch by batch: logits or probabilities and labels, or
pictures in [-1, 1]."""

Contestant = Callable[[int, Path], tuple[float, Answers]]
"""Takes a seed and a folder for what it writes, trains, and gives the seconds that took and its answers."""


@dataclass(kw_only=True)
class Runs:
    """What every benchmark of whole trainings lets be set; its own settings derive from it."""

    data: Path
    """The data set's folder, with train/ and val/."""
    weights: Path
    """The body's weights, a ResNet's trained on ImageNet, in torchvision's names."""
    batch_size: int = 8
    """Pictures a batch."""
    workers: int = 1
    """Processes that read pictures."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """A run of each library with each of them, in turn."""
    lanes: int = 1
    """Trainings at a time, each on cores of its own: all are done sooner, each by itself takes longer."""
    out: Path | None = None
    """JSON file for the result."""


@dataclass(kw_only=True)
class Settings(Runs):
    """What those let be set in which a pretrained body is tuned."""

    epochs: int = 3
    """Passes over the data after the first, in which the body is held."""
    lr: float = 2e-3
    """Peak rate of the head, while the body is held."""
    zoom: float = 1.5
    """By how much training pictures are enlarged at most."""
    lighting: float = 0.2
    """How far brightness and contrast vary."""


def compare(
    contestants: Mapping[str, Contestant],
    settings: Runs,
    metrics: Callable[[], Sequence[AnyMetric]],
    title: str,
    about: str,
    packages: Sequence[str] = ("torchvision", "fastai"),
) -> None:
    """Let each contestant train with each seed, judge it, and tell of all.

    Each training has a process of its own, so that what one library sets there, such as how memory is kept,
    neither helps nor hinders another. What is given can therefore be pickled. Beside each other they have equal
    shares of the cores.

    Args:
        contestants: by name.
        settings: of the program; the seeds among them.
        metrics: makes those by which answers are judged.
        title: of what is told.
        about: what was trained, in a sentence.
        packages: whose versions are kept.
    """
    lanes = shares(settings.lanes)
    free: Queue[list[int]] = Queue()
    for own in lanes:
        free.put(own)

    def run(training: tuple[int, str]) -> dict[str, Any]:
        seed, library = training
        cores = free.get()
        try:
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
                judged = alone.submit(train_and_judge, contestants[library], seed, metrics, cores).result()
        finally:
            free.put(cores)
        return {"library": library, "seed": seed, **judged}

    runs = []
    trainings = itertools.product(settings.seeds, contestants)
    with ThreadPoolExecutor(len(lanes)) as pool:
        # One at a time without threads, so that after one that fails none is begun
        for told in pool.map(run, trainings) if len(lanes) > 1 else map(run, trainings):
            runs.append(told)
            print(told, flush=True)
    if len(lanes) > 1:
        about = f"{about} {len(lanes)} trainings ran at a time, each on cores of its own: {len(lanes[0])}."
    tell(found(title, about, runs, packages), settings.out)


def shares(lanes: int) -> list[list[int]]:
    """The cores of each lane, equally many; of a single one none are named, and it is left as it is.

    Raises:
        SystemExit: there are not so many cores.
    """
    if lanes == 1:
        return [[]]
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if not 1 <= lanes <= len(cores):
        raise SystemExit(
            f"--lanes {lanes}: give 1{f' to {len(cores)}' if len(cores) > 1 else ''} on this machine."
        )
    each = len(cores) // lanes
    return [cores[lane * each : (lane + 1) * each] for lane in range(lanes)]


def train_and_judge(
    train: Contestant, seed: int, metrics: Callable[[], Sequence[AnyMetric]], cores: Sequence[int]
) -> dict[str, float]:
    """What its answers are worth, and the seconds that training took; in a process of its own.

    On these cores, with a thread for each, or where none are named on all, as torch has it.
    """
    if cores:
        os.sched_setaffinity(0, cores)
        torch.set_num_threads(len(cores))
    # Which would otherwise start those that read its data as it was started itself: at length, from nothing.
    multiprocessing.set_start_method("fork" if sys.platform == "linux" else None, force=True)
    with TemporaryDirectory() as folder:
        seconds, answered = train(seed, Path(folder) / "run")
        return judge(answered, metrics()) | {"seconds": seconds}


def tune_gangen(
    data: tuple[Any, Any], network: nn.Module, settings: Settings, seed: int, run: Path, **options: Any
) -> tuple[float, Answers]:
    """Fine-tune with a `Learner`; gives the seconds it took, and the answers to the data held out.

    Args:
        data: for training and for validation.
        network: that learns.
        settings: of the program.
        seed: of the training.
        run: the run folder.
        options: of `fine_tune`.
    """
    given = {"batch_size": settings.batch_size, "workers": settings.workers}
    learner = Learner(data, network, run=run, seed=seed, **given)  # type: ignore[arg-type]
    begun = time.perf_counter()
    learner.fine_tune(settings.epochs, lr=settings.lr, **options)
    seconds = time.perf_counter() - begun
    return seconds, answers(learner.pipeline.network.eval(), data[1], device())


def tune_fastai(learner: Any, settings: Settings, ignored: int | None = None) -> tuple[float, Answers]:
    """Fine-tune a learner of fastai's, likewise; labels `ignored` count nowhere."""
    with learner.no_bar(), learner.no_logging():
        begun = time.perf_counter()
        learner.fine_tune(settings.epochs, base_lr=settings.lr)
        seconds = time.perf_counter() - begun
    return seconds, fastai_answers(learner, ignored)


def fastai_variations(settings: Settings, size: tuple[int, int] | None = None) -> list[Any]:
    """fastai's transforms that vary pictures as gangen's `Augment` does: mirrored, enlarged, lit.

    With a `size` they reduce larger pictures to that height and width at the same time, so that what is enlarged
    is not made of what was reduced before: "presizing" (fastai's book, chapter 5).
    """
    from fastai.vision import all as fastai

    varied = [
        fastai.Flip(p=0.5, size=size),
        fastai.Zoom(min_zoom=1.0, max_zoom=settings.zoom, p=1.0),
        fastai.Brightness(settings.lighting, p=1.0),
        fastai.Contrast(settings.lighting, p=1.0),
    ]
    return fastai.setup_aug_tfms(varied)


def on_imagenet_scale(pictures: Tensor) -> Tensor:
    """Pictures (N, 3, H, W) in [-1, 1] as classifiers of ImageNet take them."""
    mean, std = _imagenet(pictures)
    return ((pictures + 1) / 2 - mean) / std


def in_range(pictures: Tensor) -> Tensor:
    """Pictures on that scale, in [-1, 1] again; what is beyond is clamped."""
    mean, std = _imagenet(pictures)
    return ((pictures * std + mean) * 2 - 1).clamp(-1, 1)


def _imagenet(pictures: Tensor) -> tuple[Tensor, Tensor]:
    mean, std = (pictures.new_tensor(each) for each in (weights.IMAGENET_MEAN, weights.IMAGENET_STD))
    return mean.view(3, 1, 1), std.view(3, 1, 1)


def fastai_arch(name: str, file: Path) -> Callable[..., nn.Module]:
    """A torchvision ResNet with these weights, to be passed to fastai as it passes its own around.

    fastai asks an architecture for its published weights; this one answers with the file's.
    """
    from fastai.vision.learner import model_meta

    def arch(**_: Any) -> nn.Module:
        network = getattr(models, name)()
        missing, unknown = network.load_state_dict(weights.read(file), strict=False)
        if unknown or any(not key.startswith("fc.") for key in missing):
            raise ValueError(f"{file} has no weights of {name}: {[*missing, *unknown][:3]}, ...")
        return network

    model_meta[arch] = model_meta[getattr(models, name)]
    return arch


def answers(
    network: Callable[[Tensor], Tensor], data: Dataset[Any], place: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """What a network in eval mode, which takes pictures in [-1, 1], says to all of `data`, and its targets."""
    with torch.inference_mode():
        for batch in DataLoader(data, batch_size=16):
            yield network(batch.input.to(place)).float().cpu(), batch.target


def fastai_answers(learner: Any, ignored: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
    """Probabilities and labels of a fastai learner on its own validation data, prepared as it prepares them.

    Args:
        learner: that has learned.
        ignored: a label that counts nowhere.
    """
    with learner.no_bar(), learner.no_logging():
        found, labels = (tensor.as_subclass(Tensor) for tensor in learner.get_preds(dl=learner.dls.valid))
    yield found, labels if ignored is None else labels.where(labels != ignored, IGNORED)


def judge(answered: Answers, metrics: Sequence[AnyMetric]) -> dict[str, float]:
    """Metrics of answers and their labels, counted over all of them."""
    counted = Metrics(metrics)
    for output, target in answered:
        counted.update(output, target)
    return counted.compute()


def found(title: str, about: str, runs: Sequence[dict[str, Any]], packages: Sequence[str]) -> Found:
    """The runs as a table, mean and standard deviation over the seeds, and each with its numbers.

    Args:
        title: of the table's section.
        about: what was trained, in a sentence.
        runs: "library", "seed", "seconds", and metrics.
        packages: whose versions are kept.
    """
    names = [key for key in runs[0] if key not in ("library", "seed")]
    ours = {run["seed"]: run["seconds"] for run in runs if run["library"] == OURS}
    rows = []
    for library in dict.fromkeys(run["library"] for run in runs):
        own = [run for run in runs if run["library"] == library]
        ratios = [run["seconds"] / ours[run["seed"]] for run in own if run["seed"] in ours]
        cells = [_spread([run[name] for run in own]) for name in names]
        rows.append([library, *cells, _spread(ratios) if ratios else "–"])
    seeds = ", ".join(str(seed) for seed in dict.fromkeys(run["seed"] for run in runs))
    told = f"{about} Mean and standard deviation over the seeds {seeds}; each training has a process of its own."
    return Found(title, [Table(["library", *names, "time, of gangen's"], rows, told)], {"runs": runs}, packages)


def _spread(values: Sequence[float]) -> str:
    """Mean and, of several, standard deviation."""
    shown = f"{statistics.mean(values):.4g}"
    return f"{shown} ± {statistics.stdev(values):.2g}" if len(values) > 1 else shown
