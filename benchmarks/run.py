"""Run the benchmarks, and write benchmarks/RESULTS.md and RESULTS.json from what they found.

    pip install -e ".[peers,samples]"
    python benchmarks/run.py                      # all that need no data of yours, 90 minutes on two CPU cores
    python benchmarks/run.py unet limit           # some of them
    python benchmarks/run.py camvid -- --data camvid --weights resnet34.safetensors
    python benchmarks/run.py --list               # what there is

Each program runs by itself, one after the other, and tells the command, machine, versions and commit that its
figures belong to. What is not run now keeps its place in both files, with what it was measured by. A program
that fails is named at the end, and its older figures stay. Leave the machine alone meanwhile.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from reporting import NO_GPU, UNUSED
from tyro.conf import Positional

from gangen.files import write_json, write_text

FOLDER = Path(__file__).resolve().parent
PROGRAMS = ("limit", "unet", "gan_step", "tried", "overhead", "data", "inference", "start", "scale")
"""In the order of the page. They need nothing but an installation."""
ON_DATA = ("imagenette", "camvid", "sketches", "learning", "reading", "checkpoints")
"""They take long, or data of yours; they run when they are named."""
ON_GPU = " (GPU)"
"""Marks the results that a GPU gave, which stand beside those of the CPU."""
HEAD = """# Results

Written by `python benchmarks/run.py`, which see. Every figure stands under the command that measured it, with
machine, versions and commit. A ratio with an interval in brackets is the median over rounds of one run, in which
the contestants took turns, and where it lies with 95% confidence. What the figures mean, and what was tried, is in
[docs/performance.md](../docs/performance.md).
"""


@dataclass(kw_only=True)
class Settings:
    """What is run."""

    programs: Annotated[Positional[tuple[str, ...]], tyro.conf.arg(metavar="[PROGRAM ...]")] = ()
    """Names of programs; all that need no data of yours when there are none."""
    list: bool = False
    """List the programs, and run none."""


def main(settings: Settings, flags: list[str]) -> None:
    if settings.list:
        for name in (*PROGRAMS, *ON_DATA):
            print(f"{name:12} {_about(name)}")
        return
    unknown = [name for name in settings.programs if name not in (*PROGRAMS, *ON_DATA)]
    if unknown:
        raise SystemExit(f"{unknown[0]} is no benchmark of these; there are: {', '.join((*PROGRAMS, *ON_DATA))}.")
    if flags and len(settings.programs) != 1:
        raise SystemExit(f"{' '.join(flags)}: flags after -- are of one program; name it.")
    failed = [name for name in settings.programs or PROGRAMS if not run(name, flags)]
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}. Figures that they had before were kept.")


def run(name: str, flags: list[str]) -> bool:
    """Let one program run, and write down at once what it found; whether it came to an end."""
    print(f"\n=== {name}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        done = subprocess.run([sys.executable, str(FOLDER / f"{name}.py"), *flags, "--out", str(out)], check=False)
        if done.returncode or not out.is_file():
            return False
        kept(name, json.loads(out.read_text(encoding="utf-8")))
    return True


def kept(name: str, found: dict[str, Any]) -> None:
    """Put what a program found in its place in both files: that of the CPU, or that of a GPU."""
    store = FOLDER / "RESULTS.json"
    results = json.loads(store.read_text(encoding="utf-8")) if store.is_file() else {}
    on_gpu = not found["measured"]["machine"].endswith((NO_GPU, UNUSED))
    results[f"{name}{ON_GPU}" if on_gpu else name] = found
    order = [f"{known}{where}" for known in (*PROGRAMS, *ON_DATA) for where in ("", ON_GPU)]
    ordered = {key: results[key] for key in order if key in results}
    write_json(store, ordered)
    write_text(FOLDER / "RESULTS.md", page(ordered))


def page(results: dict[str, Any]) -> str:
    """RESULTS.md, from what is in RESULTS.json."""
    sections = [HEAD]
    for key, found in results.items():
        by, where = found["measured"], ON_GPU if key.endswith(ON_GPU) else ""
        versions = ", ".join(f"{name} {number}" for name, number in by["versions"].items())
        how = f"{by['date']}, commit {by['commit']}, {by['machine']}; {versions}"
        sections.append(f"## {found['title']}{where}\n\n    {by['command']}\n\n{how}.\n\n{found['text']}\n")
    return "\n".join(sections)


def _about(name: str) -> str:
    """The first line of a program's own description."""
    source = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


if __name__ == "__main__":
    words = sys.argv[1:]
    own, rest = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    main(tyro.cli(Settings, args=own, description=__doc__), rest)
