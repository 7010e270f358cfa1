"""What the adversarial phase is worth: sketch-to-image with it, and without it for the same total time.

    python benchmarks/sketch_quality.py --data PAIRS --input-folder sketch --target-folder color \\
        --lpips-weights alexnet_features.safetensors --out runs/quality

runs the recipe as it stands, then once more with the generator alone, for as many steps as fit into the time that
the first took, and writes both runs' last validations to OUT/quality.json. Flags after `--` go to both runs.
"""

from __future__ import annotations

import json
import subprocess
import sys
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
    """Folder for the two runs and quality.json."""
    input_folder: str = "sketch"
    """Folder of the sketches inside the data."""
    target_folder: str = "color"
    """Folder of the pictures inside the data."""


def train(settings: Settings, name: str, flags: list[str]) -> Path:
    run = settings.out / name
    given = {
        "--data": settings.data,
        "--input-folder": settings.input_folder,
        "--target-folder": settings.target_folder,
        "--lpips-weights": settings.lpips_weights,
        "--out": run,
    }
    words = [str(word) for pair in given.items() for word in pair]
    subprocess.run([sys.executable, str(RECIPE), *words, *flags], check=True)
    return run


def outcome(run: Path) -> dict[str, Any]:
    history = read_history(run)
    phases = [
        {"name": p.name, "steps": p.steps, "seconds": round(p.seconds, 1), **p.validation} for p in history.phases
    ]
    return {"seconds": round(history.seconds, 1), "phases": phases}


def main(settings: Settings, flags: list[str]) -> None:
    full = outcome(train(settings, "full", flags))
    alone = next(phase for phase in full["phases"] if phase["name"] == "generator")
    steps = round(full["seconds"] / alone["seconds"] * alone["steps"])
    shorter = ["--generator-steps", str(steps), "--critic-steps", "0", "--adversarial-steps", "0"]
    longer = outcome(train(settings, "generator-only", [*flags, *shorter]))
    result = {"with the adversarial phase": full, "generator alone, same time": longer}
    (settings.out / "quality.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    own = sys.argv[1:] if "--" not in sys.argv else sys.argv[1 : sys.argv.index("--")]
    rest = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []
    main(tyro.cli(Settings, args=own, description=__doc__), rest)
