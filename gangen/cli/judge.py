"""The commands that judge pictures: `gangen score`, `gangen evaluate` and `gangen compare`."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO

from tyro.conf import Positional, arg

from gangen.errors import UserError

if TYPE_CHECKING:
    from gangen.evaluation import Evaluation
    from gangen.metrics import Interval, Measure

MetricName = Literal[
    "l1",
    "psnr",
    "ssim",
    "ms_ssim",
    "saturation",
    "saturation_target",
    "saturation_gap",
    "colourfulness",
    "colourfulness_target",
    "colourfulness_gap",
]
"""The metrics that need no weights; a literal, because the library's own tuples are not imported for --help."""

_Metrics = Annotated[tuple[MetricName, ...], arg(aliases=["--metrics"])]


def score(
    outputs: Annotated[Positional[Path], arg(metavar="DIR_A")],
    targets: Annotated[Positional[Path], arg(metavar="DIR_B")],
    /,
    metric: _Metrics = ("psnr", "ssim"),
    channel: Literal["rgb", "y"] = "rgb",
    crop: int = 0,
    upscale: Literal["bicubic"] | None = None,
    lpips_weights: Path | None = None,
    out: Path | None = None,
) -> int:
    """Judge the pictures in DIR_A, whoever made them, against those of equal name in DIR_B.

    Names are paths inside the folder, without suffix. Pictures without a partner are counted and left out.
    Pictures that cannot be read are named and left out, and the exit code is then 1.

    Example: gangen score painted my_photographs --metric psnr ssim

    Args:
        outputs: the folder to judge.
        targets: the folder that it is judged by.
        metric: what to measure; see docs/metrics.md.
        channel: what l1, psnr, ssim and ms_ssim compare: rgb, or y, the luma (16..235) of super-resolution.
        crop: pixels cut from each border first; by custom the factor in super-resolution.
        upscale: first enlarge the pictures in DIR_A, which are all a half, a third or a quarter of those in DIR_B.
        lpips_weights: AlexNet's convolutions (torchvision's names, .safetensors or .pth), to add LPIPS.
        out: JSON file for the results with every picture's value, as `gangen compare` reads them.
    """
    from gangen.evaluation import score_folders

    with _telling():
        done = score_folders(outputs, targets, _measures(metric, channel, crop, lpips_weights), upscale=upscale)
    return _tell(done, out)


def evaluate(
    run: Annotated[Positional[str], arg(metavar="RUN")],
    /,
    data: Path | None = None,
    input_folder: Path | None = None,
    target_folder: Path | None = None,
    side_by_side: Literal["input-left", "input-right"] | None = None,
    draw: bool = False,
    all: bool = False,
    size: int | None = None,
    metric: _Metrics = ("l1", "psnr", "ssim", "saturation_gap", "colourfulness_gap"),
    channel: Literal["rgb", "y"] = "rgb",
    crop: int = 0,
    lpips_weights: Path | None = None,
    out: Path | None = None,
    batch_size: int = 8,
    device: str | None = None,
) -> int:
    """Paint the inputs of validation pairs with the generator of a training, and judge what it painted.

    With no flags the pairs are those that the run was validated on. Of other data the folder val/ is taken, or
    where there is none the share that training would hold out.

    Example: gangen evaluate runs/first --data my_pairs --input-folder sketch --target-folder color

    Args:
        run: a run folder, a pipeline folder, or OWNER/NAME on the Hugging Face hub.
        data: folder with the pictures; by default the run's own.
        input_folder: folder of the inputs inside the data; equal names make a pair. Needs --target-folder.
        target_folder: folder of the pictures that belong to the inputs.
        side_by_side: each picture holds input and target, the input on this side.
        draw: the inputs are made from the pictures (sketches, small or spoilt ones, as the generator takes them),
            also where the run was trained on pairs.
        all: judge all pictures of --data, such as a test set, instead of a held-out share.
        size: side in pixels of the central squares that are painted; by default the run's. Super-resolution is
            judged on whole pictures.
        metric: what to measure; see docs/metrics.md.
        channel: what l1, psnr, ssim and ms_ssim compare: rgb, or y, the luma (16..235) of super-resolution.
        crop: pixels cut from each border before judging.
        lpips_weights: AlexNet's convolutions (torchvision's names, .safetensors or .pth), to add LPIPS.
        out: JSON file for the results with every picture's value, as `gangen compare` reads them.
        batch_size: how many pictures to paint together.
        device: such as cpu, cuda or cuda:1. CUDA where there is one, else the CPU.
    """
    from gangen.evaluation import DataFlags, evaluate_run

    flags = DataFlags(data, input_folder, target_folder, side_by_side, draw, size, all)
    measures = _measures(metric, channel, crop, lpips_weights)
    with _telling():
        done = evaluate_run(run, measures, flags, batch_size=batch_size, device=device)
    return _tell(done, out)


def compare(
    first: Annotated[Positional[Path], arg(metavar="A.json")],
    second: Annotated[Positional[Path], arg(metavar="B.json")],
    /,
) -> int:
    """Compare two results that `gangen score` or `gangen evaluate` wrote; refuse where they were measured unlike.

    The interval is that of the difference, by a bootstrap over the pictures in pairs.

    Example: gangen compare first.json second.json

    Args:
        first: the results to start from.
        second: the results to compare with them.
    """
    from gangen.metrics import compare, read_results
    from gangen.report import number, text_table

    ours, theirs = ({result.metric: result for result in read_results(path)} for path in (first, second))
    shared = [name for name in ours if name in theirs]
    if not shared:
        raise UserError(
            f"{first} has {', '.join(ours)} and {second} has {', '.join(theirs)}: no metric is in both."
        )
    compared = [compare(ours[name], theirs[name]) for name in shared]
    rows = []
    for done in compared:
        values = [number(value) for value in (done.first, done.second, done.difference)]
        winner = {None: "–", "first": str(first), "second": str(second)}[done.winner]
        rows.append([done.metric, *values, _say(done.interval), winner])
    heads = ["Metric", "A", "B", "B − A", "95% interval", "Better"]
    sys.stdout.write(f"A is {first}, B is {second}\n{text_table(heads, rows)}\n")
    alone = [name for name in {**ours, **theirs} if name not in shared]
    notes = [f"only in one of them: {', '.join(alone)}"] if alone else []
    for note in dict.fromkeys([*(note for done in compared for note in done.notes), *notes]):
        sys.stderr.write(f"gangen: {note}\n")
    return 0


def _measures(names: Sequence[str], channel: Any, crop: int, lpips_weights: Path | None) -> list[Measure]:
    from gangen.metrics import COLOUR, LPIPS, cropped, pixel_metrics

    known = {metric.name: metric for metric in (*pixel_metrics(channel), *COLOUR)}
    chosen: list[Measure] = [known[name] for name in dict.fromkeys(names)]
    if lpips_weights is not None:
        chosen.append(LPIPS(weights=lpips_weights))
    if not chosen:
        raise UserError("no metric is named. Give one with --metric, such as psnr, or --lpips-weights FILE.")
    return [cropped(measure, crop) for measure in chosen]


@contextmanager
def _telling() -> Iterator[None]:
    """Write warnings for a person, without the line of code that they come from."""

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        sys.stderr.write(f"gangen: {message}\n")

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def _tell(done: Evaluation, out: Path | None) -> int:
    """Print the table, write the file, and give the exit code."""
    from gangen.cli import NOT_ALL
    from gangen.metrics import write_results
    from gangen.report import number, text_table

    rows = [
        [result.metric, number(result.value), _say(result.interval), str(len(result.values)), result.better or "–"]
        for result in done.results
    ]
    if out is not None:
        write_results(done.results, out)
    sys.stdout.write(text_table(["Metric", "Value", "95% interval", "Pictures", "Better"], rows) + "\n")
    for reason in done.skipped:
        sys.stderr.write(f"skipped: {reason}\n")
    if done.skipped:
        sys.stdout.write(f"{len(done.skipped)} skipped\n")
    return NOT_ALL if done.skipped else 0


def _say(interval: Interval | None) -> str:
    from gangen.report import number

    return "–" if interval is None else f"{number(interval.low)} to {number(interval.high)}"
