"""What the benchmarks beside other libraries share: one body's weights for all, and the table of all runs."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import models

from gangen import weights
from gangen.files import write_json
from gangen.labels import IGNORED
from gangen.metrics import CountMetric, Metrics

OURS = "gangen"

Answers = Iterable[tuple[Tensor, Tensor]]
"""Logits or probabilities of classes, and the labels, batch by batch."""


def on_imagenet_scale(pictures: Tensor) -> Tensor:
    """Pictures (N, 3, H, W) in [-1, 1] as classifiers of ImageNet take them."""
    mean = pictures.new_tensor(weights.IMAGENET_MEAN).view(3, 1, 1)
    std = pictures.new_tensor(weights.IMAGENET_STD).view(3, 1, 1)
    return ((pictures + 1) / 2 - mean) / std


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
    """Logits and labels of a network in eval mode, which takes pictures in [-1, 1], on all of `data`."""
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


def judge(answered: Answers, metrics: Sequence[CountMetric]) -> dict[str, float]:
    """Metrics of answers and their labels, counted over all of them."""
    counted = Metrics(metrics)
    for output, target in answered:
        counted.update(output, target)
    return counted.compute()


def device() -> torch.device:
    """Where all of them learn."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def tell(runs: Sequence[dict[str, Any]], settings: Any, out: Path | None, packages: Sequence[str]) -> None:
    """Print the runs as a table of Markdown, mean and standard deviation over the seeds, and keep them as JSON.

    Args:
        runs: "library", "seed", "seconds", and metrics.
        settings: of the program, kept with them.
        out: the JSON file, or None.
        packages: whose versions are kept.
    """
    names = [key for key in runs[0] if key not in ("library", "seed")]
    libraries = list(dict.fromkeys(run["library"] for run in runs))
    print(f"\n| library | {' | '.join(names)} | time, of gangen's |\n|{'---|' * (len(names) + 2)}")
    ours = {run["seed"]: run["seconds"] for run in runs if run["library"] == OURS}
    for library in libraries:
        own = [run for run in runs if run["library"] == library]
        cells = [_spread([run[name] for run in own]) for name in names]
        ratios = [run["seconds"] / ours[run["seed"]] for run in own if run["seed"] in ours]
        print(f"| {library} | {' | '.join(cells)} | {_spread(ratios) if ratios else '–'} |")
    if out:
        versions = {name: version(name) for name in packages} | {"python": platform.python_version()}
        write_json(out, {"settings": settings, "versions": versions, "runs": list(runs)})


def _spread(values: Sequence[float]) -> str:
    """Mean and, of several, standard deviation."""
    shown = f"{statistics.mean(values):.4g}"
    return f"{shown} ± {statistics.stdev(values):.2g}" if len(values) > 1 else shown
