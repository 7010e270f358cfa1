"""Colour grey photographs.

The generator sees lightness (L* of CIELAB), answers with chroma (a and b), and keeps the lightness exactly; a
picture of any size keeps all of its detail. First it learns alone, on smaller pictures at first where --size
allows; then the critic alone learns to tell its colours from real ones; then both play for a short while ("NoGAN",
Antic 2019), which gives back the colours that a regression, in doubt, leaves pale.

With no flags it learns on photographs that ship with scikit-image and takes about 5 minutes on two CPU
cores. With your own colour photographs: --data FOLDER; their grey versions are made for you.
"""

from dataclasses import dataclass

from torch import Tensor

from gangen import recipe
from gangen.colour import grey
from gangen.data import Augment, Batch, Pairs, Stream, open_pairs
from gangen.losses import Perceptual, chroma, chroma_gap
from gangen.metrics import COLOUR, LPIPS, STANDARD
from gangen.nets import Colorizer, chroma_unet
from gangen.train import Samples, Validation, nogan_phases


@dataclass(kw_only=True)
class Colorization(recipe.Drafts, recipe.NoGanFlags):
    """Flags of colorization."""

    smaller_sizes: tuple[int, ...] | None = None
    """Sides, in pixels, that the generator learns at before --size, each in a phase of its own with larger
    batches; by default those of 64 and 128 that are below --size, and 32 on the embedded photographs."""
    view: int | None = None
    """Shorter side, in pixels, at which the colours of larger pictures are chosen; by default --size."""
    generator_steps: int | None = None
    """Steps of the generator alone at each size; by default 2000, and 300 on the embedded photographs."""
    adversarial_steps: int | None = None
    """Steps of both, whoever has the turn; by default 1600, and 300 on the embedded photographs."""
    adversarial_lr: float = 3e-4
    """Learning rate of the generator while it plays against the critic; it fades to nothing over the phase."""
    fool: float = 0.1
    """Weight of the critic's opinion in the generator's loss, against 1 for the chroma."""
    colourfulness: float = 4.0
    """Weight, in the last phase, of the difference in mean chroma between each picture and the real one, which
    asks for as much colour as is real; 0 to leave that to the critic alone."""
    perceptual_weight: float = 0.3
    """Weight of the features, where --perceptual is given."""
    critic_layers: int = 3
    """Halvings in the critic: with 1, 2 or 3 of them it judges patches of 16, 34 or 70 pixels, times
    --critic-shrink."""
    critic_shrink: int = 1
    """By what pictures are averaged down before the critic sees them."""

    def __post_init__(self) -> None:
        embedded = self.data is None
        if self.generator_steps is None:
            self.generator_steps = 300 if embedded else 2000
        if self.adversarial_steps is None:
            self.adversarial_steps = 300 if embedded else 1600
        if self.smaller_sizes is None:
            self.smaller_sizes = tuple(size for size in ((32,) if embedded else (64, 128)) if size < self.size)


def main(flags: Colorization) -> None:
    run = recipe.Run("colorization", flags)

    def open_at(size: int) -> tuple[Pairs | Stream, Pairs]:
        varied = Augment(size, scale=(0.6, 1.0), draft=flags.draft) if flags.data else None
        return open_pairs(
            flags.data,
            draw=grey,
            size=size,
            validation=flags.validation,
            augment=varied,
            keep=flags.keep,
            always_draw=True,
        )

    train, held_out = open_at(flags.size)
    body = run.body(in_channels=1)
    generator = Colorizer(chroma_unet(body), view=flags.view or flags.size)
    critic = flags.critic()
    run.record(data=train.fingerprint(), held_out=held_out.fingerprint(), body=body.initial)

    features = Perceptual(flags.perceptual, pixel=0.0) if flags.perceptual else None

    def likeness(fake: Tensor, batch: Batch) -> dict[str, Tensor]:
        terms = {"chroma": chroma(fake, batch.target)}
        if features is not None:
            terms["features"] = flags.perceptual_weight * features(fake, batch.target)
        return terms

    def colourful_likeness(fake: Tensor, batch: Batch) -> dict[str, Tensor]:
        return {**likeness(fake, batch), "colourfulness": flags.colourfulness * chroma_gap(fake, batch.target)}

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
    phases = nogan_phases(
        flags,
        generator=generator,
        critic=critic,
        likeness=likeness,
        play_likeness=colourful_likeness if flags.colourfulness else likeness,
        body=body,
        # As many pixels a batch as at the last size, within reason
        first=[
            (f"generator, {size} px", open_at(size)[0], flags.batch_size * min(4, max(1, flags.size // size) ** 2))
            for size in flags.smaller_sizes or ()
        ],
    )
    run.fit(trainer, phases, task="colorization", input="grey", trained_size=flags.size)


if __name__ == "__main__":
    recipe.main(main, Colorization, __doc__)
