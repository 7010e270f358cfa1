"""Paint pictures from sketches.

Three phases: the generator alone learns to imitate, the critic alone learns to tell painted from real, then both
play against each other for a short while ("NoGAN", Antic 2019), the critic twice in a row where it is worse than
undecided.

With no flags it draws its own sketches from photographs that ship with scikit-image and takes about 6 minutes on
two CPU cores. With your own pictures:

    photographs, sketched for you   --data FOLDER
    pairs in two folders            --data FOLDER --input-folder sketch --target-folder color
    pairs side by side              --data FOLDER --side-by-side input-left
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

from gangen import recipe
from gangen.data import Augment, Batch, open_pairs
from gangen.losses import Perceptual, saturation_moment
from gangen.metrics import LPIPS, STANDARD
from gangen.nets import ImageHead, Norms, UNet
from gangen.train import OptimizerName, Samples, Validation, alike, nogan_phases


@dataclass(kw_only=True)
class SketchToImage(recipe.Drafts, recipe.NoGanFlags):
    """Flags of sketch-to-image."""

    input_folder: Path | None = None
    """Folder of the sketches inside --data; equal names make a pair. Needs --target-folder."""
    target_folder: Path | None = None
    """Folder of the pictures that belong to the sketches."""
    side_by_side: Literal["input-left", "input-right"] | None = None
    """Each picture in --data holds sketch and picture, the sketch on this side."""
    generator_steps: int | None = None
    """Steps of the generator alone; by default 2000, and 400 on the embedded photographs."""
    adversarial_steps: int | None = None
    """Steps of both, whoever has the turn; by default 270, and 500 on the embedded photographs."""
    norms: Norms = "adapt"
    """What a pretrained body's normalisation layers do while it is frozen: hold still; adapt their statistics to
    the sketches, which are not what ImageNet's are of, so that little changes once it is free; or learn."""
    early_share: float = 0.01
    """Share of --lr at which a pretrained body's first layers learn, its later ones at something between: they
    know most already. Of no effect on a body of random weights."""
    optimizer: OptimizerName = "auto"
    """How the generator's new layers learn while it is alone: by Muon more in few steps. "auto": by Muon on a
    pretrained body, by Adam on one of random weights. The body, and all in the game, learn by Adam."""
    fool: float = 0.4
    """Weight of the critic's opinion in the generator's loss, against 1 for the pixels."""
    vividness: float = 10.0
    """Weight of the squared difference in saturation between a batch of painted and of real pictures, in the last
    phase: a generator that is in doubt paints pale. Too much of it follows what batches differ by by chance."""
    critic_shrink: int = 4
    """By what pictures are averaged down before the critic sees them, which widens its patches by as much: with 2
    or more it asks for colours and shapes rather than for texture; 1 for pictures as they are."""

    def __post_init__(self) -> None:
        embedded = self.data is None
        if self.generator_steps is None:
            self.generator_steps = 400 if embedded else 2000
        if self.adversarial_steps is None:
            self.adversarial_steps = 500 if embedded else 270


def main(flags: SketchToImage) -> None:
    run = recipe.Run("sketch_to_image", flags)
    train, held_out = open_pairs(
        flags.data,
        input_folder=flags.input_folder,
        target_folder=flags.target_folder,
        side_by_side=flags.side_by_side,
        size=flags.size,
        validation=flags.validation,
        augment=Augment(flags.size, scale=(0.8, 1.0), draft=flags.draft) if flags.data else None,
        keep=flags.keep,
    )
    body = run.body()
    # Drawings are white for the most part, which a tanh alone only comes near to
    generator = UNet(body, ImageHead(3, headroom=0.35), norm="skips", bottleneck=True)
    critic = flags.critic(condition_channels=3)
    run.record(data=train.fingerprint(), held_out=held_out.fingerprint(), body=body.initial)

    metrics = [*STANDARD, *([LPIPS(weights=flags.lpips_weights)] if flags.lpips_weights else [])]
    likeness = alike(Perceptual(flags.perceptual, pixel=0.0) if flags.perceptual else None)

    def vivid_likeness(fake: Tensor, batch: Batch) -> dict[str, Tensor]:
        vividness = flags.vividness * saturation_moment(fake, batch.target)
        return {**likeness(fake, batch), "vividness": vividness}

    def as_shown(fake: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        # While it learns the head goes beyond what a picture can be, and is not to be told by that
        return batch.target, fake.clamp(-1, 1)

    trainer = run.trainer(
        train,
        callbacks=[
            Validation(held_out, metrics, every=flags.validate_every, best="l1"),
            Samples(held_out, every=200),
        ],
    )
    run.fit(
        trainer,
        nogan_phases(
            flags,
            generator=generator,
            critic=critic,
            likeness=likeness,
            play_likeness=vivid_likeness,
            judged=as_shown,
            condition=lambda batch: batch.input,  # what may be painted depends on the sketch
            body=body,
        ),
        task="sketch-to-image",
        input="sketch",
        trained_size=flags.size,
    )


if __name__ == "__main__":
    recipe.main(main, SketchToImage, __doc__)
