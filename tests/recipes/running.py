"""Running a recipe in this process, on pictures made for it."""

import json
import runpy
from pathlib import Path
from typing import Any

from gangen.data import embedded_photographs
from tests.conftest import ROOT


def train(recipe: str, flags: str, **values: Any) -> Path:
    """Run recipes/RECIPE.py with the dataclass `flags`; gives its run folder."""
    script = runpy.run_path(str(ROOT / "recipes" / f"{recipe}.py"))
    parsed = script[flags](**{"threads": 1, **values})
    script["main"](parsed)
    return Path(parsed.out)


def crops(folder: Path, count: int = 12, side: int = 48) -> Path:
    """Write crops of photographs into `folder`."""
    photographs = [photograph for _, photograph in embedded_photographs()]
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        left = 20 * (number // len(photographs))
        picture = photographs[number % len(photographs)]
        picture.crop((left, left, left + 4 * side, left + 4 * side)).resize((side, side)).save(
            folder / f"{number:02d}.png"
        )
    return folder


def records(run: Path, event: str) -> list[dict[str, Any]]:
    """The records of one kind in a run's log."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == event]
