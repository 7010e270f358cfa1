"""Mend pictures: poor JPEGs with text over them, old photographs, or what happens to pictures in practice.

Three phases: the generator alone learns to mend, the critic alone learns to tell mended from real, then both play
for a short while. Good pictures are all that is needed: they are spoilt while they are read.

With no flags it mends photographs that ship with scikit-image ("crappify", lesson 7 of fastai's course of 2019)
and takes 3 to 4 minutes on two CPU cores. With your own pictures:

    poor JPEG and text              --data FOLDER
    scratched and faded             --data FOLDER --degradation old-photograph
    blur, noise and JPEG            --data FOLDER --degradation practical
    given spoilt and good           --data FOLDER --input-folder spoilt --target-folder good
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gangen import recipe
from gangen.data import DRAWN, Augment, open_pairs
from gangen.losses import Perceptual
from gangen.metrics import LPIPS, PSNR, SSIM, Measure
from gangen.nets import ImageHead, Residual, UNet
from gangen.train import Samples, Validation, alike, nogan_phases


@dataclass(kw_only=True)
class Restoration(recipe.NoGanFlags):
    """Flags of restoration."""

    degradation: Literal["crappify", "old-photograph", "practical"] = "crappify"
    """How pictures are spoilt: saved small as poor JPEG with text over them; faded, grainy and scratched; or
    blurred, noisy, resized and compressed in random order, twice."""
    input_folder: Path | None = None
    """Folder of given spoilt pictures inside --data; equal names make a pair. Needs --target-folder."""
    target_folder: Path | None = None
    """Folder of the good pictures, of the same size."""
    size: int = 64
    """Side of the training pictures, in pixels. The trained generator mends pictures of any size."""
    generator_steps: int | None = None
    """Steps of the generator alone; by default 2000, and 400 on the embedded photographs."""
    critic_steps: int = 50
    """Steps of the critic alone."""
    adversarial_steps: int | None = None
    """Steps of both, whoever has the turn; by default 400, and 150 on the embedded photographs."""
    critic_lr: float = 1e-3
    """Learning rate of the critic."""
    fool: float = 0.1
    """Weight of the critic's opinion in the generator's loss, against 1 for the pixels."""
    features: float = 0.5
    """Weight, against 1 for the pixels, of the features that --perceptual compares."""
    critic_layers: int = 2
    """Halvings in the critic: with 1, 2 or 3 of them it judges patches of 16, 34 or 70 pixels."""
    critic_shrink: int = 1
    """By what pictures are averaged down before the critic sees them; 1 for pictures as they are."""

    def __post_init__(self) -> None:
        embedded = self.data is None
        if self.generator_steps is None:
            self.generator_steps = 400 if embedded else 2000
        if self.adversarial_steps is None:
            self.adversarial_steps = 150 if embedded else 400


def main(flags: Restoration) -> None:
    run = recipe.Run("restoration", flags)
    given = flags.input_folder is not None or flags.target_folder is not None
    train, held_out = open_pairs(
        flags.data,
        input_folder=flags.input_folder,
        target_folder=flags.target_folder,
        draw=None if given else DRAWN[flags.degradation](1),
        size=flags.size,
        augment=Augment(flags.size, scale=(0.5, 1.0)) if flags.data else None,
        validation=flags.validation,
        keep=flags.keep,
    )
    body = run.body()
    generator = Residual(UNet(body, ImageHead(3, output_range=None)))
    critic = flags.critic()
    run.record(data=train.fingerprint(), held_out=held_out.fingerprint(), body=body.initial)

    metrics: list[Measure] = [PSNR, SSIM, *([LPIPS(weights=flags.lpips_weights)] if flags.lpips_weights else [])]
    judge = Validation(held_out, metrics, every=flags.validate_every, best="psnr", baseline=lambda spoilt: spoilt)
    features = Perceptual(flags.perceptual, pixel=0.0) if flags.perceptual else None
    trainer = run.trainer(train, callbacks=[judge, Samples(held_out, every=200)])
    run.fit(
        trainer,
        nogan_phases(
            flags, generator=generator, critic=critic, likeness=alike(features, weight=flags.features), body=body
        ),
        task="restoration",
        input=flags.degradation if held_out.prepare.draw else "given",
        trained_size=flags.size,
    )


if __name__ == "__main__":
    recipe.main(main, Restoration, __doc__)
