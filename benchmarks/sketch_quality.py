"""What the adversarial phase is worth: sketch-to-image with it, and without it for the same total time.

    python benchmarks/sketch_quality.py --data PAIRS --input-folder sketch --target-folder color \\
        --lpips-weights alexnet_features.safetensors --seeds 0 1 2 --out runs/quality

For every seed it runs the recipe as it stands ("full"), then the generator alone for as long ("generator"), and,
to tell the critic's part from that of a longer training, the same phases with a critic that has no say ("silent
critic", --fool 0). How many steps of the generator take as long as the whole recipe is measured in the
first run, so let the machine rest during that one; the others are then of a fixed length and may share it. A run
that OUT already holds is not trained again. Writes OUT/quality.json and prints a table. Flags after `--` go to all
runs.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from gangen.report.history import read_history

RECIPE = Path(__file__).resolve().parent.parent / "recipes" / "sketch_to_image.py"


@dataclass
class Settings:
    """What is compared."""

    data: Path
    """Folder of pairs; see the recipe's --help."""
    lpips_weights: Path
    """AlexNet's convolutions, for LPIPS."""
    out: Path
    """Folder for the runs and quality.json."""
    input_folder: str = "sketch"
    """Folder of the sketches inside the data."""
    target_folder: str = "color"
    """Folder of the pictures inside the data."""
    seeds: tuple[int, ...] = (0,)
    """One training of each kind for each of these."""
    lanes: int = 1
    """Runs at a time after the first, each with its share of the cores."""
    silent: bool = True
    """Also train with a critic that has no say."""


@dataclass(frozen=True)
class Training:
    """One run of the recipe, to be started."""

    kind: str
    seed: int
    flags: tuple[str, ...] = ()

    def run(self, settings: Settings, flags: list[str], threads: int = 0) -> dict[str, Any]:
        """Train, unless it was done before; gives what came of it."""
        folder = settings.out / f"{self.kind.replace(' ', '-')}-{self.seed}"
        given = {
            "--data": settings.data,
            "--input-folder": settings.input_folder,
            "--target-folder": settings.target_folder,
            "--lpips-weights": settings.lpips_weights,
            "--seed": self.seed,
            "--threads": threads,
            "--out": folder,
        }
        words = [str(word) for pair in given.items() for word in pair]
        if not (folder / "pipeline").exists():
            subprocess.run([sys.executable, str(RECIPE), *words, *flags, *self.flags], check=True)
        return outcome(folder)


def outcome(run: Path) -> dict[str, Any]:
    history = read_history(run)
    phases = [
        {"name": p.name, "steps": p.steps, "seconds": round(p.seconds, 1), **p.validation} for p in history.phases
    ]
    return {"seconds": round(history.seconds, 1), "phases": phases}


def steps_for(done: dict[str, Any]) -> int:
    """How many steps of the generator alone take as long as all phases of this run did."""
    alone = next(phase for phase in done["phases"] if phase["name"] == "generator")
    return round(done["seconds"] / alone["seconds"] * alone["steps"])


def row(name: str, runs: list[dict[str, Any]]) -> str:
    """A line of the table: the last validation of each run, as mean and range over the seeds."""
    cells = []
    for metric in ("l1", "saturation", "saturation_target", "lpips"):
        values = [run["phases"][-1][metric] for run in runs]
        spread = f" ({min(values):.4f} to {max(values):.4f})" if len(values) > 1 else ""
        cells.append(f"{statistics.mean(values):.4f}{spread}")
    return f"| {name} | {' | '.join(cells)} |"


def main(settings: Settings, flags: list[str]) -> None:
    first, *others = settings.seeds
    whole = Training("full", first).run(settings, flags)
    steps = steps_for(whole)
    shorter = ("--generator-steps", str(steps), "--critic-steps", "0", "--adversarial-steps", "0")
    trainings = [Training("generator", first, shorter)]
    trainings += [t for seed in others for t in (Training("full", seed), Training("generator", seed, shorter))]
    if settings.silent:
        trainings += [Training("silent critic", seed, ("--fool", "0")) for seed in settings.seeds]
    threads = max(1, (os.cpu_count() or 1) // settings.lanes)
    with ThreadPoolExecutor(settings.lanes) as lanes:
        ended = list(lanes.map(lambda training: training.run(settings, flags, threads), trainings))
    result: dict[str, list[dict[str, Any]]] = {"full": [whole], "silent critic": [], "generator": []}
    for training, done in zip(trainings, ended, strict=True):
        result[training.kind].append(done)
    (settings.out / "quality.json").write_text(json.dumps({"steps alone": steps, **result}, indent=2) + "\n")
    print(f"\n{steps} steps of the generator take as long as the whole recipe ({whole['seconds']} s)")
    print("| last validation | L1 | saturation | real saturation | LPIPS |\n|---|---|---|---|---|")
    for kind, runs in result.items():
        if runs:
            print(row(kind, runs))


if __name__ == "__main__":
    own = sys.argv[1:] if "--" not in sys.argv else sys.argv[1 : sys.argv.index("--")]
    rest = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []
    main(tyro.cli(Settings, args=own, description=__doc__), rest)
