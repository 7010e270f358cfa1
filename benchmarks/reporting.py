"""What a benchmark found, as tables that people read and as JSON, with the machine, versions and commit."""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from gangen.files import write_json

NO_GPU = "no GPU"
UNUSED = "its GPU not used"
ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Table:
    """A table of Markdown.

    Attributes:
        columns: their heads.
        rows: cells, as text.
        before: what it shows, in a sentence or two.
        after: what is to be said of it.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    before: str = ""
    after: str = ""

    def __str__(self) -> str:
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        shown = "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
        return "\n\n".join(part for part in (self.before, shown, self.after) if part)


@dataclass
class Found:
    """What one program found.

    Attributes:
        title: of its section.
        tables: for people.
        values: for programs: all that was measured.
        packages: whose versions matter, besides torch's and gangen's.
        on_cpu: whether no GPU is used where there is one.
    """

    title: str
    tables: Sequence[Table]
    values: dict[str, Any] = field(default_factory=dict)
    packages: Sequence[str] = ()
    on_cpu: bool = False


def tell(found: Found, out: Path | None) -> None:
    """Print the tables, and keep all of it in `out` as JSON, with how it was measured."""
    shown = "\n\n".join(map(str, found.tables))
    print(f"\n## {found.title}\n\n{shown}")
    if out is not None:
        words = ["python", f"benchmarks/{Path(sys.argv[0]).name}", *_without_out(sys.argv[1:])]
        measured = {
            "command": shlex.join(words),
            "machine": machine(on_cpu=found.on_cpu),
            "commit": _COMMIT,
            "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
            "versions": _versions(found.packages),
        }
        kept = {"title": found.title, "measured": measured, "text": shown, "values": found.values}
        write_json(out, kept)


def machine(*, on_cpu: bool = False) -> str:
    """CPU, with the instructions that torch uses there, cores, and GPU, or that it has none or needed none."""
    cores = torch.get_num_threads()
    there = torch.cuda.is_available()
    gpu = (UNUSED if on_cpu else torch.cuda.get_device_name()) if there else NO_GPU
    # Makers sell CPUs of several generations by one name; their instructions tell them apart
    return f"{_cpu()} ({torch.backends.cpu.get_cpu_capability()}), {cores} threads, {gpu}"


def commit() -> str:
    """The commit of this checkout, with a mark where files differ from it, the results' own aside."""

    def told(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    changed = told("status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/RESULTS.*")
    return (told("rev-parse", "--short", "HEAD") or "unknown") + ("-dirty" if changed else "")


_COMMIT = commit()
"""As it was when the program began."""


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _versions(packages: Sequence[str]) -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("torch", "gangen", *packages):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _without_out(words: Sequence[str]) -> list[str]:
    kept, skip = [], False
    for word in words:
        if not (skip or word.startswith("--out")):
            kept.append(word)
        skip = word == "--out"
    return kept
