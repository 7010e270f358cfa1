"""The commands that judge pictures: `gangen score`, `gangen evaluate` and `gangen compare`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from gangen.cli.telling import telling
from gangen.errors import UserError

if TYPE_CHECKING:
    from gangen.evaluation import Evaluation
    from gangen.metrics import FeatureNet, Interval, Measure, Result, SetMetric

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
    "fid",
    "kid",
    "diversity",
    "diversity_target",
]
"""The metrics that a flag names; a literal, because the library's own tuples are not imported for --help.

LPIPS and DISTS are added by their weights.
"""

_USUAL: tuple[MetricName, ...] = ("l1", "psnr", "ssim", "saturation_gap", "colourfulness_gap")

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
    dists_weights: Path | None = None,
    features: Path | None = None,
    feature_net: str = "inception",
    out: Path | None = None,
) -> int:
    """Judge the pictures in DIR_A, whoever made them, against those of equal name in DIR_B.

    Names are paths inside the folder, without suffix. Pictures without a partner are counted and left out; where
    only fid, kid and diversity are asked for, which are of whole sets, names and counts do not matter. Pictures
    that cannot be read are named and left out, and the exit code is then 1.

    Example: gangen score painted my_photographs --metric psnr ssim

    Args:
        outputs: the folder to judge.
        targets: the folder that it is judged by.
        metric: what to measure; see docs/metrics.md.
        channel: what l1, psnr, ssim and ms_ssim compare: rgb, or y, the luma (16..235) of super-resolution.
        crop: pixels cut from each border first; by custom the factor in super-resolution.
        upscale: first enlarge the pictures in DIR_A, which are all a half, a third or a quarter of those in DIR_B.
        lpips_weights: AlexNet's convolutions (torchvision's names, .safetensors or .pth), to add LPIPS, or for
            diversity where that is asked for.
        dists_weights: VGG-16's convolutions, likewise, to add DISTS.
        features: weights of the network that fid and kid see with; downloaded where none is named.
        feature_net: inception, which needs torch-fidelity, or as a stand-in a classifier of torchvision: resnet18,
            alexnet, vgg16, ...
        out: JSON file for the results with every picture's value, as `gangen compare` reads them.
    """
    from gangen.evaluation import score_folders

    weights = _Weights(lpips_weights, dists_weights, features, feature_net)
    with telling():
        done = score_folders(outputs, targets, _measures(metric, channel, crop, weights), upscale=upscale)
    return _tell(done, out)


def evaluate(
    run: Annotated[Positional[str], arg(metavar="RUN")],
    /,
    data: str | None = None,
    input_folder: Path | None = None,
    target_folder: Path | None = None,
    side_by_side: Literal["input-left", "input-right"] | None = None,
    draw: bool = False,
    all: bool = False,
    size: int | None = None,
    metric: _Metrics = _USUAL,
    channel: Literal["rgb", "y"] = "rgb",
    crop: int = 0,
    lpips_weights: Path | None = None,
    dists_weights: Path | None = None,
    features: Path | None = None,
    feature_net: str = "inception",
    out: Path | None = None,
    batch_size: int = 8,
    device: str | None = None,
) -> int:
    """Paint the inputs of validation pairs with the generator of a training, and judge what it painted.

    Or let the network of a training answer with masks or classes, and judge these by the labels: with all metrics
    that there are for them, which no flag names.

    With no flags the pairs are those that the run was validated on. Of other data the folder val/ is taken, or
    where there is none the share that training would hold out.

    Example: gangen evaluate runs/segmentation --data my_test --all

    Example: gangen evaluate runs/first --data my_pairs --input-folder sketch --target-folder color

    Args:
        run: a run folder, a pipeline folder, or OWNER/NAME on the Hugging Face hub.
        data: folder with the pictures; by default the run's own.
        input_folder: folder of the inputs inside the data; equal names make a pair. Needs --target-folder.
        target_folder: folder of the pictures that belong to the inputs, or of their label pictures.
        side_by_side: each picture holds input and target, the input on this side.
        draw: the inputs are made from the pictures (sketches, small or spoilt ones, as the generator takes them),
            also where the run was trained on pairs.
        all: judge all pictures of --data, such as a test set, instead of a held-out share.
        size: side in pixels of the central squares that are painted; by default the run's. Super-resolution is
            judged on whole pictures.
        metric: what to measure; see docs/metrics.md.
        channel: what l1, psnr, ssim and ms_ssim compare: rgb, or y, the luma (16..235) of super-resolution.
        crop: pixels cut from each border before judging.
        lpips_weights: AlexNet's convolutions (torchvision's names, .safetensors or .pth), to add LPIPS, or for
            diversity where that is asked for.
        dists_weights: VGG-16's convolutions, likewise, to add DISTS.
        features: weights of the network that fid and kid see with; downloaded where none is named.
        feature_net: inception, which needs torch-fidelity, or as a stand-in a classifier of torchvision: resnet18,
            alexnet, vgg16, ...
        out: JSON file for the results with every picture's value, as `gangen compare` reads them.
        batch_size: how many pictures to paint together.
        device: such as cpu, cuda or cuda:1. CUDA where there is one, else the CPU.
    """
    from gangen.evaluation import DataFlags, evaluate_run
    from gangen.label_evaluation import answers_with_labels, evaluate_labels

    flags = DataFlags(data, input_folder, target_folder, side_by_side, draw, size, all)
    weights = _Weights(lpips_weights, dists_weights, features, feature_net)
    with telling():
        if answers_with_labels(run):
            if (metric, channel, crop, weights) != (_USUAL, "rgb", 0, _Weights(None, None, None, "inception")):
                raise UserError(
                    f"{run} answers with labels, and the metrics that flags name are of pictures. Leave them out."
                )
            done = evaluate_labels(run, flags, batch_size=batch_size, device=device)
        else:
            measures = _measures(metric, channel, crop, weights)
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


@dataclass(frozen=True)
class _Weights:
    """Files of the networks that metrics see with."""

    lpips: Path | None
    dists: Path | None
    features: Path | None
    feature_net: str


def _measures(names: Sequence[str], channel: Any, crop: int, weights: _Weights) -> list[Measure | SetMetric]:
    from gangen.metrics import COLOUR, DISTS, LPIPS, cropped, pixel_metrics

    known = {metric.name: metric for metric in (*pixel_metrics(channel), *COLOUR)}
    measures: list[Measure] = [known[name] for name in dict.fromkeys(names) if name in known]
    of_sets = [name for name in dict.fromkeys(names) if name not in known]
    varied = {"diversity", "diversity_target"}.intersection(of_sets)
    if weights.lpips is not None and not varied:
        measures.append(LPIPS(weights=weights.lpips))
    if weights.dists is not None:
        measures.append(DISTS(weights=weights.dists))
    if not measures and not of_sets:
        raise UserError("no metric is named. Give one with --metric, such as psnr, or --lpips-weights FILE.")
    return [*(cropped(measure, crop) for measure in measures), *_set_metrics(of_sets, crop, weights)]


def _set_metrics(names: Sequence[str], crop: int, weights: _Weights) -> list[SetMetric]:
    from gangen.metrics import diversity, feature_net, fid, kid

    if names and crop:
        raise UserError(
            f"--crop {crop}: {', '.join(names)} see whole pictures. Measure them by a command without it."
        )
    if not {"fid", "kid"}.intersection(names) and (weights.features or weights.feature_net != "inception"):
        raise UserError(
            "--features and --feature-net are of fid and kid. Name one of them with --metric, or leave them out."
        )
    known: dict[str, SetMetric] = {}
    if {"fid", "kid"}.intersection(names):
        net: FeatureNet = feature_net(weights.feature_net, weights.features or "imagenet")
        known |= {metric.name: metric for metric in (fid(net), kid(net))}
    if {"diversity", "diversity_target"}.intersection(names):
        if weights.lpips is None:
            raise UserError("diversity is a mean of LPIPS. Name AlexNet's convolutions with --lpips-weights FILE.")
        known |= {metric.name: metric for metric in diversity(weights=weights.lpips)}
    return [known[name] for name in names]


def _tell(done: Evaluation, out: Path | None) -> int:
    """Print the table, write the file, and give the exit code."""
    from gangen.cli import NOT_ALL
    from gangen.metrics import write_results
    from gangen.report import number, text_table

    rows = [
        [result.metric, number(result.value), _say(result.interval), _count(result), result.better or "–"]
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


def _count(result: Result) -> str:
    counts = result.protocol.get("counts")
    if counts:
        return f"{counts['outputs']}, {counts['targets']}"
    return str(result.protocol.get("samples", len(result.values)))


def _say(interval: Interval | None) -> str:
    from gangen.report import number

    return "–" if interval is None else f"{number(interval.low)} to {number(interval.high)}"
