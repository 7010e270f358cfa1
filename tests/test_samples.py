"""What samples/ shows was made by the recipes as they are, and its pages say what was measured."""

import dataclasses
import json
import re
import runpy
import shlex
from pathlib import Path
from typing import Any

import pytest
import tyro
from PIL import Image

from gangen.recipe import Common
from gangen.recipe.flags import plain
from gangen.recipe.folder import ADDED, MAY_CHANGE
from gangen.report.table import duration, number
from tests.conftest import ROOT

RUNS = sorted((ROOT / "samples").glob("*/*.json"))
EMBEDDED = [path for path in RUNS if path.stem == "embedded"]
NO_METRIC = {"name", "steps", "seconds"}


def told(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def page(path: Path) -> str:
    return re.sub(r"\s*\\\n\s*", " ", (path.parent / "README.md").read_text(encoding="utf-8"))


def name(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def test_there_are_samples() -> None:
    assert EMBEDDED


@pytest.mark.parametrize("path", RUNS, ids=name)
def test_the_page_has_the_command_and_every_number(path: Path) -> None:
    run, text = told(path), page(path)
    assert run["command"] in text
    metrics = [key for key in run["phases"][-1] if key not in NO_METRIC]
    rows = [
        [
            phase["name"],
            f"{phase['steps']:,}",
            duration(phase["seconds"]),
            *(number(phase.get(m)) for m in metrics),
        ]
        for phase in run["phases"]
    ]
    if run["baseline"]:
        rows.append(["baseline", "–", "–", *(number(run["baseline"][metric]) for metric in metrics)])
    assert metrics
    lines = text.splitlines()
    assert [row for row in rows if f"| {' | '.join(row)} |" not in lines] == []
    assert duration(run["seconds"]) in text
    assert set(run["protocols"]["metrics"]) >= {key for phase in run["phases"] for key in phase} - NO_METRIC


@pytest.mark.parametrize("path", RUNS, ids=name)
def test_the_recipe_still_has_the_settings_of_its_sample(path: Path) -> None:
    """Where a default has changed, the sample is of another recipe: make it again (benchmarks/samples.py)."""
    run = told(path)
    launch, flags = shlex.split(run["command"])[:3], shlex.split(run["command"])[3:]
    assert launch == ["accelerate", "launch", f"recipes/{path.parent.name}.py"]
    script = runpy.run_path(str(ROOT / launch[-1]))
    own = [kind for kind in script.values() if isinstance(kind, type) and issubclass(kind, Common)]
    (kind,) = [kind for kind in own if kind.__module__ != Common.__module__]
    now, then = plain(dataclasses.asdict(tyro.cli(kind, args=flags))), run["config"]["flags"]
    then = {k: v for k, v in ADDED.items() if k in now} | then
    random = (run["config"].get("body") or {}).get("kind") == "none"
    of_no_effect = MAY_CHANGE | ({"norms"} if random else set())  # random norms know nothing that could be kept
    if random and now.get("optimizer") == "auto":
        now["optimizer"] = "adam"
    assert {k: v for k, v in now.items() if k not in of_no_effect} == {
        k: v for k, v in then.items() if k not in of_no_effect
    }


@pytest.mark.parametrize("path", EMBEDDED, ids=name)
def test_its_grid_is_on_the_page(path: Path) -> None:
    assert "](grid.png)" in page(path)
    grid = path.parent / "grid.png"
    assert min(Image.open(grid).size) > 100
    assert grid.stat().st_size < 1.5 * 2**20
