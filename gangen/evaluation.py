"""Judging finished pictures: those of a folder against those of another, and what a run paints of its data."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from PIL import Image
from torch import Tensor

from gangen import images, weights
from gangen.data import DRAWN, Files, Pairs, Whole, match_folders, open_folder, open_pairs
from gangen.data.drawn import WITHOUT_CHANCE
from gangen.data.readable import Careful, patiently
from gangen.data.sets import knows_pairs
from gangen.data.sources import Halves
from gangen.errors import DataError, PictureError, StorageError, UserError
from gangen.loading import find_pipeline
from gangen.metrics import Measure, Result, SetMetric, divided, judge, judge_sets
from gangen.pipeline import Pipeline
from gangen.train.feed import Seeded

Upscale = Literal["bicubic"]
FACTORS = (2, 3, 4)
"""By how much pictures may be enlarged before they are judged."""


@dataclass
class Evaluation:
    """Results, one a metric, and what could not be judged."""

    results: list[Result] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    """for each picture that could not be read, why"""


@dataclass(frozen=True)
class DataFlags:
    """Which pairs to evaluate on; what is None is as the run was trained. See `gangen.data.open_pairs`."""

    data: str | Path | None = None
    input_folder: Path | None = None
    target_folder: Path | None = None
    side_by_side: Halves | None = None
    draw: bool = False
    size: int | None = None
    all: bool = False

    @property
    def tells_pairs(self) -> bool:
        """Whether it is said here how inputs and targets are told apart."""
        return self.draw or bool(self.input_folder or self.target_folder or self.side_by_side)


def score_folders(
    outputs: str | Path,
    targets: str | Path,
    metrics: Sequence[Measure | SetMetric],
    *,
    upscale: Upscale | None = None,
) -> Evaluation:
    """Judge the pictures of a folder, whoever made them, against those of equal name in another.

    Names are paths inside the folder, without suffix. A picture without partner is left out with a warning. With
    set metrics alone, and nothing to enlarge, names, sizes and counts do not matter and no picture is left out.

    Args:
        outputs: the folder to judge.
        targets: the folder that it is judged by.
        metrics: see `gangen.metrics`.
        upscale: the outputs are a half, a third or a quarter of the targets' size and are first enlarged by this
            filter, to 8 bits: the baseline of super-resolution. Pillow's bicubic has MATLAB's kernel (a = -0.5).

    Raises:
        DataError: a folder is missing or empty, or no two names are equal, or sizes do not fit.
        PictureError: none of the pictures can be read.
        UserError: a picture is too small for a metric.
    """
    done = Evaluation()
    measures, set_metrics = divided(metrics)
    if not measures and not upscale:
        done.results = judge_sets(
            _read_alone(open_folder(outputs, but=()), done.skipped),
            _read_alone(open_folder(targets, but=()), done.skipped),
            set_metrics,
            about={"outputs": str(outputs), "targets": str(targets)},
        )
        return done
    files = match_folders(outputs, targets, but=())
    factor = _factor(files) if upscale else 1
    done.results = judge(
        _read(files, factor, done.skipped),
        metrics,
        # Who enlarged them is no part of how they are measured: a baseline is there to be compared with
        about={"outputs": str(outputs), "targets": str(targets)}
        | ({"upscale": f"{upscale} x{factor} of Pillow, 8 bits"} if upscale else {}),
    )
    return done


def evaluate_run(
    run: str | Path,
    metrics: Sequence[Measure | SetMetric],
    flags: DataFlags | None = None,
    *,
    batch_size: int = 8,
    device: str | None = None,
) -> Evaluation:
    """Paint the inputs of validation pairs with a run's pipeline, and judge the paintings as 8-bit pictures.

    The pairs are those of the run's own validation: its data, its folders, its size and its share, as its
    config.json tells, but for what `flags` overrule. Pictures are the central squares that training validates on,
    and for super-resolution whole pictures. Degraded inputs are drawn from the run's seed, as in its validation.

    Args:
        run: a run folder, a pipeline folder or the hub's name of one.
        metrics: see `gangen.metrics`.
        flags: other data.
        batch_size: pictures painted together.
        device: where to paint and to judge; CUDA where there is one, else the CPU.

    Raises:
        RunError: the folder holds no pipeline.
        DataError: the data are not what the flags say.
        UserError: it is not told what to evaluate on, or the generator is not for the pairs.
    """
    if batch_size < 1:
        raise UserError(f"--batch-size {batch_size}: expected 1 or more.")
    folder = find_pipeline(run)
    pipeline = Pipeline.from_pretrained(folder, device=device)
    if pipeline.classes is not None:
        raise UserError(
            f"{run} answers with labels, and these metrics are of pictures. Judge it with evaluate_labels, or "
            "`gangen evaluate` without them."
        )
    pairs = _open(Path(run), flags or DataFlags(), pipeline)
    seed = int(own_flags(Path(run)).get("seed", 0))
    seeded = Seeded(pairs, seed)
    done = Evaluation()
    careful = Careful()

    def painted() -> Iterator[tuple[str, Tensor, Tensor]]:
        for first in range(0, len(pairs), batch_size):
            read = []
            for index in range(first, min(first + batch_size, len(pairs))):
                # A data set gives the next sample in place of one that it cannot read, which would count twice.
                try:
                    careful(pairs.source.read, index)
                except StorageError:
                    raise  # what could be read later shall not be missing from a result
                except PictureError as error:
                    done.skipped.append(str(error))
                else:
                    sample = seeded[0, index]
                    if isinstance(sample, UserError):
                        raise sample
                    read.append(sample)
            outputs = pipeline([batch.input for batch in read], batch_size=batch_size) if read else []
            for batch, output in zip(read, outputs, strict=True):
                yield str(batch.name), images.to_tensor(output), batch.target

    done.results = judge(
        painted(),
        metrics,
        protocol={
            "prepared": f"central square at {pairs.size} px"
            if pairs.size
            else f"whole, multiples of {pairs.prepare.scale}",
            "inputs": _told_inputs(pairs, pipeline, seed),
        },
        about={
            "run": Path(run).resolve().name if Path(run).exists() else str(run),
            "weights": weights.fingerprint(folder / "model.safetensors"),
            "data": pairs.fingerprint(),
        },
        device=pipeline.device,
    )
    return done


def _open(run: Path, flags: DataFlags, pipeline: Pipeline) -> Pairs:
    """The validation pairs that the flags, and where they are silent the run, tell."""
    own = own_flags(run)
    if flags.draw and (flags.input_folder or flags.target_folder or flags.side_by_side):
        raise UserError("--draw makes the inputs from the targets, so it does not go with folders or halves.")
    if flags.data is None and "data" not in own:
        raise UserError(
            f"{run} does not tell what it was trained on (it has no config.json of a recipe). Name pictures with "
            "--data DIR."
        )
    size = flags.size if flags.size is not None else own.get("size") or pipeline.config.get("trained_size")
    scale = pipeline.scale
    if scale > 1 and flags.size is not None:
        raise UserError("--size: super-resolution is judged on whole pictures. Leave it out.")
    if size is None:
        raise UserError(f"{run} does not tell the size of its pictures. Give --size PIXELS.")
    data = flags.data if flags.data is not None else own["data"]
    elsewhere = flags.data is not None and knows_pairs(flags.data)
    told: dict[str, Any] = vars(flags) if flags.tells_pairs else {} if elsewhere else own
    folders = {name: told.get(name) for name in ("input_folder", "target_folder", "side_by_side")}
    moved = [str(folder) for folder in folders.values() if folder is not None and Path(folder).is_absolute()]
    if flags.data is not None and not flags.tells_pairs and moved:
        raise UserError(
            f"{run} was trained on {moved[0]}, which --data {flags.data} cannot replace. Say where its pairs are: "
            "--input-folder and --target-folder."
        )
    wanted = pipeline.config.get("input", "sketch")
    given = any(folders.values())
    if not given and wanted not in DRAWN and not knows_pairs(data):
        raise UserError(
            f"the generator of {run} takes {wanted!r}, and only {', '.join(DRAWN)} can be made from photographs. "
            "Give pairs: --input-folder and --target-folder, or --side-by-side."
        )
    if flags.all and data is None:
        raise UserError("--all: which pictures? Name their folder with --data.")
    apart = data if flags.all else own.get("validation_folder") if flags.data is None else None
    return open_pairs(
        data,
        input_folder=folders["input_folder"],
        target_folder=folders["target_folder"],
        side_by_side=folders["side_by_side"],
        draw=None if given or wanted not in DRAWN else DRAWN[wanted](scale),
        size=int(size),
        prepare=Whole(scale) if scale > 1 else None,
        validation=own.get("validation", 0.1),
        validation_folder=apart,
        scale=scale,
        always_draw=flags.draw or wanted in ("grey", "photograph"),
    )[1]


def _told_inputs(pairs: Pairs, pipeline: Pipeline, seed: int) -> str:
    """How the inputs came about, for the protocol."""
    if pairs.prepare.draw is None:
        return "given"
    wanted = pipeline.config.get("input", "sketch")
    if wanted == "sketch":
        return "drawn sketches"
    told = f"{wanted}, 1/{pairs.prepare.scale} of the size"
    return told if wanted in WITHOUT_CHANCE else f"{told}, seed {seed}"


def own_flags(run: Path) -> dict[str, Any]:
    """The flags that a run was trained with; none where `run` is no run folder of a recipe."""
    try:
        config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    flags = config.get("flags") if isinstance(config, dict) else None
    return flags if isinstance(flags, dict) else {}


def _read(files: Files, factor: int, skipped: list[str]) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Read (name, output, target), the output enlarged by the factor; add to `skipped` why one cannot be read."""
    careful = Careful()
    for name, paths in zip(files.names, files.paths, strict=True):
        try:
            output, target = (careful(images.read, path) for path in paths)
        except StorageError:
            raise
        except PictureError as error:
            skipped.append(str(error))
            continue
        if (output.width * factor, output.height * factor) != target.size:
            raise DataError(f"{_sizes(paths, (output, target))}: {_EXPECTED[factor > 1].format(factor=factor)}")
        if factor > 1:
            output = output.resize(target.size, Image.Resampling.BICUBIC)
        yield name, images.to_tensor(output), images.to_tensor(target)
    if len(skipped) == len(files.names):
        raise PictureError(f"none of the {len(skipped)} pairs can be read. {skipped[0]}")


def _read_alone(files: Files, skipped: list[str]) -> Iterator[tuple[str, Tensor]]:
    """Read (name, picture); add to `skipped` why one cannot be read."""
    unread: list[str] = []
    careful = Careful()
    for index, name in enumerate(files.names):
        try:
            (picture,) = careful(files.read, index)
        except StorageError:
            raise
        except PictureError as error:
            unread.append(str(error))
        else:
            yield name, images.to_tensor(picture)
    if len(unread) == len(files.names):
        raise PictureError(f"none of the {len(unread)} pictures can be read. {unread[0]}")
    skipped += unread


def _factor(files: Files) -> int:
    """By how much the first pair that can be read is to be enlarged; 2 where none can be, as `_read` tells."""
    for paths in files.paths:
        try:
            output, target = (patiently(images.read, path) for path in paths)
        except PictureError:
            continue
        for factor in FACTORS:
            if (output.width * factor, output.height * factor) == target.size:
                return factor
        raise DataError(
            f"{_sizes(paths, (output, target))}: to be enlarged, a picture must be exactly a half, a third or a "
            "quarter of its target. Leave --upscale out for pictures of equal size."
        )
    return FACTORS[0]


_EXPECTED = {
    False: "they must be of one size. Scale one of them; where all are a half, a third or a quarter: --upscale.",
    True: "expected {factor} times the size, as of the pictures before. Judge one factor at a time.",
}


def _sizes(paths: Sequence[Path], pictures: Sequence[Image.Image]) -> str:
    named = (f"{path} is {picture.width}x{picture.height}" for path, picture in zip(paths, pictures, strict=True))
    return " and ".join(named)
