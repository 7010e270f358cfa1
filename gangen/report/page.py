"""The page itself: what was read from a run, laid out as one HTML file."""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
from collections.abc import Iterable
from html import escape
from importlib.resources import files as package_files
from pathlib import Path
from string import Template
from typing import Any

from gangen import __version__
from gangen.files import write_text
from gangen.report.drawing import drawn_by_script, learners
from gangen.report.grids import Embedded, Grid, embed_figures, embed_grids, evenly
from gangen.report.history import History, read_history
from gangen.report.lanes import shares_of
from gangen.report.table import duration, number, phase_rows

_TURNS_LISTED = 300


def write_report(run: Path) -> Path:
    """Write RUN/report.html: curves, turns, sample grids, numbers, settings and commands in one file.

    The file is complete in itself (pictures are embedded, nothing is loaded) and may be passed on. It can be
    written while the training still goes on, and after a kill: a half-written last line of the log is left
    out. Long curves are thinned so that their extremes and gaps stay (`gangen.report.curves`), and grids so
    that the first and the last stay (`gangen.report.grids`: at most 40 of them and 12 MiB).

    Args:
        run: the run folder of a training, with at least its log.jsonl.

    Returns:
        The path of the report, which takes the place of an older one at once.

    Raises:
        RunError: the folder holds no log, or the report cannot be written.
    """
    run = Path(run)
    history = read_history(run)
    config, warnings = _read_config(run)
    grids, unreadable = embed_grids(run, history.samples)
    if unreadable:
        warnings.append(f"{unreadable} sample grids could not be read and are left out.")
    if history.damaged:
        warnings.append(f"{history.damaged} lines of the log could not be read and are left out.")
    if history.skipped:
        warnings.append(f"{history.skipped} steps were left out because a loss was not finite.")
    warnings += [f"Step {total:,}: {text}." for total, text in history.diagnoses]
    if history.rollbacks:
        times = "once" if history.rollbacks == 1 else f"{history.rollbacks} times"
        warnings.append(f"The training went back to a checkpoint {times}, at lower rates: {history.trouble}")
    text = _page(run, history, config, grids, warnings)
    write_text(run / "report.html", text)
    return run / "report.html"


def _read_config(run: Path) -> tuple[dict[str, Any], list[str]]:
    try:
        config = json.loads((run / "config.json").read_text(encoding="utf-8"))
        if isinstance(config, dict):
            return config, []
        trouble = "it holds no JSON object"
    except (OSError, ValueError) as error:
        trouble = str(error)
    return {}, [f"The settings are missing: config.json cannot be read ({trouble})."]


def _page(run: Path, history: History, config: dict[str, Any], grids: list[Grid], warnings: list[str]) -> str:
    here = package_files("gangen.report")
    script = (here / "page.js").read_text(encoding="utf-8")
    script_hash = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    phase = history.phases[-1].name if history.phases else None
    state = {"training": "not finished"}.get(history.state, history.state)
    return Template((here / "page.html").read_text(encoding="utf-8")).substitute(
        title=escape(str(config.get("recipe") or run.resolve().name)),
        about=escape(f"run folder {run.resolve().name}"),
        state=history.state,
        state_text=escape(f"{state}: {phase}" if phase and state != "finished" else state),
        script_hash=f"sha256-{script_hash}",
        style=(here / "page.css").read_text(encoding="utf-8"),
        script=script,
        data=_inert_json(drawn_by_script(history)),
        warnings="".join(f'<p class="warning">{escape(warning)}</p>' for warning in warnings),
        tiles=_tiles(history),
        samples=_samples(grids) + _figures(embed_figures(run, history.figures)),
        phases=_phases(history),
        turns=_turns(history),
        commands=_commands(run, config),
        settings=_settings(config),
        version=escape(__version__),
    )


def _inert_json(value: Any) -> str:
    """Write JSON that cannot end the script element that it stands in."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _tiles(history: History) -> str:
    planned = sum(phase.planned for phase in history.phases)
    shown = [(f"{history.total:,}", f"of {planned:,} steps" if planned > history.total else "steps")]
    if history.seconds:
        shown.append((duration(history.seconds), "training"))
    speed = history.timing["pictures_per_second"].last() if "pictures_per_second" in history.timing else None
    if speed is not None:
        shown.append((number(speed), "pictures per second"))
    for name, curve in history.metrics.items():
        if not name.endswith("_target") and (value := curve.last()) is not None and len(shown) < 7:
            shown.append((number(value), f"{name}, last validation"))
    return "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>' for value, name in shown
    )


def _samples(grids: list[Grid]) -> str:
    if not grids:
        return ""
    figures = []
    for index, grid in enumerate(grids):
        sample = grid.sample
        name = f"step {sample.total:,} · {sample.phase}"
        if sample.step != sample.total:
            name += f", step {sample.step:,} of it"
        hidden = "" if index == len(grids) - 1 else " hidden"
        figures.append(
            f'<figure data-total="{sample.total}" data-name="{escape(name)}"{hidden}>'
            + _picture(grid, f"Samples at {name}")
            + (_picture(grid.between, f"Ways between them at {name}") if grid.between else "")
            + "</figure>"
        )
    last = len(grids) - 1
    return (
        '<section>\n<h2>Samples</h2>\n<div class="card samples">\n' + "\n".join(figures) + "\n"
        f'<div class="bar"><output id="sample-name" for="sample">{escape(name)}</output>'
        f'<input id="sample" type="range" min="0" max="{last}" value="{last}" '
        'aria-label="Samples over the training">'
        '<span class="muted">Arrow keys move through the training.</span></div>\n</div>\n</section>'
    )


def _figures(figures: dict[str, Embedded]) -> str:
    return "".join(
        f'<section>\n<h2>{escape(title)}</h2>\n<div class="card samples">'
        f"<figure>{_picture(picture, title)}</figure></div>\n</section>"
        for title, picture in figures.items()
    )


def _picture(picture: Embedded, alt: str) -> str:
    size = f'width="{picture.width}" height="{picture.height}"'
    return f'<img src="{picture.address}" {size} alt="{escape(alt)}">'


def _phases(history: History) -> str:
    tones = {player: index % 8 for index, player in enumerate(learners(history))}
    (first, *heads), rows = phase_rows(history)
    lines = []
    phases = [None] * (len(rows) - len(history.phases)) + history.phases  # a row of the baseline has no phase
    for phase, (name, *numbers) in zip(phases, rows, strict=True):
        shares = shares_of(history, phase) if phase and phase.steps else {}
        learned = "".join(
            f'<span class="share t{tones[player]}"><i>{escape(player)} {share:.0%}</i></span>'
            for player, share in shares.items()
            if share and player in tones
        )
        cells = "".join(f"<td>{escape(text)}</td>" for text in numbers)
        lines.append(f'<tr><td class="name">{escape(name)}</td><td class="name">{learned}</td>{cells}</tr>')
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    head = f'<th class="name">{first}</th><th class="name">Who learned</th>{head}'
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>"


def _turns(history: History) -> str:
    if not history.turns:
        return ""
    listed = evenly(history.turns, _TURNS_LISTED)
    more = f"{len(listed)} of them, evenly spread" if len(listed) < len(history.turns) else "each with its reason"
    rows = "".join(
        f'<tr><td>{turn.total:,}</td><td class="name">{escape(" + ".join(turn.to))}</td>'
        f'<td class="name wide">{escape(turn.reason)}</td></tr>'
        for turn in listed
    )
    return (
        f"<details><summary>{len(history.turns):,} turns <span>{more}</span></summary><div><table>"
        '<tr><th>After step</th><th class="name">To</th><th class="name">Why</th></tr>'
        f"{rows}</table></div></details>"
    )


def _commands(run: Path, config: dict[str, Any]) -> str:
    recorded = config.get("command")
    if not recorded:
        return '<p class="muted">The command was not recorded.</p>'
    try:
        words = list(map(str, recorded)) if isinstance(recorded, list) else shlex.split(str(recorded))
    except ValueError:  # an unbalanced quote
        words = str(recorded).split()
    words = [word for word in words if word != "--resume"]
    words = [part for word in words for part in (word.split("=", 1) if word.startswith("--out=") else [word])]
    machine = config.get("machine")
    machine = machine if isinstance(machine, dict) else {}
    processes = machine.get("processes")
    known = machine.get("type") and machine.get("machines", 1) == 1
    if known and isinstance(processes, int) and processes > 1 and words[:1] == ["python"]:
        on_cpu = ["ACCELERATE_USE_CPU=true", "torchrun", "--nproc_per_node", str(processes)]
        on_gpus = ["accelerate", "launch", "--multi_gpu", "--num_processes", str(processes)]
        words[:1] = on_cpu if machine.get("type") == "cpu" else on_gpus
    out = next((words[k + 1] for k, word in enumerate(words[:-1]) if word == "--out"), None)
    again = [f"{word}-again" if word == out else word for word in words]
    on = [*words, *([] if out else ["--out", str(run)]), "--resume"]
    return "".join(
        f"<h3>{title}</h3><pre><code>{escape(shlex.join(command))}</code>"
        '<button class="copy" type="button">Copy</button></pre>'
        for title, command in [("The same training again", again), ("On from where it stopped", on)]
    )


def _settings(config: dict[str, Any]) -> str:
    sections: dict[str, list[tuple[str, str]]] = {}
    for key, value in config.items():
        if key == "command":
            continue
        rows = list(_flat(value, ""))
        sections.setdefault(key if isinstance(value, dict) else "run", []).extend(
            rows if isinstance(value, dict) else [(key, rows[0][1])]
        )
    parts = [
        '<input id="search" type="search" placeholder="Search the settings" aria-label="Search the settings">'
    ]
    for title, rows in sections.items():
        cells = "".join(
            f'<tr><td class="name key wide">{escape(name)}</td><td class="value">{escape(value)}</td></tr>'
            for name, value in rows
        )
        opened = " open" if title == "flags" else ""
        parts.append(
            f'<details class="settings"{opened}><summary>{escape(title)} <span>{len(rows)}</span></summary>'
            f"<div><table>{cells}</table></div></details>"
        )
    return "\n".join(parts)


def _flat(value: Any, name: str) -> Iterable[tuple[str, str]]:
    """Yield nested settings as dotted names and texts."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
