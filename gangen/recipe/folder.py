"""The run folder: a free one, or that of the run to go on with, made with the same flags unless that is waived."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from gangen.errors import RunError, UserError
from gangen.recipe.flags import Common, plain

MAY_CHANGE = {"out", "resume", "allow_changes", "track", "workers", "keep"}
"""Flags that change nothing of what is computed, so that a run may be resumed with others."""

ADDED = {"compile": False, "draft": False}
"""Flags that older runs do not know, at the value that leaves everything as it was for them."""

_UNKNOWN = "did not exist when that run was started"


def launched() -> str | None:
    """What torchrun calls the launch that started this process, the same after it has started it again."""
    name = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    return None if name == "none" else name


def choose_folder(recipe: str, flags: Common) -> tuple[str, bool] | UserError:
    """The run folder, and whether it is to be resumed; or the error, to be raised on every process.

    Started again by `torchrun --max_restarts`, after one of its processes has died, a run goes on by itself.
    """
    try:
        if int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0 and not flags.resume:
            before = flags.out or newest_folder(recipe, "config.json")
            if before is not None and launched() and _told(before, "launch") == launched():
                flags = dataclasses.replace(flags, out=before, resume=True)
        return str(_folder(recipe, flags)), flags.resume
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
        different = differences(flags.out, flags)
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
    different = differences(folder, flags)
    if different and flags.allow_changes:
        sys.stderr.write(f"--allow-changes: going on in {folder} with other flags: {'; '.join(different)}.\n")
    elif different:
        older = any(_UNKNOWN in text for text in different)
        remedy = "Resume it with the older gangen that made it" if older else "Repeat its own flags"
        raise RunError(
            f"--resume: the run in {folder} has other flags: {'; '.join(different)}. {remedy}, or start a new run "
            "in another --out; or go on with these all the same by --allow-changes."
        )


def differences(folder: Path, flags: Common) -> list[str]:
    """What differs between these flags and those of the run in `folder`, in words."""
    before = _told(folder, "flags")
    if not isinstance(before, dict):
        return [f"{folder / 'config.json'} is missing or cannot be read"]
    before, now = {**ADDED, **before}, plain(dataclasses.asdict(flags))
    names = [name for name in now if name not in MAY_CHANGE and before.get(name) != now[name]]
    told = {name: f"was {before[name]} and is {now[name]}" if name in before else _UNKNOWN for name in names}
    return [f"--{name.replace('_', '-')} {text}" for name, text in told.items()]


def _told(folder: Path, name: str) -> Any:
    """What the config.json of a run says of `name`; None where it says nothing or cannot be read."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return config.get(name) if isinstance(config, dict) else None
