"""Flags that recipes share, as dataclasses: their names, what they mean, and which values mean nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from torch import nn
from tyro.conf import arg

from gangen.errors import UserError
from gangen.nets import Body, Norms, PatchCritic
from gangen.train import NoGan, Phase, fine_tune
from gangen.train.phase import Loss


@dataclass(kw_only=True)
class Common:
    """Flags that all recipes have."""

    data: Annotated[str | None, arg(metavar="FOLDER|URL")] = None
    """Folder with your own pictures, or a folder or URL of shards (see `gangen pack`); stream:PLACE or hf:NAME to
    stream shards or a data set of the Hugging Face hub. Without it, photographs that ship with scikit-image."""
    out: Path | None = None
    """Run folder. By default runs/RECIPE, or runs/RECIPE-2 and so on if that is taken."""
    size: int = 64
    """Side of the training pictures, in pixels. The trained generator paints pictures of any size."""
    batch_size: int = 8
    """Pictures a batch, on each process."""
    seed: int = 0
    """Seed of everything random. Two runs with equal flags on one machine are equal."""
    resume: bool = False
    """Go on from the last checkpoint of the run in --out, or without it of the recipe's newest in runs/, as if it
    had not been interrupted."""
    allow_changes: bool = False
    """Resume with other flags than the run was started with. They are listed, and kept in config.json."""
    track: tuple[str, ...] = ()
    """Dashboards, by accelerate's names: wandb, tensorboard, mlflow, ... Several may be given."""
    workers: int = 1
    """Processes a training process that read pictures; 0 reads in between. The pictures stay the same."""
    keep: int = 512
    """MiB of decoded pictures that each worker keeps in memory."""
    precision: Literal["no", "tf32", "bf16", "fp16"] | None = None
    """no for float32; tf32 for float32 whose products are rounded to TensorFloat-32 on GPUs that can; bf16 for
    bfloat16; fp16 for float16 (on a GPU that lacks bfloat16). By default what `accelerate launch` says, and tf32
    for what remains in float32."""
    compile: bool = False
    """Compile the networks (torch.compile), meant for long trainings on GPUs: the first steps of each phase take a
    minute or more. On CPUs it mostly does not pay. Results differ by rounding, and by what dropout draws."""
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
    """What the network stands on: resnet18 to resnet152, or any other classifier of torchvision that has maps,
    such as efficientnet_b0 or convnext_tiny; timm/NAME where timm is installed."""
    weights: str = "imagenet"
    """The body's weights: imagenet (downloaded), none (random), or a .safetensors or .pth file."""


@dataclass(kw_only=True)
class Drafts:
    """Flags of recipes that reduce their pictures."""

    draft: bool = False
    """Decode JPEGs that are far larger than needed at a half, a quarter or an eighth of their size: several times
    as fast, and more of them fit into --keep. Pictures differ slightly. Of no effect on pictures that come in
    pairs, which must fit each other, nor without --data."""


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


@dataclass(kw_only=True)
class FineTuneFlags(Flags):
    """Flags of recipes that teach a pretrained body something new: its head first, then all of it."""

    data: Annotated[str | None, arg(metavar="FOLDER")] = None
    """Folder with your own pictures and what they are to be called. Without it, embedded data."""
    validation: float = 0.1
    """Share of the pictures held out for validation, where there is no folder val/ beside train/."""
    frozen_epochs: int = 1
    """Passes over the data with the body held; skipped when the body's weights are random."""
    epochs: int | None = None
    """Passes over the data in which all learns."""
    lr: float = 2e-3
    """Peak learning rate of the head while the body is held; half of it afterwards, and a hundredth of that in a
    pretrained body's first layers."""
    norms: Norms = "learn"
    """What the body's normalisation layers do while it is held: learn, or adapt their statistics alone, which is
    quicker, or hold still, and in the phase after it too."""
    ema: float = 0.0
    """Decay of the moving average of the weights, such as 0.99; 0 for none."""
    jitter: float = 0.2
    """How far brightness, contrast and saturation vary in training, as a share up and down."""

    @staticmethod
    def ratio(body: Body) -> float:
        """How many times the last layers learn faster than the first: random ones know nothing to be spared."""
        return 100.0 if body.pretrained else 1.0

    def phases(self, network: nn.Module, loss: Loss, body: Body, epoch: int) -> list[Phase]:
        """The phases that the flags describe; the player is named "network".

        Args:
            network: stands on `body`.
            loss: what it minimises.
            body: with its weights.
            epoch: steps of a pass over the data.
        """
        return fine_tune(
            network,
            loss,
            epochs=self.epochs or 0,
            frozen_epochs=self.frozen_epochs if body.pretrained else 0,
            epoch=epoch,
            lr=self.lr,
            ratio=self.ratio(body),
            norms=self.norms if body.pretrained else "learn",
            ema=self.ema,
        )


def check_ranges(flags: Common) -> None:
    """Refuse numbers that mean nothing, before anything is written."""
    least = {"size": 1, "batch_size": 1, "log_every": 0, "save_every": 0, "seed": 0}
    least |= {"workers": 0, "keep": 0, "threads": 0, "fool": 0, "validate_every": 0}
    stands_on_body = isinstance(flags, Flags)
    if stands_on_body:
        least["size"] = 11  # the window of SSIM, which validation measures
    for field in dataclasses.fields(flags):
        value = getattr(flags, field.name)
        flag = f"--{field.name.replace('_', '-')} {value}"
        lowest = least.get(field.name, 0 if field.name.endswith(("_steps", "epochs")) else None)
        if lowest is not None and value is not None and value < lowest:
            raise UserError(f"{flag}: expected {lowest} or more.")
        if field.name.split("_")[-1] == "lr" and value <= 0:
            raise UserError(f"{flag}: a learning rate is above 0; 0.0001 to 0.001 are usual.")
        if field.name == "early_share" and not 0 < value <= 1:
            raise UserError(f"{flag}: a share of --lr is above 0 and at most 1; 0.01 to 0.3 are usual.")
        if field.name == "ema" and not 0 <= value < 1:
            raise UserError(
                f"{flag}: a moving average keeps 0 up to below 1 of itself at each step, such as 0.999."
            )
    if isinstance(flags, FineTuneFlags) and flags.batch_size == 1:
        raise UserError("--batch-size 1: the head's BatchNorm needs two pictures or more.")
    if stands_on_body and flags.batch_size == 1 and flags.size <= 32:
        raise UserError(
            f"--batch-size 1 with --size {flags.size}: the body's last maps are single pixels, of which BatchNorm "
            "needs two at least. Take 2 pictures or more, or more than 32 pixels."
        )


def plain_path(place: str | Path | None) -> str | None:
    """What --data names, as Python writes paths, so that folder/ and ./folder are folder; URLs and such as given.

    Raises:
        UserError: it is empty, as where a script's variable is not set.
    """
    if place is not None and not str(place).strip():
        raise UserError("--data is empty: name a folder, or leave it out for what comes with the recipe.")
    return None if place is None else str(place) if ":" in str(place) else str(Path(place))


def plain(value: Any) -> Any:
    """`value` as JSON has it: paths as text, tuples as lists."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
