"""Judging what a run answers with labels: masks, classes, and whether two pictures show the same."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gangen import weights
from gangen.data import Centre, ClassSet, Masks, Readable, SamePairs, open_masks, open_same, split, wide_size
from gangen.data.classes import find_classes
from gangen.data.masks import find_masks
from gangen.errors import PictureError, UserError
from gangen.evaluation import DataFlags, Evaluation, own_flags
from gangen.labels import Classes
from gangen.loading import answer_count, find_pipeline, read_config
from gangen.metrics import CountMetric, Metrics, Result, class_metrics, mask_metrics, versions
from gangen.nets import Classifier, Siamese
from gangen.pipeline import Pipeline
from gangen.train.feed import collate


def answers_with_labels(run: str | Path) -> bool:
    """Whether a run's pipeline answers with labels rather than with pictures; raises as `find_pipeline` does."""
    return answer_count(read_config(find_pipeline(run) / "config.json")["network"]) is not None


def evaluate_labels(
    run: str | Path, flags: DataFlags | None = None, *, batch_size: int = 8, device: str | None = None
) -> Evaluation:
    """Judge a run's answers on validation data, counted over all of them: accuracy, for masks intersections too.

    The data are those of the run's own validation, as its config.json tells, but for what `flags` overrule, where
    the input folder is that of pictures and the target folder that of label pictures. Pictures are brought to the
    size that the run was validated at. A class that is neither a label nor an answer anywhere has no result.

    Args:
        run: a run folder, a pipeline folder or the hub's name of one.
        flags: other data.
        batch_size: samples judged together.
        device: where to judge; CUDA where there is one, else the CPU.

    Raises:
        RunError: the folder holds no pipeline.
        DataError: the data are not what the flags say.
        UserError: the run answers with pictures, it is not told what to evaluate on, or the data's classes are not
            the run's.
    """
    if batch_size < 1:
        raise UserError(f"--batch-size {batch_size}: expected 1 or more.")
    folder = find_pipeline(run)
    pipeline = Pipeline.from_pretrained(folder, device=device)
    classes = pipeline.classes
    if classes is None:
        raise UserError(f"{run} answers with pictures, not with labels. Judge it with evaluate_run.")
    data, size = _open(Path(run), flags or DataFlags(), pipeline, classes)
    metrics = Metrics(_usual(pipeline, classes))
    digests: list[bytes] = []
    done = Evaluation()
    network = pipeline.network.eval()
    for part in data:
        for first in range(0, len(part), batch_size):
            batch = _read(part, range(first, min(first + batch_size, len(part))))
            if batch is None:
                continue
            digests += [_digest(target) for target in batch.target]
            with torch.inference_mode():
                metrics.update(network(batch.input.to(pipeline.device)).float(), batch.target.to(pipeline.device))
        done.skipped += _unreadable(part)
    told = {
        "prepared": f"largest central part at {size[1]}x{size[0]} px",
        "samples": len(digests),
        "names": list(classes.names),
        "targets": hashlib.sha256(b"".join(sorted(digests))).hexdigest()[:16],
        "versions": versions(),
    }
    about = {
        "run": Path(run).resolve().name if Path(run).exists() else str(run),
        "weights": weights.fingerprint(folder / "model.safetensors"),
        "data": [part.fingerprint() for part in data],
    }
    values = metrics.compute()
    done.results = [
        Result(metric.name, metric.better, values[metric.name], {}, {**metric.protocol, **told}, None, about)
        for metric in metrics.metrics
        if not math.isnan(values[metric.name])
    ]
    if not done.results:
        raise UserError(f"{run}: every label of the data is to be ignored. Give data with labels to be judged by.")
    return done


def _usual(pipeline: Pipeline, classes: Classes) -> list[CountMetric]:
    return class_metrics(len(classes)) if pipeline.answers else mask_metrics(classes.names)


def _open(
    run: Path, flags: DataFlags, pipeline: Pipeline, classes: Classes
) -> tuple[Sequence[Readable], tuple[int, int]]:
    """The data that the flags, and where they are silent the run, tell; and their height and width."""
    own = own_flags(run)
    if flags.draw or flags.side_by_side:
        raise UserError(f"{run} answers with labels, which --draw and --side-by-side cannot tell. Leave them out.")
    if pipeline.answers and flags.tells_pairs:
        raise UserError(f"{run} answers with a class: --input-folder and --target-folder are of label pictures.")
    if flags.data is None and "data" not in own:
        raise UserError(
            f"{run} does not tell what it was trained on (it has no config.json of a recipe). Name labelled "
            "pictures with --data DIR."
        )
    data = flags.data if flags.data is not None else own["data"]
    if flags.all and data is None:
        raise UserError("--all: which pictures? Name their folder with --data.")
    given = flags.size or own.get("size") or pipeline.config.get("trained_size")
    if given is None:
        raise UserError(f"{run} does not tell the size of its pictures. Give --size PIXELS.")
    size = wide_size(given, own.get("wide", 1.0)) if isinstance(given, int) else (int(given[0]), int(given[1]))
    if isinstance(pipeline.network, Siamese):
        return _open_same(data, flags.all, own, size), size
    if isinstance(pipeline.network, Classifier):
        return _open_classes(run, data, flags.all, own, size, classes), size
    return _open_masks(run, data, flags, own, size, classes), size


def _open_same(data: Any, every: bool, own: dict[str, Any], size: tuple[int, int]) -> Sequence[Readable]:
    rounds = own.get("rounds", 4)
    if not every:
        return [open_same(data, size=size, validation=own.get("validation", 0.25), rounds=rounds)[1]]
    found = find_classes(data, None)
    return [SamePairs(part, part.labels, Centre(size), fixed=True, rounds=rounds) for part in found]


def _open_classes(
    run: Path, data: Any, every: bool, own: dict[str, Any], size: tuple[int, int], classes: Classes
) -> Sequence[Readable]:
    found = _chosen(find_classes(data, own.get("table")), every, own)
    labels = {label for part in found for label in part.labels}
    if not labels <= set(classes.names):
        raise _unlike(run, classes.names, data, sorted(labels))
    return [ClassSet(part, part.labels, Centre(size), classes) for part in found]


def _open_masks(
    run: Path, data: Any, flags: DataFlags, own: dict[str, Any], size: tuple[int, int], classes: Classes
) -> Sequence[Readable]:
    if data is None:
        return [open_masks(None, size=size)[1]]
    places = {name: own[name] for name in ("labels", "codes", "pictures", "ignored") if name in own}
    places |= {"pictures": flags.input_folder} if flags.input_folder else {}
    places |= {"labels": flags.target_folder} if flags.target_folder else {}
    moved = [str(places[name]) for name in ("pictures", "labels") if Path(places.get(name, "")).is_absolute()]
    if flags.data is not None and moved and not flags.tells_pairs:
        raise UserError(
            f"{run} was trained on {moved[0]}, which --data {data} cannot replace. Say where pictures and label "
            "pictures are: --input-folder and --target-folder."
        )
    found = _chosen(find_masks(data, **places), flags.all, own)
    if found[0].codes.classes.names != classes.names:
        raise _unlike(run, classes.names, data, found[0].codes.classes.names)
    return [Masks(part, Centre(size), classes) for part in found]


def _chosen(found: Sequence[Any], every: bool, own: dict[str, Any]) -> Sequence[Any]:
    """All sources, or that of validation, which is a share of the only one where there is no other."""
    if every:
        return found
    if len(found) == 2:
        return found[1:]
    return [found[0].select(split(found[0].names, own.get("validation", 0.1))[1])]


def _unlike(run: Path, ours: Sequence[str], data: Any, theirs: Sequence[str]) -> UserError:
    return UserError(
        f"{run} tells apart {', '.join(ours)}, and the classes of {data} are {', '.join(theirs)}. Name those "
        "of the data as the run does, in its order."
    )


def _read(data: Readable, indices: Sequence[int]) -> Any:
    """A batch of these samples without those that cannot be read; None where there is no other."""
    with warnings.catch_warnings():
        # They tell of the sample that takes an unreadable one's place, and here none does: see `_unreadable`.
        warnings.simplefilter("ignore")
        samples = [(data[index], data.replaced(index)) for index in indices]
    kept = [sample for sample, replaced in samples if not replaced]
    return collate(kept) if kept else None


def _unreadable(data: Readable) -> Iterator[str]:
    """Why samples could not be read, of each that could not."""
    for index in data.unreadable.nonzero().flatten().tolist():
        try:
            data.source.read(index)
        except PictureError as error:
            yield str(error)


def _digest(target: Tensor) -> bytes:
    return hashlib.sha256(f"{tuple(target.shape)}".encode() + target.numpy().tobytes()).digest()
