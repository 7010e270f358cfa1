"""How a step grows with the processes: measured with 1 and 2 on the CPU, computed for 8, 64 and 512 GPUs.

    python benchmarks/scale.py            # about 2 minutes on two CPU cores

Measured is the step of a generator alone, each process with one thread and a batch of its own: one process; two
that do not know of each other, which shows what they cost each other on the machine; two that average their
gradients. How long the averaging takes by itself is measured too.

Computed is the step among n by playing one out. The backward pass, two thirds of the computing, gives its
gradients in buckets of 25 MiB, as DistributedDataParallel collects them; a bucket is averaged when it is there
and the one before is through; averaging B bytes among n takes 2 (n-1)/n B / bandwidth + 2 (n-1) latency, as a
ring does it (Patarasuk & Yuan 2009, doi:10.1016/j.jpdc.2008.09.002). On the way up to the next step all wait
for the slowest, whose delay among n is drawn from the normal distribution with the spread of the measured
steps. The same is computed for the two processes, beside what was measured.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from ready import Ready
from reporting import Found, Table, tell
from torch import distributed

from gangen.losses import l1
from gangen.nets import Body, ImageHead, UNet
from gangen.train import Callback, Phase, Player, Trainer, launch, set_seed

BUCKET = 25 * 2**20
BACKWARD = 2 / 3
"""Share of the backward pass in a step's computing: two of three convolutions of equal cost."""


@dataclass(kw_only=True)
class Settings:
    """What is measured, and what is assumed of the GPUs."""

    body: str = "resnet34"
    """Of the UNet."""
    size: int = 64
    """Side of the pictures, in pixels."""
    batch_size: int = 8
    """Pictures a batch and process."""
    steps: int = 20
    """Steps that are timed."""
    rounds: int = 3
    """Runs of each kind, in turn; the medians count."""
    gpu_step: float = 0.06
    """Seconds that a GPU computes for one step: assumed."""
    node_bandwidth: float = 150.0
    """GB/s that each of the 8 GPUs of a machine averages with: assumed, a third of NVLink's 450 one way."""
    network_bandwidth: float = 20.0
    """GB/s of each GPU between machines: assumed, 40% of a 400 Gbit/s adapter for each."""
    latency: float = 8e-6
    """Seconds of one hop between two GPUs: assumed."""
    gpu_spread: float = 0.01
    """Standard deviation of a GPU's step, of the step: assumed."""
    worker: Path | None = None
    """Used by the program itself: be one of the processes that are timed, and write down what was found here."""
    out: Path | None = None
    """JSON file for the result."""


@dataclass(frozen=True)
class Link:
    """How processes reach each other: GB/s and seconds a hop."""

    bandwidth: float
    latency: float

    def averaging(self, bytes_: float, count: int) -> float:
        """Seconds that a ring of `count` takes."""
        if count == 1:
            return 0.0
        return 2 * (count - 1) / count * bytes_ / (self.bandwidth * 1e9) + 2 * (count - 1) * self.latency


def step_among(count: int, compute: float, gradient: float, link: Link, spread: float) -> dict[str, float]:
    """Play out one step among `count` processes.

    Args:
        count: of processes.
        compute: seconds that one computes for a step.
        gradient: bytes of all gradients.
        link: between the processes.
        spread: standard deviation of the computing, in seconds.

    Returns:
        "seconds" of the step; of these "averaging" that nothing else hides, and "waiting" for the slowest.
    """
    waiting = spread * _expected_most(count)
    backward = BACKWARD * compute
    whole, rest = divmod(gradient, BUCKET)
    buckets = [BUCKET] * int(whole) + ([rest] if rest else [])
    done, produced = 0.0, 0.0
    for size in buckets:
        produced += size
        there = compute - backward + backward * produced / gradient
        done = max(done, there) + link.averaging(size, count)
    exposed = max(done, compute) - compute
    return {"seconds": compute + waiting + exposed, "averaging": exposed, "waiting": waiting}


def _expected_most(count: int) -> float:
    """The expected greatest of `count` draws from a standard normal distribution, by quantiles (Blom 1958)."""
    return statistics.NormalDist().inv_cdf((count - 0.375) / (count + 0.25)) if count > 1 else 0.0


class Steps(Callback):
    """The seconds of each step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.mark = 0.0

    def on_phase_start(self, trainer: Trainer) -> None:
        """Start."""
        self.mark = time.perf_counter()

    def on_step_end(self, trainer: Trainer) -> None:
        """Note one."""
        now = time.perf_counter()
        self.seconds.append(now - self.mark)
        self.mark = now


def work(settings: Settings, out: Path) -> None:
    """Be one of the processes."""
    accelerator = launch(threads=1)
    set_seed(0)
    network = UNet(Body(settings.body), ImageHead(3))
    player = Player(
        "generator", network, lambda nets, b: {"pixel": l1(nets.generator(b.input), b.target)}, lr=1e-4
    )
    steps = Steps()
    trainer = Trainer(
        None,
        Ready(64, settings.size),
        batch_size=settings.batch_size,
        callbacks=[steps],
        accelerator=accelerator,
    )
    trainer.fit([Phase("alone", [player], settings.steps + 3)])
    size = sum(p.numel() for p in network.parameters())
    found = {"steps": steps.seconds[3:], "bytes": 4 * size, "averaging": _averaging(size) if _several() else 0.0}
    if accelerator.is_main_process:
        out.write_text(json.dumps(found), encoding="utf-8")
    accelerator.end_training()


def _several() -> bool:
    return distributed.is_initialized() and distributed.get_world_size() > 1


def _averaging(size: int) -> float:
    """Seconds of averaging so many numbers, by buckets, by itself."""
    buckets = torch.zeros(size).split(BUCKET // 4)
    seconds = []
    for _ in range(5):
        distributed.barrier()
        begun = time.perf_counter()
        for bucket in buckets:
            distributed.all_reduce(bucket)
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


def measured(settings: Settings, kind: str) -> dict[str, Any]:
    """Let processes run as `kind` says; what the first of them found."""
    words = [str(Path(__file__).resolve()), "--body", settings.body, "--size", str(settings.size)]
    words += ["--batch-size", str(settings.batch_size), "--steps", str(settings.steps)]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    with tempfile.TemporaryDirectory() as folder:
        outs = [Path(folder) / f"{number}.json" for number in range(1 if kind != "apart" else 2)]
        begin = launcher if kind == "together" else [sys.executable]
        processes = [
            subprocess.Popen([*begin, *words, "--worker", str(out)], env=environment, stderr=subprocess.DEVNULL)
            for out in outs
        ]
        if sum(process.wait() != 0 for process in processes):
            raise SystemExit(f"the processes ({kind}) failed; run benchmarks/scale.py --worker FILE to see why")
        return dict(json.loads(outs[0].read_text(encoding="utf-8")))


def main(settings: Settings) -> None:
    if settings.worker is not None:
        work(settings, settings.worker)
        return
    kinds = ("alone", "apart", "together")
    runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
    for _ in range(settings.rounds):
        for kind in kinds:
            runs[kind].append(measured(settings, kind))
    medians = {kind: statistics.median(s for run in runs[kind] for s in run["steps"]) for kind in kinds}
    gradient = runs["alone"][0]["bytes"]
    averaging = statistics.median(run["averaging"] for run in runs["together"])
    spread = statistics.median(statistics.stdev(run["steps"]) for run in runs["apart"])
    link = Link(gradient / averaging / 1e9, 0.0)  # of two, a ring moves each byte once each way
    two = step_among(2, medians["apart"], gradient, link, spread)
    rows = [
        ["1 process", f"{medians['alone']:.3f}", "1", ""],
        ["2 processes, apart", f"{medians['apart']:.3f}", f"{medians['alone'] / medians['apart']:.0%}", ""],
        [
            "2 processes, together",
            f"{medians['together']:.3f}",
            f"{medians['alone'] / medians['together']:.0%}",
            f"{two['seconds']:.3f}",
        ],
    ]
    about = (
        f"{settings.body}, {settings.size}x{settings.size}, {settings.batch_size} pictures a process, one "
        "thread each; "
        f"{gradient / 2**20:.0f} MiB of gradients, whose averaging by itself takes {averaging:.3f} s."
    )
    first = Table(["CPU", "seconds a step", "speed of each, of one alone", "computed"], rows, about)
    computed = {}
    for count in (1, 8, 64, 512):
        bandwidth = settings.node_bandwidth if count <= 8 else settings.network_bandwidth
        computed[count] = step_among(
            count,
            settings.gpu_step,
            gradient,
            Link(bandwidth, settings.latency),
            settings.gpu_spread * settings.gpu_step,
        )
    rows = [
        [
            str(count),
            *(f"{1e3 * seconds:.1f}" for seconds in found.values()),
            f"{settings.gpu_step / found['seconds']:.0%}",
            f"{count * settings.batch_size / found['seconds']:,.0f}",
        ]
        for count, found in computed.items()
    ]
    heads = [
        "GPUs",
        "ms a step",
        "of it averaging",
        "of it waiting",
        "speed of each, of one",
        "pictures/s to be read",
    ]
    told = (
        f"Computed, not measured: {1e3 * settings.gpu_step:.0f} ms of computing a step of {settings.batch_size} "
        "pictures, "
        f"{settings.node_bandwidth:.0f} GB/s within a machine of 8, {settings.network_bandwidth:.0f} GB/s between "
        f"machines, {1e6 * settings.latency:.0f} µs a hop, steps that spread by {settings.gpu_spread:.0%}."
    )
    values = {"medians": medians, "gradient bytes": gradient, "averaging": averaging, "spread": spread, "two": two}
    values |= {
        "computed": computed,
        "assumed": {k: v for k, v in asdict(settings).items() if isinstance(v, float)},
    }
    tell(
        Found("More processes", [first, Table(heads, rows, told)], values, ("accelerate",), on_cpu=True),
        settings.out,
    )


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
