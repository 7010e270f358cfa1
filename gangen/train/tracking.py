"""Dashboards, through accelerate: wandb, TensorBoard, and every other tracker that it knows."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from accelerate.tracking import get_available_trackers
from accelerate.utils import LoggerType
from PIL import Image

from gangen.errors import UserError
from gangen.files import write_json
from gangen.train.callback import Callback

if TYPE_CHECKING:
    from gangen.train.trainer import Trainer


# Trackers that take a stack of pictures (N, H, W, 3), and how accelerate is told so.
_TAKE_PICTURES: dict[str, dict[str, Any]] = {"tensorboard": {"dataformats": "NHWC"}, "wandb": {}}


def check_tracker(name: str) -> str:
    """`name`, if it is a tracker that accelerate knows and that is installed.

    Raises:
        UserError: it is neither; says what there is or how to install it.
    """
    known = sorted(str(tracker.value) for tracker in LoggerType if tracker.value != "all")
    if name not in known:
        raise UserError(f"--track {name}: no such tracker. accelerate knows: {', '.join(known)}.")
    if name not in [str(getattr(tracker, "value", tracker)) for tracker in get_available_trackers()]:
        raise UserError(f"--track {name}: it is not installed; pip install {name}")
    return name


def wandb_mode() -> dict[str, str]:
    """What wandb is to be started with: nothing special, or offline where there is no login, and that is said."""
    import wandb

    if os.environ.get("WANDB_MODE") or wandb.login(prompt=False, verify=False):
        return {}
    sys.stderr.write(
        "wandb: no login found, so it records offline in the run folder. `wandb login` before the next run, or "
        "`wandb sync RUN/wandb/offline-run-*` afterwards, brings it to the dashboard.\n"
    )
    return {"mode": "offline"}


class Tracking(Callback):
    """Sends every number to the accelerator's trackers, and the sample grids to wandb and TensorBoard.

    Without trackers it does nothing. A run that was cut and goes on repeats the steps since its last checkpoint;
    what it had told of them already is not told again.

    Args:
        project: name of the project on the dashboard.
        config: what is shown as the run's configuration.
    """

    def __init__(self, project: str, config: dict[str, Any]) -> None:
        self.project, self.config = project, config
        self._told: set[tuple[str, int]] = set()
        self._latest = self._known = -1

    def on_fit_start(self, trainer: Trainer) -> None:
        """Open the trackers; a resumed run goes on in the one it had."""
        if not trainer.accelerator.log_with:
            return
        self._told, self._latest, self._known = _in_the_log(trainer.run), -1, -1
        names = [_name(tracker) for tracker in trainer.accelerator.log_with]
        options: dict[str, Any] = {}
        if "wandb" in names and trainer.run and trainer.accelerator.is_main_process:
            identity = {"id": _identity(trainer.run), "resume": "allow"}
            place = {"name": trainer.run.name, "dir": str(trainer.run)}
            options["wandb"] = {**place, **identity, **wandb_mode()}
        # Trackers take plain values only; anything else is shown as text.
        plain = {k: v if isinstance(v, (int, float, str, bool)) else json.dumps(v) for k, v in self.config.items()}
        trainer.accelerator.init_trackers(self.project, plain, options)

    def on_log(self, trainer: Trainer, record: dict[str, Any]) -> None:
        """Pass numbers and grids on."""
        if record["event"] == "rollback":
            self._known = self._latest  # what comes again was told
        if (record["event"], trainer.total) in self._told or trainer.total <= self._known:
            return
        self._latest = max(self._latest, trainer.total)
        if record["event"] == "samples" and trainer.run and trainer.accelerator.is_main_process:
            with Image.open(trainer.run / record["file"]) as grid:
                picture = np.asarray(grid.convert("RGB"))
            for tracker in trainer.accelerator.trackers:
                if tracker.name in _TAKE_PICTURES:
                    options = _TAKE_PICTURES[tracker.name]
                    tracker.log_images({"samples": np.stack([picture])}, step=trainer.total, **options)
        prefix = f"{record['event']}/" if record["event"] in ("validation", "health") else ""
        numbers = {f"{prefix}{k}": v for k, v in record.items() if isinstance(v, float)}
        if numbers:
            trainer.accelerator.log(numbers, step=trainer.total)

    def on_fit_end(self, trainer: Trainer) -> None:
        """Close the trackers."""
        # Not accelerator.end_training(), which would also disconnect the processes.
        for tracker in trainer.accelerator.trackers:
            tracker.finish()


def _in_the_log(run: Path | None) -> set[tuple[str, int]]:
    """Events and total steps of all records that were written before this run was cut."""
    log = run / "log.jsonl" if run else None
    if log is None or not log.exists():
        return set()
    told = set()
    for line in log.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(ValueError, KeyError):  # a line that was cut was not told of either
            record = json.loads(line)
            told.add((record["event"], record["total"]))
    return told


def _name(tracker: Any) -> str:
    return str(getattr(tracker, "value", getattr(tracker, "name", tracker)))


def _identity(run: Path) -> str:
    """The wandb identity of this run folder, made once."""
    path = run / "tracking.json"
    if not path.exists():
        write_json(path, {"wandb": uuid.uuid4().hex[:8]})
    return str(json.loads(path.read_text(encoding="utf-8"))["wandb"])
