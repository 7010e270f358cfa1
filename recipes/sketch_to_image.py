"""Paint pictures from sketches.

Three phases: the generator alone learns to imitate, the critic alone learns to tell painted from real, then both
play against each other for a short while ("NoGAN", Antic 2019), the critic twice in a row where it is worse than
undecided.

With no flags it draws its own sketches from photographs that ship with scikit-image and takes about 5 minutes on
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
from gangen.losses import Perceptual, bce, critic_terms, l1
from gangen.metrics import LPIPS, STANDARD
from gangen.nets import ImageHead, PatchCritic, UNet
from gangen.train import Adaptive, Nets, Phase, Player, Samples, Validation
from gangen.train.optim import adam
from gangen.train.schedule import flat_cosine, one_cycle


@dataclass(kw_only=True)
class SketchToImage(recipe.Flags):
    """Flags of sketch-to-image."""

    input_folder: Path | None = None
    """Folder of the sketches inside --data; equal names make a pair. Needs --target-folder."""
    target_folder: Path | None = None
    """Folder of the pictures that belong to the sketches."""
    side_by_side: Literal["input-left", "input-right"] | None = None
    """Each picture in --data holds sketch and picture, the sketch on this side."""
    validation: float = 0.1
    """Share of the pictures held out for validation, where there is no folder val/ beside train/."""
    frozen_steps: int = 100
    """Steps of the generator alone with its pretrained body frozen; skipped when the body's weights are random."""
    generator_steps: int | None = None
    """Steps of the generator alone; by default 2000, and 400 on the embedded photographs."""
    critic_steps: int = 100
    """Steps of the critic alone."""
    adversarial_steps: int | None = None
    """Steps of both, whoever has the turn; by default 450, and 500 on the embedded photographs."""
    lr: float = 1e-3
    """Peak learning rate of the generator while it is alone."""
    adversarial_lr: float = 1e-4
    """Learning rate of the generator while it plays against the critic; it fades over the second half."""
    critic_lr: float = 2e-4
    """Learning rate of the critic."""
    fool: float = 0.5
    """Weight of the critic's opinion in the generator's loss, against 1 for the pixels."""
    critic_threshold: float = 1.4
    """The critic hands over when its loss (undecided: 1.39) is below this, after two steps at the latest."""
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

    def __post_init__(self) -> None:
        embedded = self.data is None
        if self.generator_steps is None:
            self.generator_steps = 400 if embedded else 2000
        if self.adversarial_steps is None:
            self.adversarial_steps = 500 if embedded else 450


def main(flags: SketchToImage) -> None:
    run = recipe.Run("sketch_to_image", flags)
    train, held_out = open_pairs(
        flags.data,
        input_folder=flags.input_folder,
        target_folder=flags.target_folder,
        side_by_side=flags.side_by_side,
        size=flags.size,
        validation=flags.validation,
        augment=Augment(flags.size, scale=(0.8, 1.0)) if flags.data else None,
    )
    body = run.body()
    generator = UNet(body, ImageHead(3))
    critic = PatchCritic(
        3,
        condition_channels=3,
        width=flags.critic_width,
        layers=flags.critic_layers,
        shrink=flags.critic_shrink,
        norm="instance",
        spectral=False,
    )
    game = bce()
    run.record(data=train.fingerprint(), body=body.initial)

    metrics = [*STANDARD, *([LPIPS(weights=flags.lpips_weights)] if flags.lpips_weights else [])]

    features = Perceptual(flags.perceptual, pixel=0.0) if flags.perceptual else None

    def likeness(fake: Tensor, batch: Batch) -> dict[str, Tensor]:
        terms = {"pixel": l1(fake, batch.target)}
        return terms if features is None else {**terms, "features": features(fake, batch.target)}

    def imitate(nets: Nets, batch: Batch) -> dict[str, Tensor]:
        return likeness(nets.generator(batch.input), batch)

    def judge(nets: Nets, batch: Batch) -> dict[str, Tensor]:
        fake = nets.generator(batch.input)
        return critic_terms(nets.critic, batch.target, fake, game, condition=batch.input)

    def persuade(nets: Nets, batch: Batch) -> dict[str, Tensor]:
        fake = nets.generator(batch.input)
        opinion = game.generator(nets.critic(fake, batch.input))
        return {**likeness(fake, batch), "adversarial": flags.fool * opinion}

    alone = Player("generator", generator, imitate, lr=flags.lr, schedule=one_cycle(), clip=1.0, ema=0.99)
    beginner = Player("generator", generator, imitate, lr=flags.lr, clip=1.0, ema=0.99, frozen=[body])
    artist = Player(
        "generator",
        generator,
        persuade,
        lr=flags.adversarial_lr,
        optimizer=adam(betas=(0.5, 0.99)),
        schedule=flat_cosine(0.5),
        clip=1.0,
        ema=0.995,
        hold_statistics=True,
    )
    expert = Player("critic", critic, judge, lr=flags.critic_lr, optimizer=adam(betas=(0.5, 0.99)))
    pretrained = body.initial["kind"] != "none"
    trainer = run.trainer(
        train,
        callbacks=[
            Validation(held_out, metrics, every=flags.validate_every, best="l1"),
            Samples(held_out, every=200),
        ],
    )
    trainer.fit(
        [
            Phase("generator, body frozen", [beginner], flags.frozen_steps if pretrained else 0),
            Phase("generator", [alone], flags.generator_steps or 0),
            Phase("critic", [expert, artist], flags.critic_steps),
            Phase(
                "adversarial",
                [expert, artist],
                flags.adversarial_steps or 0,
                switcher=Adaptive(critic=flags.critic_threshold, max_turn=2),
            ),
        ],
        resume=flags.resume,
    )
    run.finish(trainer, task="sketch-to-image", input="sketch", trained_size=flags.size)


if __name__ == "__main__":
    recipe.main(main, SketchToImage, __doc__)
