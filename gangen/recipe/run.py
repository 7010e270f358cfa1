"""One training of a recipe, from the launch to the report."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import shlex
import sys
from collections.abc import Callable, Sequence, Sized
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch
import tyro
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object

from gangen.errors import RunError, UserError, WeightsError
from gangen.files import Claim, write_json, write_text
from gangen.nets import Body, Siamese
from gangen.recipe.flags import Common, Flags, check_ranges, plain, plain_path
from gangen.recipe.folder import choose_folder, differences, launched
from gangen.recipe.keeping import keep
from gangen.report import phase_table, write_report
from gangen.train import Callback, Health, Interrupted, Phase, Tracking, Trainer, launch, set_seed, steps_of
from gangen.train.compiled import check_compiler
from gangen.train.showing import shown
from gangen.train.tracking import check_tracker

F = TypeVar("F", bound=Common)


class Run:
    """One training of a recipe: its accelerator, its folder and what is written there.

    Attributes:
        accelerator: see `gangen.train.launch`.
        folder: the run folder.
        flags: the recipe's flags.
    """

    def __init__(self, recipe: str, flags: Common) -> None:
        flags = dataclasses.replace(flags, data=plain_path(flags.data))
        self.recipe, self.flags = recipe, flags
        self._claim: Claim | None
        check_ranges(flags)
        if flags.compile:
            check_compiler()
        tracks = [check_tracker(name) for name in flags.track]
        # Chosen by the main process alone: a folder that one process has made is taken for the next.
        self.accelerator = launch(precision=flags.precision, threads=flags.threads)
        main = self.accelerator.is_main_process
        chosen, self._claim = choose_folder(recipe, flags) if main else (None, None)
        (found,) = broadcast_object_list([chosen])
        if isinstance(found, UserError):
            raise found
        folder, resume = found
        self.folder, self.flags = Path(folder), dataclasses.replace(flags, resume=resume)
        if tracks:
            # Trackers are told their folder when the accelerator is made.
            self.accelerator = launch(
                precision=flags.precision, threads=flags.threads, track=tracks, folder=str(self.folder)
            )
        set_seed(flags.seed)

    def say(self, text: str) -> None:
        """Tell the person, once."""
        if self.accelerator.is_main_process:
            print(text, file=sys.stderr, flush=True)  # noqa: T201 (this is where a recipe speaks)

    def warn(self, text: str) -> None:
        """Tell the person loudly, once."""
        line = "!" * 100
        self.say(f"{line}\n{text}\n{line}")

    def body(self, in_channels: int = 3) -> Body:
        """The body that the flags ask for. Where ImageNet's weights cannot be had, random ones, loudly."""
        flags = self.flags
        if not isinstance(flags, Flags):
            raise TypeError(f"{type(flags).__name__} has no flags for a body: derive it from recipe.Flags")
        body, trouble = None, None
        try:
            body = Body(flags.body, flags.weights, in_channels)
        except WeightsError as error:
            if flags.weights != "imagenet":
                raise
            trouble = error
        # All processes go the same way: a pretrained body has a phase that a random one has not.
        told = next((each for each in gather_object([str(trouble or "")]) if each), "")
        if body is not None and not told:
            return body
        self.warn(
            f"{told}\nGOING ON FROM RANDOM WEIGHTS, which learn more slowly and paint worse. Name a file "
            "with --weights FILE to do better. The run's config.json records this."
        )
        return Body(flags.body, "none", in_channels)

    def epoch(self, data: Sized) -> int:
        """Steps of a pass over the data, on all processes together."""
        return steps_of(len(data), self.flags.batch_size, self.accelerator.num_processes)

    def record(self, **facts: Any) -> None:
        """Write config.json: flags, versions, machine, command, and `facts` such as the data's fingerprint.

        A resumed run's also lists what was changed in each resuming that was allowed to.

        Raises:
            RunError: the folder's run was made from other data or other weights, and changes are not allowed.
            UserError: the facts are others on another process, such as where a machine's copy of the data differs.
        """
        _check_alike(plain(facts))
        path = self.folder / "config.json"
        config = {
            "recipe": self.recipe,
            "flags": plain(dataclasses.asdict(self.flags)),
            **plain(facts),
            "precision": self.accelerator.mixed_precision,
            "float32": "ieee" if self.flags.precision == "no" else "tf32 on GPUs",
            "versions": {name: version(name) for name in ("torch", "torchvision", "accelerate")}
            | {"gangen": version("gangen"), "python": platform.python_version()},
            "machine": _machine(self.accelerator),
            "command": shlex.join(["python", *sys.argv]),
            **({"launch": launched()} if launched() else {}),
        }
        if self.flags.resume and path.exists():
            before = json.loads(path.read_text(encoding="utf-8"))
            changed = [
                name
                for name in (*facts, "precision", "float32")
                if name in before  # runs of before it was told do not tell
                and _essence(before[name]) != _essence(config[name])
            ]
            told = [f"{name} was {before[name]} and is {config[name]}" for name in changed]
            if told and not self.flags.allow_changes:
                raise RunError(
                    f"--resume: not all is as {path} says: {'; '.join(told)}. Put it back, or start a new run in "
                    "another --out; or go on all the same by --allow-changes."
                )
            changes = [*told, *differences(self.folder, self.flags)]
            config["changes"] = [*before.get("changes", []), *([changes] if changes else [])]
        if self.accelerator.is_main_process:
            write_json(path, config)
        self.accelerator.wait_for_everyone()

    def trainer(self, data: Any, callbacks: Sequence[Callback]) -> Trainer:
        """A trainer with this run's settings; a watch over games and its trackers come after `callbacks`."""
        flags = self.flags
        tracking = Tracking("gangen", plain(dataclasses.asdict(flags)))
        return Trainer(
            self.folder,
            data,
            batch_size=flags.batch_size,
            seed=flags.seed,
            workers=flags.workers,
            callbacks=[*callbacks, Health(), tracking],
            accelerator=self.accelerator,
            log_every=flags.log_every,
            save_every=flags.save_every,
            compile="inductor" if flags.compile else None,
        )

    def fit(self, trainer: Trainer, phases: Sequence[Phase], player: str = "generator", **about: Any) -> None:
        """Train, save the averaged generator as a pipeline, write the report, and print the table of phases.

        It goes on from the last checkpoint where the flags say so, and says when nothing is left to do. Asked to
        stop, it leaves a pipeline too, of what was learned so far.

        Args:
            trainer: see `trainer`.
            phases: what is played.
            player: whose network becomes the pipeline.
            about: what the pipeline's config.json tells: "task", "input", "trained_size" (pixels), ...
        """
        resume = self.flags.resume
        try:
            played = trainer.fit(phases, resume=resume, allow_changes=self.flags.allow_changes)
        except Interrupted:
            if self.accelerator.is_main_process:
                try:
                    self._save(trainer, player, about)
                except Exception as error:  # the checkpoint is there, which is what counts
                    self.say(f"There is no new pipeline: {error}")
            self.accelerator.wait_for_everyone()  # or a launcher would see others end, and end this one
            raise
        if resume and not played:
            self.say(
                f"{self.folder} was finished already, all {trainer.total:,} steps of it; nothing was trained."
            )
        self._finish(trainer, player, about)

    def _save(self, trainer: Trainer, player: str, about: dict[str, Any]) -> None:
        told = keep(shown(trainer, player), self.folder, player, about)
        if told is not None:
            self.say(told)

    def _finish(self, trainer: Trainer, player: str, about: dict[str, Any]) -> None:
        self._tell_skipped(trainer)
        if self.accelerator.is_main_process:
            self._save(trainer, player, about)
            report = write_report(self.folder)
            self.say(f"\n{phase_table(self.folder)}\n")
            self.say(f"run       {self.folder}\nreport    {report}")
            from_noise = about.get("input") == "noise"
            command = "generate RUN --count 16" if from_noise else "predict RUN PICTURE_OR_FOLDER"
            # Pairs are compared in Python, and networks of one's own are called there.
            if (self.folder / "pipeline").exists() and not isinstance(trainer.plan.networks[player], Siamese):
                self.say(f"paint     gangen {command.replace('RUN', str(self.folder))} --out painted")
        self.accelerator.wait_for_everyone()

    def _tell_skipped(self, trainer: Trainer) -> None:
        """Name the pictures that could not be read, here and in skipped.txt."""
        watched = [callback.data for callback in trainer.callbacks if hasattr(callback, "data")]
        mine = [name for data in (*trainer.plan.sources, *watched) for name in getattr(data, "skipped", list)()]
        names = sorted(set(gather_object(mine)))
        if names and self.accelerator.is_main_process:
            write_text(self.folder / "skipped.txt", "\n".join(names) + "\n")
            first = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
            self.say(f"{len(names)} picture(s) could not be read and were left out: {first} (all: skipped.txt)")


def main(recipe: Callable[[F], None], flags: type[F], description: str | None) -> None:
    """Run a recipe from the command line.

    Errors that a person can act on are printed without a traceback, with exit code 2. A training that was asked to
    stop saves its state and exits with 128 plus the signal's number.
    """
    parsed = tyro.cli(flags, description=description, config=(tyro.conf.AvoidSubcommands,))
    try:
        recipe(parsed)
    except UserError as error:
        sys.exit(_told(f"error: {error}", 2))
    except Interrupted as stop:
        saved = "Saved. The same command with --resume goes on from here, with --out if newer runs are beside it."
        sys.exit(_told(saved, int(stop.code or 1)))


def _told(text: str, code: int) -> int:
    print(text, file=sys.stderr, flush=True)  # noqa: T201 (the last words of a recipe)
    return code


def _check_alike(facts: dict[str, Any]) -> None:
    """Refuse to train where processes found different facts; each would take other steps, or other samples."""
    mine = {name: _essence(fact) for name, fact in facts.items()}
    for rank, theirs in enumerate(gather_object([mine])):
        differing = [name for name in mine if theirs.get(name) != mine[name]]
        if differing:
            raise UserError(
                f"process {rank} has other {' and '.join(differing)} than another one: give every machine "
                "the same data and the same weights, or a disk that they share."
            )


def _essence(fact: Any) -> Any:
    """A fact without where its file lies: equal weights may be found elsewhere after a move."""
    return {k: v for k, v in fact.items() if k != "path"} if isinstance(fact, dict) else fact


def _machine(accelerator: Accelerator) -> dict[str, Any]:
    kind = accelerator.device.type
    name = torch.cuda.get_device_name() if kind == "cuda" else platform.processor() or platform.machine()
    here = int(os.environ.get("LOCAL_WORLD_SIZE", accelerator.num_processes))
    machines = max(1, accelerator.num_processes // here)
    counts = {"processes": accelerator.num_processes, "machines": machines, "threads": torch.get_num_threads()}
    return {"device": name, "type": kind, **counts}
