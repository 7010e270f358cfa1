"""The run folder: a free one, or that of the run to go on with, made with the same flags unless that is waived."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import re
import sys
from pathlib import Path
from typing import Any

from gangen.errors import RunError, UserError
from gangen.files import Claim, claim
from gangen.recipe.flags import Common, plain
from gangen.train.claims import claim_run

MAY_CHANGE = {"out", "resume", "allow_changes", "track", "workers", "keep"}
"""Flags that change nothing of what is computed, so that a run may be resumed with others."""

ADDED = {"compile": False, "draft": False, "early_share": 1.0, "norms": "hold", "optimizer": "adam"}
"""Flags that older runs do not know, at the value that leaves everything as it was for them."""

_UNKNOWN = "did not exist when that run was started"


def launched() -> str | None:
    """The launch that started this process, the same after it has started it again; None where none did.

    It is what torchrun calls it. Where it has no name ("none"), as with `accelerate launch` or where addresses
    are given, it is the launcher on this machine, by its number and when it began: it outlives the processes
    that it starts again.
    """
    name = os.environ.get("TORCHELASTIC_RUN_ID")
    if name != "none":
        return name
    launcher = os.getppid()
    try:
        # The 22nd field of proc(5): a number alone may be another program's by now, or in another container
        begun = Path(f"/proc/{launcher}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        begun = "some time"
    return f"{platform.node()}, process {launcher} of {begun}"


def choose_folder(recipe: str, flags: Common) -> tuple[tuple[str, bool] | UserError, Claim | None]:
    """The run folder, and whether it is to be resumed; or the error, to be raised on every process.

    Started again by its launcher (`--max_restarts`), after one of its processes has died, a run goes on by itself.

    Returns:
        What was chosen, and what keeps other trainings out of the folder for as long as it is kept.
    """
    try:
        if int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0 and not flags.resume:
            before = flags.out or newest_folder(recipe, "config.json")
            if before is not None and launched() and _told(before, "launch") == launched():
                flags = dataclasses.replace(flags, out=before, resume=True)
        if flags.out is None and not flags.resume:
            folder, claimed = free_folder(recipe)
        else:
            folder = _folder(recipe, flags)
            claimed = claim_run(folder, resume=flags.resume)
            if not flags.resume:
                _folder(recipe, flags)  # once more: who had it may have left a run there meanwhile
        return (str(folder), flags.resume), claimed
    except UserError as error:
        return error, None


def _folder(recipe: str, flags: Common) -> Path:
    if flags.resume:
        folder = flags.out or newest_folder(recipe, "config.json") or Path("runs") / recipe
        if not (folder / "config.json").exists():
            raise RunError(f"--resume: {folder} holds no run. Name its folder with --out, or leave --resume out.")
        _check_flags(folder, flags)
        return folder
    assert flags.out is not None
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


def free_folder(name: str) -> tuple[Path, Claim]:
    """runs/NAME, or runs/NAME-2 and so on where that holds a run or one is just being started.

    Returns:
        The folder, and what keeps other trainings out of it for as long as it is kept.
    """
    default = Path("runs") / name
    for folder in (default, *(default.with_name(f"{name}-{n}") for n in range(2, 10_000))):
        claimed = None if _holds_a_run(folder) else claim(folder, again=False)
        if claimed is not None and not _holds_a_run(folder):  # which another may have begun and ended meanwhile
            return folder, claimed
    raise RunError(f"all of runs/{name} to runs/{name}-9999 hold runs. Move some away, or name a folder by --out.")


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
