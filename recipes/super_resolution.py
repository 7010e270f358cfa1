"""Enlarge pictures 2, 3 or 4 times.

Three phases: the generator alone learns from pixels, the critic alone learns to tell enlarged from real, then both
play for a short while. After the first phase the pictures are closest to the truth (PSNR);
checkpoints/best.safetensors keeps that generator (`gangen predict RUN ... --best`). After the last they are
sharpest to the eye (LPIPS); pipeline/ holds that one.

With no flags it learns to enlarge photographs that ship with scikit-image and takes 4 minutes on two CPU
cores. With your own pictures:

    reduced for you                 --data FOLDER
    ... and spoilt as in practice   --data FOLDER --degradation practical
    given small and large           --data FOLDER --input-folder small --target-folder large
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from torch import nn

from gangen import recipe
from gangen.data import DRAWN, Crop, Whole, open_pairs
from gangen.errors import UserError
from gangen.losses import Perceptual
from gangen.metrics import LPIPS, Measure, cropped, pixel_metrics
from gangen.nets import ImageHead, Residual, UNet, Upscaler, enlarge
from gangen.train import Samples, Validation, alike, nogan_phases


@dataclass(kw_only=True)
class SuperResolution(recipe.NoGanFlags):
    """Flags of super-resolution."""

    scale: Literal[2, 3, 4] = 4
    """By how much pictures are enlarged."""
    degradation: Literal["bicubic", "practical"] = "bicubic"
    """What makes small pictures from large ones: the bicubic filter that published numbers are measured with, or
    blur, noise, JPEG and resizing in random order, twice, as pictures suffer them in practice."""
    input_folder: Path | None = None
    """Folder of given small pictures inside --data; equal names make a pair. Needs --target-folder."""
    target_folder: Path | None = None
    """Folder of the large pictures, exactly --scale times as large."""
    validation_folder: Path | None = None
    """Folder of large pictures to validate on, such as Set5; all of --data then is for training."""
    net: Literal["upscaler", "unet"] = "upscaler"
    """upscaler works at the small size; unet, on --body, over the enlarged picture, at many times the cost."""
    width: int = 48
    """Channels of the upscaler."""
    blocks: int = 8
    """Residual blocks of the upscaler."""
    size: int = 96
    """Side of the large training pictures, in pixels, a multiple of --scale. Nothing is resized to it."""
    batch_size: int = 16
    """Pictures a batch, on each process."""
    generator_steps: int | None = None
    """Steps of the generator alone; by default 3000, and 700 on the embedded photographs."""
    critic_steps: int = 50
    """Steps of the critic alone."""
    adversarial_steps: int | None = None
    """Steps of both, whoever has the turn; by default 800, and 300 on the embedded photographs."""
    adversarial_lr: float = 2e-4
    """Learning rate of the generator while it plays against the critic; it fades to nothing over the phase."""
    critic_lr: float = 1e-3
    """Learning rate of the critic, which at the usual 0.0002 learns too slowly to be of use in so short a game."""
    fool: float = 0.4
    """Weight of the critic's opinion in the generator's loss, against 1 for the pixels."""
    features: float = 0.2
    """Weight, against 1 for the pixels, of the features that --perceptual compares, in the last phase only."""
    critic_layers: int = 3
    """Halvings in the critic: with 1, 2 or 3 of them it judges patches of 16, 34 or 70 pixels."""
    critic_shrink: int = 1
    """By what pictures are averaged down before the critic sees them; 1 for pictures as they are."""

    def __post_init__(self) -> None:
        embedded = self.data is None
        if self.generator_steps is None:
            self.generator_steps = 700 if embedded else 3000
        if self.adversarial_steps is None:
            self.adversarial_steps = 300 if embedded else 800


def main(flags: SuperResolution) -> None:
    scale = flags.scale
    if flags.size % scale:
        raise UserError(
            f"--size {flags.size}: expected a multiple of --scale {scale}, like {flags.size // scale * scale}."
        )
    if flags.data and flags.validation_folder and flags.validation_folder.resolve() == Path(flags.data).resolve():
        raise UserError(
            f"--validation-folder {flags.validation_folder} is what is learned from. Name pictures that are not, "
            "or leave it out: then a share of --data is held out."
        )
    run = recipe.Run("super_resolution", flags)
    given = flags.input_folder is not None or flags.target_folder is not None
    train, held_out = open_pairs(
        flags.data,
        input_folder=flags.input_folder,
        target_folder=flags.target_folder,
        draw=None if given else DRAWN[flags.degradation](scale),
        size=flags.size,
        augment=Crop(flags.size),
        prepare=Whole(scale),
        validation=flags.validation,
        validation_folder=flags.validation_folder,
        scale=scale,
        keep=flags.keep,
    )
    body = run.body() if flags.net == "unet" else None
    generator: nn.Module = (
        Residual(UNet(body, ImageHead(3, output_range=None)), scale)
        if body
        else Upscaler(scale, width=flags.width, blocks=flags.blocks)
    )
    critic = flags.critic()
    run.record(data=train.fingerprint(), held_out=held_out.fingerprint(), body=body and body.initial)

    _, psnr, ssim, _ = pixel_metrics("y")
    metrics: list[Measure] = [psnr, ssim, *([LPIPS(weights=flags.lpips_weights)] if flags.lpips_weights else [])]
    judge = Validation(
        held_out,
        [cropped(metric, scale) for metric in metrics],
        every=flags.validate_every,
        best="psnr",
        batch_size=1,  # whole pictures, of different sizes
        baseline=partial(enlarge, scale=scale),
    )
    features = Perceptual(flags.perceptual, pixel=0.0) if flags.perceptual else None
    trainer = run.trainer(train, callbacks=[judge, Samples(held_out, every=200)])
    run.fit(
        trainer,
        nogan_phases(
            flags,
            generator=generator,
            critic=critic,
            likeness=alike(),
            play_likeness=alike(features, weight=flags.features),
            body=body,
        ),
        task="super-resolution",
        input=flags.degradation if held_out.prepare.draw else "given",
        trained_size=flags.size,
    )


if __name__ == "__main__":
    recipe.main(main, SuperResolution, __doc__)
