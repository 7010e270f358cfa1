"""Colour grey photographs.

The generator sees lightness (L* of CIELAB), answers with chroma (a and b), and keeps the lightness exactly; a
picture of any size keeps all of its detail. First it learns alone, on small pictures and then on larger ones; then
the critic alone learns to tell its colours from real ones; then both play for a short while ("NoGAN", Antic 2019),
which gives back the colours that a regression, in doubt, leaves pale.

With no flags it learns on photographs that ship with scikit-image and takes about 5 minutes on two CPU cores. With
your own colour photographs: --data FOLDER; their grey versions are made for you.
"""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from gangen import recipe
from gangen.colour import grey
from gangen.data import Augment, Batch, Pairs, open_pairs
from gangen.losses import Perceptual, bce, chroma, chroma_gap, critic_terms
from gangen.metrics import COLOUR, LPIPS, STANDARD
from gangen.nets import Colorizer, PatchCritic, chroma_unet
from gangen.train import Adaptive, Nets, Phase, Player, Samples, Validation
from gangen.train.optim import adam
from gangen.train.schedule import flat_cosine, one_cycle


@dataclass(kw_only=True)
class Colorization(recipe.Flags):
    """Flags of colorization."""

    smaller_sizes: tuple[int, ...] | None = None
    """Sides, in pixels, that the generator learns at before --size, each in a phase of its own with larger
    batches; by default those of 64 and 128 that are below --size, and 32 on the embedded photographs."""
    validation: float = 0.1
    """Share of the pictures held out for validation, where there is no folder val/ beside train/."""
    view: int | None = None
    """Shorter side, in pixels, at which the colours of larger pictures are chosen; by default --size."""
    frozen_steps: int = 100
    """Steps of the generator alone with its pretrained body frozen; skipped when the body's weights are random."""
    generator_steps: int | None = None
    """Steps of the generator alone at each size; by default 2000, and 300 on the embedded photographs."""
    critic_steps: int = 100
    """Steps of the critic alone."""
    adversarial_steps: int | None = None
    """Steps of both, whoever has the turn; by default 600, and 300 on the embedded photographs."""
    lr: float = 1e-3
    """Peak learning rate of the generator while it is alone."""
    adversarial_lr: float = 1e-4
    """Learning rate of the generator while it plays against the critic; it fades over the second half."""
    critic_lr: float = 2e-4
    """Learning rate of the critic."""
    fool: float = 0.1
    """Weight of the critic's opinion in the generator's loss, against 1 for the chroma."""
    colourfulness: float = 0.0
    """Weight of the difference in mean chroma, which asks for as much colour as is real; 0 for none."""
    critic_threshold: float = 1.4
    """The critic hands over when its loss (undecided: 1.39) is below this, after two steps at the latest."""
    perceptual: Path | None = None
    """VGG-16's convolutions (torchvision's names, .safetensors or .pth), to compare features besides chroma."""
    perceptual_weight: float = 0.3
    """Weight of the features, where --perceptual is given."""
    critic_width: int = 32
    """Channels of the critic's first layer; doubled with each further one."""
    critic_layers: int = 3
    """Halvings in the critic: with 1, 2 or 3 of them it judges patches of 16, 34 or 70 pixels, times
    --critic-shrink."""
    critic_shrink: int = 1
    """By what pictures are averaged down before the critic sees them."""
    validate_every: int = 0
    """Steps between validations; 0 for the end of each phase only."""
    lpips_weights: Path | None = None
    """AlexNet's convolutions (torchvision's names, .safetensors or .pth), to add LPIPS to the validation."""

    def __post_init__(self) -> None:
        embedded = self.data is None
        if self.generator_steps is None:
            self.generator_steps = 300 if embedded else 2000
        if self.adversarial_steps is None:
            self.adversarial_steps = 300 if embedded else 600
        if self.smaller_sizes is None:
            self.smaller_sizes = tuple(size for size in ((32,) if embedded else (64, 128)) if size < self.size)


def main(flags: Colorization) -> None:
    run = recipe.Run("colorization", flags)

    def open_at(size: int) -> tuple[Pairs, Pairs]:
        varied = Augment(size, scale=(0.6, 1.0)) if flags.data else None
        return open_pairs(flags.data, draw=grey, size=size, validation=flags.validation, augment=varied)

    train, held_out = open_at(flags.size)
    body = run.body(in_channels=1)
    generator = Colorizer(chroma_unet(body), view=flags.view or flags.size)
    critic = PatchCritic(
        3,
        width=flags.critic_width,
        layers=flags.critic_layers,
        shrink=flags.critic_shrink,
        norm="instance",
        spectral=False,
    )
    game = bce()
    run.record(data=train.fingerprint(), body=body.initial)

    features = Perceptual(flags.perceptual, pixel=0.0) if flags.perceptual else None

    def likeness(fake: Tensor, batch: Batch) -> dict[str, Tensor]:
        terms = {"chroma": chroma(fake, batch.target)}
        if features is not None:
            terms["features"] = flags.perceptual_weight * features(fake, batch.target)
        if flags.colourfulness:
            terms["colourfulness"] = flags.colourfulness * chroma_gap(fake, batch.target)
        return terms

    def imitate(nets: Nets, batch: Batch) -> dict[str, Tensor]:
        return likeness(nets.generator(batch.input), batch)

    def judge(nets: Nets, batch: Batch) -> dict[str, Tensor]:
        return critic_terms(nets.critic, batch.target, nets.generator(batch.input), game)

    def persuade(nets: Nets, batch: Batch) -> dict[str, Tensor]:
        fake = nets.generator(batch.input)
        return {**likeness(fake, batch), "adversarial": flags.fool * game.generator(nets.critic(fake))}

    def alone() -> Player:
        return Player("generator", generator, imitate, lr=flags.lr, schedule=one_cycle(), clip=1.0, ema=0.99)

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
    growing = [
        Phase(
            f"generator, {size} px",
            [alone()],
            flags.generator_steps or 0,
            data=open_at(size)[0],
            # As many pixels a batch as at the last size, within reason
            batch_size=flags.batch_size * max(1, min(4, (flags.size // size) ** 2)),
        )
        for size in flags.smaller_sizes or ()
    ]
    metrics = [
        *STANDARD,
        *(metric for metric in COLOUR if metric not in STANDARD),
        *([LPIPS(weights=flags.lpips_weights)] if flags.lpips_weights else []),
    ]
    best = "lpips" if flags.lpips_weights else "colourfulness_gap"
    trainer = run.trainer(
        train,
        callbacks=[
            Validation(held_out, metrics, every=flags.validate_every, best=best),
            Samples(held_out, every=200),
        ],
    )
    trainer.fit(
        [
            Phase("generator, body frozen", [beginner], flags.frozen_steps if pretrained else 0),
            *growing,
            Phase("generator", [alone()], flags.generator_steps or 0),
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
    run.finish(trainer, task="colorization", input="grey", trained_size=flags.size)


if __name__ == "__main__":
    recipe.main(main, Colorization, __doc__)
