"""Checkpoints: everything that a training needs to go on to the very same bits."""

from __future__ import annotations

import pickle
import random
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate.utils import gather_object

from gangen.errors import RunError
from gangen.files import replacing

if TYPE_CHECKING:
    from gangen.train.trainer import Trainer

FORMAT = 1
_NAME = re.compile(r"step-(\d+)\.pt")


class Checkpoints:
    """The files `step-N.pt` of a folder: written atomically, the newest `keep` of them kept."""

    def __init__(self, folder: Path, keep: int = 2) -> None:
        if keep < 1:
            raise ValueError("keep at least one checkpoint")
        self.folder, self.keep = folder, keep

    def save(self, state: dict[str, Any], total: int) -> Path:
        """Write `state` as the checkpoint of step `total`, then remove those that are too many.

        Raises:
            RunError: the disk is full or not writable; the checkpoints before are untouched.
        """
        path = self.folder / f"step-{total:08d}.pt"
        with replacing(path) as temporary:
            torch.save(state, temporary)
        for old in self.files()[: -self.keep]:
            old.unlink()
        return path

    def files(self) -> list[Path]:
        """The checkpoints, oldest first."""
        return sorted(path for path in self.folder.glob("step-*.pt") if _NAME.fullmatch(path.name))

    def load(self) -> dict[str, Any] | None:
        """The newest state, or None where there is none. Nothing in the file is executed.

        Raises:
            RunError: the file is damaged or of another version.
        """
        files = self.files()
        if not files:
            return None
        try:
            state = torch.load(files[-1], map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, OSError, ValueError, KeyError, pickle.UnpicklingError) as error:
            cause = f"{files[-1]} cannot be read ({type(error).__name__}: {str(error).splitlines()[0]})"
            rest = f" Move it away to go on from {files[-2].name}." if len(files) > 1 else " There is no other."
            raise RunError(f"{cause}.{rest}") from error
        if not isinstance(state, dict) or state.get("format") != FORMAT:
            raise RunError(f"{files[-1]} was not written by this version of gangen (format {FORMAT})")
        return state


def snapshot(trainer: Trainer) -> dict[str, Any]:
    """The whole state of a training between two steps. Every process must call it."""
    local = gather_object([{"random": _random_state(trainer), "meters": trainer.meters.state_dict()}])
    switcher = trainer.switcher
    return {
        "format": FORMAT,
        "plan": trainer.plan.summary(),
        "world": trainer.accelerator.num_processes,
        "phase": trainer.phase_index,
        "step": trainer.step,
        "total": trainer.total,
        "turn": list(trainer.turn),
        "held": trainer.held,
        "seats": {name: seat.steps for name, seat in trainer.seats.items()},
        "networks": {name: network.state_dict() for name, network in trainer.plan.networks.items()},
        "averages": {
            name: {"network": average.network.state_dict(), "updates": average.updates}
            for name, average in trainer.averages.items()
        },
        "optimizers": {
            **trainer.saved_optimizers,
            **{key: optimizer.state_dict() for key, optimizer in trainer.optimizers.items()},
        },
        "positions": list(trainer.positions),
        "switcher": switcher.state_dict() if switcher else {},
        "callbacks": [callback.state_dict() for callback in trainer.callbacks],
        "local": local,
        "log": trainer.journal.offset(),
        "timing": trainer.timing.offset(),
    }


def restore(trainer: Trainer, state: dict[str, Any]) -> None:
    """Put back what does not depend on the phase's players being seated.

    Raises:
        RunError: the checkpoint belongs to other phases, other networks or another number of processes.
    """
    _check_fits(trainer, state)
    for name, network in trainer.plan.networks.items():
        try:
            network.load_state_dict(state["networks"][name])
        except RuntimeError as error:
            raise RunError(f"the checkpoint's {name!r} is another network: {error}") from error
    for name, average in trainer.averages.items():
        average.network.load_state_dict(state["averages"][name]["network"])
        average.updates = state["averages"][name]["updates"]
    trainer.saved_optimizers = dict(state["optimizers"])
    trainer.phase_index, trainer.step, trainer.total = state["phase"], state["step"], state["total"]
    trainer.positions = list(state["positions"])
    trainer.journal.rewind(state["log"])
    trainer.timing.rewind(state["timing"])


def restore_local(trainer: Trainer, state: dict[str, Any]) -> None:
    """Put back what must come last: turn, meters, callbacks' states and random generators."""
    if trainer.step > 0:
        trainer.turn, trainer.held = tuple(state["turn"]), state["held"]
        for name, steps in state["seats"].items():
            trainer.seats[name].steps = steps
        if trainer.switcher:
            trainer.switcher.load_state_dict(state["switcher"])
    for callback, saved in zip(trainer.callbacks, state["callbacks"], strict=True):
        callback.load_state_dict(saved)
    mine = state["local"][trainer.accelerator.process_index]
    trainer.meters.load_state_dict(mine["meters"], trainer.accelerator.device)
    _set_random_state(trainer, mine["random"])


def _check_fits(trainer: Trainer, state: dict[str, Any]) -> None:
    remedy = "Resume with the flags that the run was started with, or start a new one in another --out."
    if state["plan"] != trainer.plan.summary():
        raise RunError(
            f"the checkpoint belongs to the phases {state['plan']}, these are {trainer.plan.summary()}. {remedy}"
        )
    world = trainer.accelerator.num_processes
    if state["world"] != world:
        raise RunError(
            f"the checkpoint was saved by {state['world']} process(es) and there are {world} now, so the batches "
            f"would differ. Launch {state['world']} process(es)."
        )
    if len(state["callbacks"]) != len(trainer.callbacks):
        raise RunError(
            f"the checkpoint was saved with {len(state['callbacks'])} callbacks, there are "
            f"{len(trainer.callbacks)} now. {remedy}"
        )


def _random_state(trainer: Trainer) -> dict[str, Any]:
    version, words, gauss = random.getstate()
    kind, keys, place, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002 (the generator others use)
    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "python": [version, list(words), gauss],
        "numpy": [str(kind), torch.from_numpy(np.asarray(keys).astype(np.int64)), place, has_gauss, cached],
    }
    if trainer.accelerator.device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(trainer.accelerator.device)
    return state


def _set_random_state(trainer: Trainer, state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    if "cuda" in state and trainer.accelerator.device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], trainer.accelerator.device)
