"""What the benchmarks beside other libraries share: one body's weights for all, and the table of all runs."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import models

from gangen import weights
from gangen.files import write_json
from gangen.metrics import CountMetric, Metrics

OURS = "gangen"


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


def judge(
    network: Callable[[Tensor], Tensor], data: Dataset[Any], metrics: Sequence[CountMetric], device: torch.device
) -> dict[str, float]:
    """Metrics of a network, which is in eval mode and takes pictures in [-1, 1], on all of `data`."""
    counted = Metrics(metrics)
    with torch.inference_mode():
        for batch in DataLoader(data, batch_size=16):
            counted.update(network(batch.input.to(device)).float().cpu(), batch.target)
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
