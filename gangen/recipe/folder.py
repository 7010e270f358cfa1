"""The run folder: a free one, or that of the run to go on with, which must have been made with the same flags."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

from gangen.errors import RunError, UserError
from gangen.recipe.flags import Common, plain

_MAY_CHANGE = {"out", "resume", "track", "workers", "keep"}
"""Flags that change nothing of what is computed, so that a run may be resumed with others."""

_UNKNOWN = "did not exist when that run was started"


def choose_folder(recipe: str, flags: Common) -> str | UserError:
    """The run folder, free or to be resumed; or the error, to be raised on every process."""
    try:
        return str(_folder(recipe, flags))
    except UserError as error:
        return error


def _folder(recipe: str, flags: Common) -> Path:
    if flags.resume:
        folder = flags.out or newest_folder(recipe, "config.json") or Path("runs") / recipe
        if not (folder / "config.json").exists():
            raise RunError(f"--resume: {folder} holds no run. Name its folder with --out, or leave --resume out.")
        _check_flags(folder, flags)
        return folder
    if flags.out is None:
        return free_folder(recipe)
    if flags.out.exists() and not flags.out.is_dir():
        raise RunError(f"--out {flags.out} is a file; name a folder.")
    if _holds_a_run(flags.out):
        different = _differences(flags.out, flags)
        other = f"of another configuration ({'; '.join(different)})" if different else "with these flags"
        raise RunError(
            f"--out {flags.out} already holds a run {other}. "
            + ("Choose another --out." if different else "Go on with it by --resume, or choose another --out.")
        )
    return flags.out


def free_folder(name: str) -> Path:
    """runs/NAME, or runs/NAME-2 and so on where that holds a run."""
    default = Path("runs") / name
    taken = [default, *(default.with_name(f"{name}-{n}") for n in range(2, 10_000))]
    return next(folder for folder in taken if not _holds_a_run(folder))


def newest_folder(name: str, told_by: str = "log.jsonl") -> Path | None:
    """The folder runs/NAME or runs/NAME-N in which the file `told_by` was written last; None if there is none."""
    named = re.compile(rf"{re.escape(name)}(-\d+)?")
    runs = [p for p in Path("runs").glob("*") if named.fullmatch(p.name) and (p / told_by).exists()]
    return max(runs, key=lambda path: (path / told_by).stat().st_mtime, default=None)


def _holds_a_run(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("config.json", "log.jsonl", "checkpoints", "pipeline"))


def _check_flags(folder: Path, flags: Common) -> None:
    different = _differences(folder, flags)
    if different:
        older = any(_UNKNOWN in text for text in different)
        remedy = "Resume it with the older gangen that made it" if older else "Repeat its own flags"
        raise RunError(
            f"--resume: the run in {folder} has other flags: {'; '.join(different)}. {remedy}, or start a new run "
            "in another --out."
        )


def _differences(folder: Path, flags: Common) -> list[str]:
    """What differs between these flags and those of the run in `folder`, in words."""
    try:
        before = json.loads((folder / "config.json").read_text(encoding="utf-8"))["flags"]
    except (OSError, ValueError, KeyError):
        return [f"{folder / 'config.json'} is missing or cannot be read"]
    now = plain(dataclasses.asdict(flags))
    names = [name for name in now if name not in _MAY_CHANGE and before.get(name) != now[name]]
    told = {name: f"was {before[name]} and is {now[name]}" if name in before else _UNKNOWN for name in names}
    return [f"--{name.replace('_', '-')} {text}" for name, text in told.items()]
