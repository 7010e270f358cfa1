"""What every recipe shares: flags, run folder, resume, a body with its weights, and an orderly end."""

from __future__ import annotations

import dataclasses
import json
import platform
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
import tyro
from accelerate.utils import broadcast_object_list, gather_object

from gangen.errors import RunError, UserError, WeightsError
from gangen.files import write_json, write_text
from gangen.nets import Body, PatchCritic
from gangen.pipeline import Pipeline
from gangen.report import phase_table, write_report
from gangen.train import Callback, Interrupted, NoGan, Tracking, Trainer, launch, set_seed
from gangen.train.showing import shown
from gangen.train.tracking import check_tracker

F = TypeVar("F", bound="Common")

_MAY_CHANGE = {"out", "resume", "track", "workers"}
"""Flags that change nothing of what is computed, so that a run may be resumed with others."""

_UNKNOWN = "did not exist when that run was started"


@dataclass(kw_only=True)
class Common:
    """Flags that all recipes have."""

    data: Path | None = None
    """Folder with your own pictures. Without it, photographs that ship with scikit-image."""
    out: Path | None = None
    """Run folder. By default runs/RECIPE, or runs/RECIPE-2 and so on if that is taken."""
    size: int = 64
    """Side of the training pictures, in pixels. The trained generator paints pictures of any size."""
    batch_size: int = 8
    """Pictures a batch, on each process."""
    seed: int = 0
    """Seed of everything random. Two runs with equal flags on one machine are equal."""
    resume: bool = False
    """Go on with the run in --out from its last checkpoint, as if it had not been interrupted."""
    track: tuple[str, ...] = ()
    """Dashboards, by accelerate's names: wandb, tensorboard, mlflow, ... Several may be given."""
    workers: int = 0
    """Processes a training process that read pictures; 0 reads in between. The pictures stay the same."""
    precision: Literal["no", "bf16"] | None = None
    """no for float32, bf16 for bfloat16; by default what `accelerate launch` says."""
    threads: int = 0
    """CPU threads of each process, where there is no GPU; 0 shares all cores."""
    log_every: int = 20
    """Steps between log records."""
    save_every: int = 200
    """Steps between checkpoints."""


@dataclass(kw_only=True)
class Flags(Common):
    """Flags of recipes whose generator stands on a pretrained body."""

    body: str = "resnet18"
    """torchvision ResNet that the UNet stands on: resnet18 to resnet152, resnext50_32x4d, wide_resnet50_2, ..."""
    weights: str = "imagenet"
    """The body's weights: imagenet (downloaded), none (random), or a .safetensors or .pth file."""


@dataclass(kw_only=True)
class NoGanFlags(NoGan, Flags):
    """Flags of recipes whose generator learns alone first and then plays against a critic."""

    validation: float = 0.1
    """Share of the pictures held out for validation, where there is no folder val/ beside train/."""
    perceptual: Path | None = None
    """VGG-16's convolutions (torchvision's names, .safetensors or .pth), to compare features besides pixels."""
    critic_width: int = 32
    """Channels of the critic's first layer; doubled with each further one."""
    critic_layers: int = 2
    """Halvings in the critic: with 1, 2 or 3 of them it judges patches of 16, 34 or 70 pixels, times
    --critic-shrink."""
    critic_shrink: int = 2
    """By what pictures are averaged down before the critic sees them, which widens its patches by as much: with 2
    or more it asks for colours and shapes rather than for texture; 1 for pictures as they are."""
    validate_every: int = 0
    """Steps between validations; 0 for the end of each phase only."""
    lpips_weights: Path | None = None
    """AlexNet's convolutions (torchvision's names, .safetensors or .pth), to add LPIPS to the validation."""

    def critic(self, condition_channels: int = 0) -> PatchCritic:
        """The critic that the flags describe; without spectral norm, as the bce game is usually played.

        Args:
            condition_channels: channels of what it sees beside the picture; 0 for the picture alone.

        Raises:
            UserError: --size is too small for it.
        """
        critic = PatchCritic(
            3,
            condition_channels=condition_channels,
            width=self.critic_width,
            layers=self.critic_layers,
            shrink=self.critic_shrink,
            norm="instance",
            spectral=False,
        )
        if self.size < critic.smallest:
            # Known before the generator has learned for an hour, rather than after
            raise UserError(
                f"--size {self.size}: the critic needs {critic.smallest} pixels or more, with --critic-shrink "
                f"{self.critic_shrink} and --critic-layers {self.critic_layers}. Raise the size or lower these."
            )
        return critic


class Run:
    """One training of a recipe: its accelerator, its folder and what is written there.

    Attributes:
        accelerator: see `gangen.train.launch`.
        folder: the run folder.
        flags: the recipe's flags.
    """

    def __init__(self, recipe: str, flags: Common) -> None:
        self.recipe, self.flags = recipe, flags
        _check_ranges(flags)
        tracks = [check_tracker(name) for name in flags.track]
        # Chosen by the main process alone: a folder that one process has made is taken for the next.
        self.accelerator = launch(precision=flags.precision, threads=flags.threads)
        chosen = [_choose_folder(recipe, flags) if self.accelerator.is_main_process else None]
        folder = broadcast_object_list(chosen)[0]
        if isinstance(folder, UserError):
            raise folder
        self.folder = Path(str(folder))
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
        try:
            return Body(flags.body, flags.weights, in_channels)
        except WeightsError as error:
            if flags.weights != "imagenet":
                raise
            self.warn(
                f"{error}\nGOING ON FROM RANDOM WEIGHTS, which learn more slowly and paint worse. Name a file "
                "with --weights FILE to do better. The run's config.json records this."
            )
            return Body(flags.body, "none", in_channels)

    def record(self, **facts: Any) -> None:
        """Write config.json: flags, versions, machine, command, and `facts` such as the data's fingerprint.

        Raises:
            RunError: the folder's run was made from other data or other weights.
        """
        path = self.folder / "config.json"
        config = {
            "recipe": self.recipe,
            "flags": _plain(dataclasses.asdict(self.flags)),
            **_plain(facts),
            "precision": self.accelerator.mixed_precision,
            "versions": {name: version(name) for name in ("torch", "torchvision", "accelerate")}
            | {"gangen": version("gangen"), "python": platform.python_version()},
            "machine": _machine(self.accelerator.num_processes),
            "command": shlex.join(["python", *sys.argv]),
        }
        if self.flags.resume and path.exists():
            before = json.loads(path.read_text(encoding="utf-8"))
            for name in (*facts, "precision"):
                if _essence(before.get(name)) != _essence(config[name]):
                    raise RunError(
                        f"--resume: {name} is no longer what {path} says ({config[name]} instead of "
                        f"{before.get(name)}). Put the old one back, or start a new run in another --out."
                    )
        if self.accelerator.is_main_process:
            write_json(path, config)
        self.accelerator.wait_for_everyone()

    def trainer(self, data: Any, callbacks: Sequence[Callback]) -> Trainer:
        """A trainer with this run's settings; its trackers come after `callbacks`."""
        flags = self.flags
        tracking = Tracking("gangen", _plain(dataclasses.asdict(flags)))
        return Trainer(
            self.folder,
            data,
            batch_size=flags.batch_size,
            seed=flags.seed,
            workers=flags.workers,
            callbacks=[*callbacks, tracking],
            accelerator=self.accelerator,
            log_every=flags.log_every,
            save_every=flags.save_every,
        )

    def finish(self, trainer: Trainer, player: str = "generator", **about: Any) -> None:
        """Save the averaged generator as a pipeline, write the report, and print the table of phases."""
        self._tell_skipped(trainer)
        if self.accelerator.is_main_process:
            Pipeline(shown(trainer, player), config=_plain(about)).save(self.folder / "pipeline")
            report = write_report(self.folder)
            self.say(f"\n{phase_table(self.folder)}\n")
            self.say(f"run       {self.folder}\nreport    {report}")
            from_noise = about.get("input") == "noise"
            command = "generate RUN --count 16" if from_noise else "predict RUN PICTURE_OR_FOLDER"
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
        sys.exit(_told("Saved. The same command with --resume and --out goes on from here.", int(stop.code or 1)))


def _told(text: str, code: int) -> int:
    print(text, file=sys.stderr, flush=True)  # noqa: T201 (the last words of a recipe)
    return code


def _choose_folder(recipe: str, flags: Common) -> str | UserError:
    """The run folder, free or to be resumed; or the error, to be raised on every process."""
    try:
        return str(_folder(recipe, flags))
    except UserError as error:
        return error


def _folder(recipe: str, flags: Common) -> Path:
    default = Path("runs") / recipe
    if flags.resume:
        folder = flags.out or _newest(default)
        if not (folder / "config.json").exists():
            raise RunError(f"--resume: {folder} holds no run. Name its folder with --out, or leave --resume out.")
        _check_flags(folder, flags)
        return folder
    if flags.out is None:
        taken = [default, *(default.with_name(f"{recipe}-{n}") for n in range(2, 10_000))]
        return next(folder for folder in taken if not _holds_a_run(folder))
    if flags.out.exists() and not flags.out.is_dir():
        raise RunError(f"--out {flags.out} is a file; name a folder.")
    if _holds_a_run(flags.out):
        different = _differences(flags.out, flags)
        other = f"of another configuration ({'; '.join(different)})" if different else "with these flags"
        raise RunError(
            f"--out {flags.out} already holds a run {other}. "
            + ("Choose another --out." if different else "Go on with it by --resume, or choose another --out.")
        )
    return flags.out


def _newest(default: Path) -> Path:
    named = re.compile(rf"{re.escape(default.name)}(-\d+)?")
    runs = [p for p in default.parent.glob("*") if named.fullmatch(p.name) and (p / "config.json").exists()]
    return max(runs, key=lambda path: (path / "config.json").stat().st_mtime, default=default)


def _holds_a_run(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("config.json", "log.jsonl", "checkpoints", "pipeline"))


def _check_flags(folder: Path, flags: Common) -> None:
    different = _differences(folder, flags)
    if different:
        older = any(_UNKNOWN in text for text in different)
        remedy = "Resume it with the older gangen that made it" if older else "Repeat its own flags"
        raise RunError(
            f"--resume: the run in {folder} has other flags: {'; '.join(different)}. {remedy}, or start a new run "
            "in another --out."
        )


def _differences(folder: Path, flags: Common) -> list[str]:
    """What differs between these flags and those of the run in `folder`, in words."""
    try:
        before = json.loads((folder / "config.json").read_text(encoding="utf-8"))["flags"]
    except (OSError, ValueError, KeyError):
        return [f"{folder / 'config.json'} is missing or cannot be read"]
    now = _plain(dataclasses.asdict(flags))
    names = [name for name in now if name not in _MAY_CHANGE and before.get(name) != now[name]]
    told = {name: f"was {before[name]} and is {now[name]}" if name in before else _UNKNOWN for name in names}
    return [f"--{name.replace('_', '-')} {text}" for name, text in told.items()]


def _check_ranges(flags: Common) -> None:
    """Refuse numbers that mean nothing, before anything is written."""
    least = {"size": 1, "batch_size": 1, "workers": 0, "threads": 0, "log_every": 0, "save_every": 0, "seed": 0}
    stands_on_body = isinstance(flags, Flags)
    if stands_on_body:
        least["size"] = 11  # the window of SSIM, which validation measures
    for field in dataclasses.fields(flags):
        value = getattr(flags, field.name)
        flag = f"--{field.name.replace('_', '-')} {value}"
        lowest = least.get(field.name, 0 if field.name.endswith("_steps") else None)
        if lowest is not None and value is not None and value < lowest:
            raise UserError(f"{flag}: expected {lowest} or more.")
        if field.name.split("_")[-1] == "lr" and value <= 0:
            raise UserError(f"{flag}: a learning rate is above 0; 0.0001 to 0.001 are usual.")
    if stands_on_body and flags.batch_size == 1 and flags.size <= 32:
        raise UserError(
            f"--batch-size 1 with --size {flags.size}: the body's last maps are single pixels, of which BatchNorm "
            "needs two at least. Take 2 pictures or more, or more than 32 pixels."
        )


def _essence(fact: Any) -> Any:
    """A fact without where its file lies: equal weights may be found elsewhere after a move."""
    return {k: v for k, v in fact.items() if k != "path"} if isinstance(fact, dict) else fact


def _plain(value: Any) -> Any:
    """`value` as JSON has it: paths as text, tuples as lists."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _machine(processes: int) -> dict[str, Any]:
    name = (
        torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    )
    return {"device": name, "processes": processes, "threads": torch.get_num_threads()}
