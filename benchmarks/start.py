"""How long it takes to begin: imports beyond torch's own, and from a recipe's command to its first step.

    python benchmarks/start.py            # about 2 minutes on two CPU cores

Imports are each measured in processes of their own, in turn with one that imports torch alone: what is told is the
time beyond that. The command is a recipe's, on embedded data, with random weights and a ResNet-18; its first
step is done when timing.jsonl has its first record. Files are in the system's cache.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import tyro
from reporting import Found, Table, tell

ROOT = Path(__file__).resolve().parent.parent
IMPORTS = {
    "import gangen": "import gangen",
    "networks and losses": "import gangen.nets, gangen.losses",
    "data": "import gangen.data",
    "the trainer": "import gangen.train",
    "all of a training": "import gangen.nets, gangen.losses, gangen.data, gangen.train, gangen.metrics",
    "from gangen import Pipeline": "from gangen import Pipeline",
    "torchvision alone": "import torchvision",
    "accelerate alone": "import accelerate",
}
TORCH = "import torch"


@dataclass(kw_only=True)
class Settings:
    """What is measured."""

    recipe: str = "sketch_to_image.py"
    """Recipe in recipes/ that is begun."""
    rounds: int = 9
    """Imports of each."""
    starts: int = 3
    """Starts of the recipe."""
    out: Path | None = None
    """JSON file for the result."""


def importing(statement: str) -> float:
    """Seconds of `import torch` and `statement`, in a process of their own."""
    program = f"import time; b = time.perf_counter(); {TORCH}; {statement}; print(time.perf_counter() - b)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def starting(recipe: str) -> float:
    """Seconds from the command to the first record of a training."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        words = [sys.executable, str(ROOT / "recipes" / recipe), "--out", str(run), "--log-every", "1"]
        words += ["--workers", "0", "--weights", "none", "--generator-steps", "1000", "--critic-steps", "1"]
        begun = time.perf_counter()
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            told = run / "timing.jsonl"
            while not (told.is_file() and told.stat().st_size):
                if process.poll() is not None:
                    raise SystemExit(f"{recipe} ended before its first step (exit code {process.returncode})")
                time.sleep(0.005)
            return time.perf_counter() - begun
        finally:
            process.kill()
            process.wait()


def main(settings: Settings) -> None:
    seconds: dict[str, list[float]] = {name: [] for name in IMPORTS}
    alone: list[float] = []
    for _ in range(settings.rounds + 1):
        alone.append(importing("pass"))
        for name, statement in IMPORTS.items():
            seconds[name].append(importing(statement) - alone[-1])
    beyond = {name: statistics.median(each[1:]) for name, each in seconds.items()}  # the first fills caches
    starts = [starting(settings.recipe) for _ in range(settings.starts + 1)][1:]
    rows = [[name, f"{value:.2f}"] for name, value in beyond.items()]
    about = f"Seconds beyond torch's own {statistics.median(alone[1:]):.2f}; medians of {settings.rounds}."
    first = Table(["import", "seconds"], rows, about)
    shown = ", ".join(f"{each:.1f}" for each in sorted(starts))
    second = Table(
        ["command", "seconds to the first step"],
        [[f"recipes/{settings.recipe}", f"{statistics.median(starts):.1f} ({shown})"]],
    )
    values = {"torch alone": alone[1:], "beyond": beyond, "starts": starts}
    tell(Found("Start", [first, second], values, ("torchvision", "accelerate")), settings.out)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
