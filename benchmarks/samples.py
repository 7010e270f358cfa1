"""Train a recipe and keep what samples/RECIPE shows of it.

    python benchmarks/samples.py colorization                                # on the embedded photographs
    python benchmarks/samples.py super_resolution --name set5 -- --data sr_train --validation-folder set5/hr

Flags after `--` go to the recipe. Writes samples/RECIPE/NAME.json: the command, the settings, the numbers of
each phase, how they were measured, how long they took and on what. Without --data and --style, when the pictures
are free to show, also the last sample grid as samples/RECIPE/grid.png. Prints the table for the README beside
them, in which the tests look for it. Relative paths are kept as they are given, of others the last part.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from PIL import Image

from gangen.files import replacing, write_json
from gangen.report.history import History, read_history
from gangen.report.table import duration, phase_rows

ROOT = Path(__file__).resolve().parent.parent
WIDEST = 960
"""Wider grids are shrunk to this many pixels, for a page that loads soon."""


@dataclass
class Settings:
    """What is trained."""

    recipe: tyro.conf.Positional[str]
    """Name of a recipe in recipes/, without its suffix."""
    name: str = "embedded"
    """What the file of numbers is called."""
    runs: Path = Path("runs/samples")
    """Folder for the run folders."""


def main(settings: Settings, flags: list[str]) -> None:
    run = settings.runs / f"{settings.recipe}-{settings.name}"
    script = f"recipes/{settings.recipe}.py"
    # The recipe runs in the project's folder, wherever the flags' paths start from.
    given = [str(Path(flag).resolve()) if _is_place(flag) else flag for flag in flags]
    launch = [sys.executable, "-m", "accelerate.commands.launch", script]
    begun = time.monotonic()
    done = subprocess.run([*launch, *given, "--out", str(run.resolve())], check=False, cwd=ROOT)
    if done.returncode:
        sys.exit(done.returncode)  # the recipe has said why
    print(f"\n{duration(time.monotonic() - begun)} in all")
    folder = ROOT / "samples" / settings.recipe
    folder.mkdir(parents=True, exist_ok=True)
    history = read_history(run)
    shown = [Path(flag).name if Path(flag).is_absolute() else flag for flag in flags]
    command = shlex.join(["accelerate", "launch", script, *shown])
    told = dict(zip(given, shown, strict=True))
    kept = record(run, history, command, told)
    write_json(folder / f"{settings.name}.json", kept)
    free = not any(kept["config"]["flags"].get(name) for name in ("data", "style"))
    if free and history.samples:
        keep_grid(run / history.samples[-1].file, folder / "grid.png")
    print(f"\n    {command}\n\n{duration(history.seconds)} of training, on {machine()}:\n\n{table(history)}")


def record(run: Path, history: History, command: str, told: dict[str, str]) -> dict[str, Any]:
    """What is kept of a run, JSON-able; `told` has the names by which places are told."""
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    config["flags"]["out"] = None  # as in the command
    protocols = run / "protocols.json"
    phases = [
        {"name": phase.name, "steps": phase.steps, "seconds": round(phase.seconds, 3), **phase.validation}
        for phase in history.phases
    ]
    return {
        "command": command,
        "seconds": round(history.seconds, 3),
        "machine": machine(),
        "config": _without_places({key: value for key, value in config.items() if key != "command"}, told),
        "baseline": history.baseline,
        "phases": phases,
        "protocols": json.loads(protocols.read_text(encoding="utf-8")) if protocols.exists() else {},
    }


def table(history: History) -> str:
    """The phases as a table of Markdown, as the terminal has it."""
    heads, rows = phase_rows(history)
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def keep_grid(grid: Path, path: Path) -> None:
    """A sample grid as a PNG that is not wider than a page."""
    with Image.open(grid) as opened:
        picture = opened.convert("RGB")
    if picture.width > WIDEST:
        picture = picture.resize(
            (WIDEST, round(picture.height * WIDEST / picture.width)), Image.Resampling.LANCZOS
        )
    with replacing(path) as unfinished:
        picture.save(unfinished, "PNG", optimize=True)


def machine() -> str:
    """The processor or the GPU, and torch's version, in words."""
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    else:
        info = Path("/proc/cpuinfo")
        lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
        models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        device = f"{os.cpu_count()} cores of {models[0] if models else platform.machine()}, no GPU"
    return f"{device}, torch {torch.__version__.split('+')[0]}"


def _is_place(flag: str) -> bool:
    return not flag.startswith("-") and Path(flag).exists()


def _without_places(value: Any, told: dict[str, str]) -> Any:
    """`value` with its absolute paths as they are told: where things lay on one machine says nothing elsewhere."""
    if isinstance(value, dict):
        return {key: _without_places(inner, told) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_places(inner, told) for inner in value]
    if isinstance(value, str) and Path(value).is_absolute():
        return told.get(value, Path(value).name)
    return value


if __name__ == "__main__":
    own = sys.argv[1:] if "--" not in sys.argv else sys.argv[1 : sys.argv.index("--")]
    rest = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []
    apart = [word for flag in rest for word in (flag.split("=", 1) if flag.startswith("--") else [flag])]
    main(tyro.cli(Settings, args=own, description=__doc__), apart)
