"""Checkpoints: everything that a training needs to go on to the very same bits."""

from __future__ import annotations

import pickle
import random
import re
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate.utils import broadcast_object_list, gather_object

from gangen.errors import RunError
from gangen.files import replacing
from gangen.train.launch import set_seed
from gangen.train.streaming import merged

if TYPE_CHECKING:
    from gangen.train.trainer import Trainer

FORMAT = 2
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

    def newest_sound(self) -> Path | None:
        """The newest checkpoint whose checksums hold, or None where there is none at all.

        Those that are damaged are told of and renamed to `step-N.pt.damaged`.

        Raises:
            RunError: all are damaged.
        """
        damaged = sorted(self.folder.glob("step-*.pt.damaged"))
        for path in reversed(self.files()):
            trouble = _damage(path)
            if trouble is None:
                return path
            damaged.append(path.rename(path.with_name(f"{path.name}.damaged")))
            sys.stderr.write(f"{path} is damaged ({trouble}); going on from the checkpoint before.\n")
        if damaged:
            raise RunError(
                f"every checkpoint in {self.folder} is damaged: {', '.join(path.name for path in damaged)}. Start "
                "a new run in another --out; is the disk sound?"
            )
        return None

    def discard_newest(self) -> None:
        """Remove the newest checkpoint: nothing good came of it."""
        for path in self.files()[-1:]:
            path.unlink()

    def load(self, path: Path) -> dict[str, Any]:
        """The state in a file. Nothing in it is executed.

        Raises:
            RunError: it is no checkpoint, or of another version.
        """
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, OSError, ValueError, KeyError, pickle.UnpicklingError) as error:
            lines = str(error).splitlines() or [""]
            # torch begins with advice on how to execute what is in a file, and names at last what it met there
            told = next((line.strip() for line in lines if "WeightsUnpickler error" in line), lines[0])
            cause = f"{type(error).__name__}: {told}"
            raise RunError(
                f"{path} cannot be read ({cause}). Move it away to go on from an older one, if there is one."
            ) from error
        if not isinstance(state, dict) or state.get("format") != FORMAT:
            raise RunError(f"{path} was not written by this version of gangen (format {FORMAT})")
        return state


def newest(trainer: Trainer) -> dict[str, Any] | None:
    """The newest sound state, the same on every process; None where there is none.

    Raises:
        RunError: there are checkpoints, but none that can be read.
    """
    checkpoints = trainer.checkpoints
    if checkpoints is None:
        return None
    chosen: list[Path | RunError | None] = [None]
    if trainer.accelerator.is_main_process:
        try:
            chosen = [checkpoints.newest_sound()]
        except RunError as error:
            chosen = [error]
    (found,) = broadcast_object_list(chosen)
    if isinstance(found, RunError):
        raise found
    return checkpoints.load(found) if found is not None else None


def snapshot(trainer: Trainer) -> dict[str, Any]:
    """The whole state of a training between two steps. Every process must call it."""
    local = gather_object([{"random": _random_state(trainer), "meters": trainer.meters.state_dict()}])
    positions = gather_object([list(trainer.positions)])
    switcher = trainer.switcher
    state = {
        "format": FORMAT,
        "plan": trainer.plan.summary(),
        "circumstances": circumstances(trainer),
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
        "scalers": {name: scaler.state_dict() for name, scaler in trainer.scalers.items()},
        "positions": [merged(of_source) for of_source in zip(*positions, strict=True)],
        "guard": trainer.guard.state_dict(),
        "switcher": switcher.state_dict() if switcher else {},
        "callbacks": [callback.state_dict() for callback in trainer.callbacks],
        "local": local,
        "log": trainer.journal.offset(),
        "timing": trainer.timing.offset(),
    }
    return {key: _plain(value) for key, value in state.items()}


def _plain(value: Any) -> Any:
    """`value` with NumPy's numbers as Python's, which a rate or a callback's state may be: none are read back."""
    if isinstance(value, np.generic):
        return value.item()
    if type(value) is dict:
        return {_plain(key): _plain(item) for key, item in value.items()}
    return type(value)(map(_plain, value)) if type(value) in (list, tuple) else value


def circumstances(trainer: Trainer) -> dict[str, Any]:
    """What decides which samples a place in the row of all samples stands for, by names for a person."""
    plan = trainer.plan
    sized = [len(source) if hasattr(source, "__len__") else "a stream" for source in plan.sources]
    sizes = [phase.batch_size or trainer.batch_size for phase in plan.phases]
    return {"the seed": trainer.seed, "the batch size of each phase": sizes, "samples of each data set": sized}


def restore(trainer: Trainer, state: dict[str, Any]) -> None:
    """Put back what does not depend on the phase's players being seated.

    Raises:
        RunError: the checkpoint belongs to other networks.
    """
    for name, network in trainer.plan.networks.items():
        try:
            network.load_state_dict(state["networks"][name])
        except RuntimeError as error:
            first = str(error).partition("\n")[0].rstrip(":")
            raise RunError(
                f"the checkpoint's {name!r} is another network ({first}). Resume it with the gangen that made it, "
                "or start a new run in another --out."
            ) from error
    for name, average in trainer.averages.items():
        if name in state["averages"]:
            average.network.load_state_dict(state["averages"][name]["network"])
            average.updates = state["averages"][name]["updates"]
        else:  # asked for since, by flags that were allowed to change
            average.network.load_state_dict(trainer.plan.networks[name].state_dict())
            average.updates = 0
    for name, scaler in trainer.scalers.items():
        if name in state["scalers"]:
            scaler.load_state_dict(state["scalers"][name])
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
    rank = trainer.accelerator.process_index
    if state["world"] == trainer.accelerator.num_processes:
        mine = state["local"][rank]
        trainer.meters.load_state_dict(mine["meters"], trainer.accelerator.device)
        _set_random_state(trainer, mine["random"])
    else:
        set_seed(trainer.seed + trainer.total, rank)


def check_fits(trainer: Trainer, state: dict[str, Any], allow_changes: bool = False) -> None:
    """Refuse a checkpoint of another training; say so where this one goes on under other circumstances.

    Args:
        trainer: with its plan.
        state: of the checkpoint.
        allow_changes: phases of other lengths will do, and other samples.

    Raises:
        RunError: the phases, the samples or the callbacks are others.
    """
    remedy = "Resume with the flags that the run was started with, or start a new one in another --out."
    old, new = state["plan"], trainer.plan.summary()
    alike = [{**phase, "steps": None} for phase in old] == [{**phase, "steps": None} for phase in new]
    if old != new and not (allow_changes and alike):
        raise RunError(f"the checkpoint belongs to the phases {old}, these are {new}. {remedy}")
    if old != new and state["phase"] == len(old):
        raise RunError(
            f"the training is finished, so that longer phases would add nothing: {old}. Start a new one."
        )
    before, now = state.get("circumstances", {}), circumstances(trainer)  # older ones do not tell
    changed = [f"{name} was {before[name]} and is {now[name]}" for name in before if before[name] != now[name]]
    if changed and not allow_changes:
        raise RunError(
            "the checkpoint is of other samples, so that some would come twice and others never: "
            f"{'; '.join(changed)}. Put it back, or go on all the same by fit(..., allow_changes=True). {remedy}"
        )
    world = trainer.accelerator.num_processes
    if state["world"] != world and trainer.accelerator.is_main_process:
        sys.stderr.write(
            f"The checkpoint was saved by {state['world']} process(es), and {world} go on from it. Weights, "
            "optimizers, averages and the order of the samples stay exact. Not what each process draws at random, "
            "such as dropout, nor the batch over all processes, which is so many times that of one.\n"
        )
    if len(state["callbacks"]) != len(trainer.callbacks):
        raise RunError(
            f"the checkpoint was saved with {len(state['callbacks'])} callbacks, there are "
            f"{len(trainer.callbacks)} now. {remedy}"
        )


def _damage(path: Path) -> str | None:
    """What is wrong with a file that torch wrote, by the CRC-32 of each of its parts; None when all is well."""
    try:
        with zipfile.ZipFile(path) as parts:
            part = parts.testzip()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return f"the checksum of {part} does not hold" if part else None


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
