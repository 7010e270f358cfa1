"""A run folder such as a training leaves behind: three phases, adaptive turns, noisy curves, real grids."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

PHASES = [
    ("pretrain-generator", 1200, ["generator"]),
    ("pretrain-critic", 300, ["critic", "generator"]),
    ("adversarial", 900, ["critic", "generator"]),
]


def write_fake_run(run: Path, *, every: int = 10, grids: int = 12, seed: int = 0) -> Path:
    """Write config.json, log.jsonl, timing.jsonl and samples/ as a finished training would."""
    dice = random.Random(seed)
    log: list[dict[str, Any]] = []
    timing: list[dict[str, Any]] = []
    steps_in_all = sum(steps for _, steps, _ in PHASES)
    sampled = {round(k * steps_in_all / (grids - 1) / every) * every for k in range(grids)} if grids else set()
    total = 0
    for index, (name, steps, players) in enumerate(PHASES):
        log.append({"event": "phase", "phase": name, "index": index, "step": 0, "steps": steps, "total": total,
                    "players": players})  # fmt: skip
        turn, since = [players[0]], 0
        for step in range(1, steps + 1):
            total += 1
            place = {"phase": name, "step": step, "total": total}
            if step % every == 0:
                log.append({"event": "train", **place, "turn": turn, **_terms(turn, name, total, dice)})
                timing.append({"total": total, "phase": name, "seconds": step * 0.11 * (index + 1),
                               "pictures_per_second": 140 / (index + 1) + dice.gauss(0, 3),
                               "waiting": abs(dice.gauss(0.03, 0.01))})  # fmt: skip
            if step % 100 == 0:
                log.append({"event": "validation", **place, **_metrics(total, dice), "best": step % 300 == 0})
            if total in sampled or total == 1:
                file = f"samples/step-{total:06}.png"
                log.append({"event": "samples", **place, "file": file})
                _draw_grid(run / file, total / steps_in_all)
            since += 1
            if name == "adversarial" and since > dice.randint(4, 30):
                turn, since = (["generator"] if turn == ["critic"] else ["critic"]), 0
                reason = f"critic/adversarial {dice.uniform(0.6, 0.65):.2f} < 0.65"
                log.append({"event": "turn", **place, "to": turn, "reason": reason})
    log.append({"event": "end", "phase": PHASES[-1][0], "step": PHASES[-1][1], "total": total})
    write_log(run, log)
    (run / "timing.jsonl").write_text("".join(json.dumps(line) + "\n" for line in timing))
    (run / "config.json").write_text(json.dumps(_config(), indent=2))
    return run


def write_log(run: Path, lines: list[dict[str, Any]]) -> None:
    """Write log.jsonl; NaN is written the way json does."""
    run.mkdir(parents=True, exist_ok=True)
    (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def _terms(turn: list[str], phase: str, total: int, dice: random.Random) -> dict[str, float]:
    fade = math.exp(-total / 500)
    terms: dict[str, float] = {}
    if "generator" in turn:
        parts = {"pixel": 0.05 + 0.3 * fade, "perceptual": 0.2 + 0.6 * fade}
        if phase == "adversarial":
            parts["adversarial"] = 0.7 + 0.1 * math.sin(total / 60)
        parts = {name: value * math.exp(dice.gauss(0, 0.12)) for name, value in parts.items()}
        terms |= {f"generator/{name}": value for name, value in parts.items()}
        terms |= {"generator/loss": sum(parts.values()), "generator/lr": 1e-3 * (1 - total / 2600),
                  "generator/gradient_norm": 2 * math.exp(dice.gauss(0, 0.4))}  # fmt: skip
    if "critic" in turn:
        loss = (0.6 + 0.4 * math.exp(-(total - 1200) / 90)) * math.exp(dice.gauss(0, 0.08))
        terms |= {"critic/adversarial": loss, "critic/loss": loss, "critic/lr": 4e-4,
                  "critic/gradient_norm": math.exp(dice.gauss(0, 0.5))}  # fmt: skip
    return terms


def _metrics(total: int, dice: random.Random) -> dict[str, float]:
    done = 1 - math.exp(-total / 600)
    return {
        "l1": 0.25 - 0.18 * done + dice.gauss(0, 0.003),
        "psnr": 14 + 8 * done + dice.gauss(0, 0.2),
        "ssim": 0.4 + 0.4 * done + dice.gauss(0, 0.01),
        "saturation": 0.05 + 0.12 * done + dice.gauss(0, 0.004),
        "saturation_target": 0.172,
    }


def _draw_grid(path: Path, done: float) -> None:
    """Draw rows of input, output and target, the output the less grey the more is `done`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cell, names = 96, ["input", "output", "target"]
    grid = Image.new("RGB", (cell * 6, 20 + cell * 3), "white")
    pen = ImageDraw.Draw(grid)
    for column in range(6):
        pen.text((column * cell + 6, 4), names[column % 3], fill="black")
        for row in range(3):
            hue = (row * 2 + column // 3) * 60
            full = Image.new("HSV", (1, 1), (hue * 255 // 360, 200, 220)).convert("RGB").getpixel((0, 0))
            share = (0.0, done, 1.0)[column % 3]
            colour = tuple(round(230 + (tone - 230) * share) for tone in full)
            left, top = column * cell + 10, 30 + row * cell
            pen.ellipse((left, top, left + cell - 20, top + cell - 20), fill=colour, outline="black", width=2)
    grid.save(path)


def _config() -> dict[str, Any]:
    return {
        "recipe": "sketch_to_image",
        "command": "python recipes/sketch_to_image.py --data photos --out runs/first --size 64",
        "flags": {"data": "photos", "out": "runs/first", "size": 64, "batch_size": 16, "body": "resnet18",
                  "weights": "none", "seed": 0, "steps": {"generator": 1200, "critic": 300, "adversarial": 900},
                  "critic_threshold": 0.65, "track": "none", "workers": 2},
        "body": {"name": "resnet18", "weights": "none", "why": "the download was impossible"},
        "data": {"pictures": 812, "train": 731, "validation": 81, "fingerprint": "9b1c55e0f2"},
        "machine": {"device": "cpu", "cores": 2, "processes": 1, "precision": "no"},
        "versions": {"gangen": "0.1.0", "torch": "2.9.0", "python": "3.12.3"},
    }  # fmt: skip
