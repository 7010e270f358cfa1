"""Paint pictures from sketches.

Three phases: the generator alone learns to imitate, the critic alone learns to tell painted from real, then both
play against each other, the critic until it is good enough, the generator in between ("NoGAN", Antic 2019).

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
from gangen.losses import critic_terms, hinge, l1
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
    frozen_steps: int = 0
    """Steps of the generator alone with its pretrained body frozen; skipped when the body's weights are random."""
    generator_steps: int = 500
    """Steps of the generator alone."""
    critic_steps: int = 100
    """Steps of the critic alone."""
    adversarial_steps: int = 600
    """Steps of both, whoever has the turn."""
    lr: float = 1e-3
    """Peak learning rate of the generator while it is alone."""
    adversarial_lr: float = 2e-4
    """Learning rate of the generator while it plays against the critic."""
    critic_lr: float = 4e-4
    """Learning rate of the critic."""
    fool: float = 0.05
    """Weight of the critic's opinion in the generator's loss, against 1 for the pixels."""
    critic_threshold: float = 1.2
    """The critic hands over when its hinge loss (2 when undecided, 0 when certain) is below this."""
    r1: float = 0.0
    """Weight of the critic's gradient penalty on real pictures (R1), every 16th of its steps."""
    critic_width: int = 32
    """Channels of the critic's first layer; doubled twice on the way."""
    validate_every: int = 0
    """Steps between validations; 0 for the end of each phase only."""
    lpips_weights: Path | None = None
    """AlexNet's convolutions (torchvision's names, .safetensors or .pth), to add LPIPS to the validation."""


def main(flags: SketchToImage) -> None:
    run = recipe.Run("sketch_to_image", flags)
    train, held_out = open_pairs(
        flags.data,
        input_folder=flags.input_folder,
        target_folder=flags.target_folder,
        side_by_side=flags.side_by_side,
        size=flags.size,
        augment=Augment(flags.size, scale=(0.8, 1.0)) if flags.data else None,
    )
    body = run.body()
    generator = UNet(body, ImageHead(3))
    critic = PatchCritic(3, condition_channels=3, width=flags.critic_width)
    run.record(data=train.fingerprint(), body=body.initial)

    metrics = [*STANDARD, *([LPIPS(weights=flags.lpips_weights)] if flags.lpips_weights else [])]

    def imitate(nets: Nets, batch: Batch) -> dict[str, Tensor]:
        return {"pixel": l1(nets.generator(batch.input), batch.target)}

    def judge(nets: Nets, batch: Batch) -> dict[str, Tensor]:
        fake = nets.generator(batch.input)
        return critic_terms(
            nets.critic, batch.target, fake, hinge, condition=batch.input, r1_weight=flags.r1, step=nets.step
        )

    def persuade(nets: Nets, batch: Batch) -> dict[str, Tensor]:
        fake = nets.generator(batch.input)
        opinion = hinge.generator(nets.critic(fake, batch.input))
        return {"pixel": l1(fake, batch.target), "adversarial": flags.fool * opinion}

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
        ema=0.99,
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
            Phase("generator", [alone], flags.generator_steps),
            Phase("critic", [expert, artist], flags.critic_steps),
            Phase(
                "adversarial",
                [expert, artist],
                flags.adversarial_steps,
                switcher=Adaptive(critic=flags.critic_threshold, max_turn=4),
            ),
        ],
        resume=flags.resume,
    )
    run.finish(trainer, task="sketch-to-image", input="sketch", trained_size=flags.size)


if __name__ == "__main__":
    recipe.main(main, SketchToImage, __doc__)
