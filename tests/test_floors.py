"""A file imports only from floors below its own; data, nets, losses and metrics do not know each other."""

import ast
from pathlib import Path

from tests.conftest import ROOT

FLOORS = {
    **dict.fromkeys(["colour", "errors", "files", "images", "labels", "layout", "seeding", "weights"], 0),
    **dict.fromkeys(["nets", "losses", "data", "metrics"], 1),
    "train": 2,
    **dict.fromkeys(["answers", "tiles", "loading", "painting", "pipeline", "views"], 3),
    **dict.fromkeys(["evaluation", "label_evaluation", "export", "report"], 3),
    **dict.fromkeys(["recipe", "cli"], 4),
    **dict.fromkeys(["recipes", "benchmarks"], 5),
}
# Floor 0 is one room; on the others a room may use its neighbours only where this says so.
NEIGHBOURS = {0: True, 1: False, 2: True, 3: True, 4: False, 5: False}


def room(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[1] if parts[0] == "gangen" else parts[0]


def imported(path: Path) -> list[str]:
    """The rooms of gangen that a file imports, also those only for the type checker."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            module = node.module or ""
            names += [f"gangen.{alias.name}" for alias in node.names] if module == "gangen" else [module]
    rooms = [name.split(".")[1] for name in names if name.startswith("gangen.")]
    return [name for name in rooms if name in FLOORS] + [n for n in names if n in ("recipes", "benchmarks")]


def violations(files: list[Path]) -> tuple[int, list[str]]:
    seen, wrong = 0, []
    for path in files:
        own = room(path)
        if own == "__init__":
            continue
        assert own in FLOORS, f"{path} stands on no floor; give it one in FLOORS"
        for other in imported(path):
            seen += 1
            higher = FLOORS[other] > FLOORS[own]
            stranger = FLOORS[other] == FLOORS[own] and other != own and not NEIGHBOURS[FLOORS[own]]
            if higher or stranger:
                wrong.append(f"{path.relative_to(ROOT)} (floor {FLOORS[own]}) imports {other} ({FLOORS[other]})")
    return seen, wrong


def sources() -> list[Path]:
    return sorted(path for top in ("gangen", "recipes", "benchmarks") for path in (ROOT / top).rglob("*.py"))


def test_files_import_only_from_floors_below() -> None:
    seen, wrong = violations(sources())
    assert seen > 100, "the guard found hardly any imports: is it looking in the right place?"
    assert wrong == []


def test_only_the_training_floor_and_those_above_know_accelerate() -> None:
    knowing = {
        room(path)
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom | ast.Import)
        and any(
            name.split(".")[0] == "accelerate"
            for name in (
                [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            )
        )
    }
    assert "train" in knowing
    assert knowing <= {"train", "recipe", "benchmarks"}


def test_no_room_is_longer_than_350_lines() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in sources()}
    assert len(lengths) > 30
    assert {str(path): length for path, length in lengths.items() if length > 350} == {}
