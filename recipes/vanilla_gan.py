"""Make pictures from noise: no input picture, only a generator and a critic (DCGAN, Radford et al. 2015).

One phase: the critic and the generator play from the start, in one of five games (--game). All the critic sees is
varied (DiffAugment, Zhao et al. 2020, arXiv:2006.10738) and its slope is held low (R1, Mescheder et al. 2018,
arXiv:1801.04406), so that some thousands of pictures are enough.

With no flags it learns crops of photographs that ship with scikit-image, at 32 pixels, and takes 2 to 3
minutes on two CPU cores. With your own pictures: --data FOLDER. Afterwards

    gangen generate runs/vanilla_gan --count 64 --out made

makes new pictures.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

from gangen import recipe
from gangen.data import Augment, Batch, FromNoise, from_noise, open_pictures
from gangen.errors import UserError
from gangen.losses import (
    Adversarial,
    bce,
    critic_terms,
    diff_augment,
    hinge,
    judge,
    least_squares,
    relativistic,
    wasserstein,
)
from gangen.metrics import diversity, feature_net, kid
from gangen.nets import NoiseCritic, NoiseGenerator
from gangen.train import Alternate, Callback, FromLatents, Nets, Phase, Player, Together, Validation
from gangen.train.optim import adam
from gangen.train.schedule import flat_cosine

GAMES: dict[str, Adversarial] = {
    "hinge": hinge,
    "bce": bce(),
    "least_squares": least_squares(),
    "wasserstein": wasserstein,
    "relativistic": relativistic,
}


@dataclass(kw_only=True)
class VanillaGAN(recipe.Drafts, recipe.Common):
    """Flags of pictures from noise."""

    size: int = 32
    """Side of the pictures, in pixels: 8, 16, 32, 64, 128 or 256. The trained generator makes this size only."""
    batch_size: int = 32
    """Pictures a batch, on each process."""
    validation: float = 0.1
    """Share of the pictures held out, where there is no folder val/ beside train/."""
    game: Literal["hinge", "bce", "least_squares", "wasserstein", "relativistic"] = "bce"
    """What critic and generator minimise; see gangen/losses/adversarial.py."""
    steps: int | None = None
    """Steps, of whoever has the turn; by default 6000, and 1500 on the embedded photographs."""
    critic_turns: int | None = None
    """Steps of the critic to one of the generator; 1, the default, lets both learn in every step. By default 5 in
    the wasserstein game."""
    lr: float = 5e-4
    """Learning rate of the generator; both fade over the last quarter."""
    critic_lr: float = 5e-4
    """Learning rate of the critic."""
    latent: int = 128
    """Numbers of noise that make a picture."""
    width: int = 32
    """Channels of both networks at half the pictures' size, doubled with each halving."""
    norm: Literal["pixel", "batch"] = "batch"
    """The generator's normalisation; batch is DCGAN's own, with pixel a picture depends on its noise alone."""
    spectral: bool = False
    """Bound the gain of the critic's layers, in place of r1 or the gradient penalty."""
    penalty: float | None = None
    """Weight of WGAN-GP's gradient penalty; by default 10 in the wasserstein game, and 0 in the others."""
    r1: float | None = None
    """Weight of R1, the critic's slope at real pictures; by default 0.5, or 0 with --spectral or --penalty."""
    r1_every: int = 4
    """Steps of the critic between two computations of R1."""
    vary: Literal["none", "shift", "places", "all"] = "shift"
    """What is varied in all that the critic sees: pictures are moved a little (shift), or moved and a part of them
    blanked (places), or their colours varied too (all)."""
    ema: float = 0.995
    """Decay of the moving average of the generator's weights, which is what is kept and shown."""
    samples_every: int = 500
    """Steps between sample grids."""
    features: Path | None = None
    """Weights of the network that KID sees with, as of `gangen score`, to validate by KID."""
    feature_net: str = "resnet18"
    """What --features are the weights of: inception, or a classifier of torchvision as its stand-in."""
    lpips_weights: Path | None = None
    """AlexNet's convolutions (torchvision's names, .safetensors or .pth), to validate by how varied the pictures
    are: their mean LPIPS over all pairs."""
    validate_every: int = 0
    """Steps between validations, besides the one before the training and that at its end; needs --features or
    --lpips-weights."""

    def __post_init__(self) -> None:
        if self.steps is None:
            self.steps = 1500 if self.data is None else 6000
        if self.critic_turns is None:
            self.critic_turns = 5 if self.game == "wasserstein" else 1
        if self.penalty is None:
            self.penalty = 10.0 if self.game == "wasserstein" and not self.spectral else 0.0
        if self.r1 is None:
            self.r1 = 0.0 if self.penalty or self.spectral else 0.5


def main(flags: VanillaGAN) -> None:
    run = recipe.Run("vanilla_gan", flags)
    pictures, held_out = open_pictures(
        flags.data,
        size=flags.size,
        validation=flags.validation,
        keep=flags.keep,
        augment=Augment(flags.size, scale=(0.9, 1.0), draft=flags.draft) if flags.data else None,
    )
    metrics = [
        *([kid(feature_net(flags.feature_net, flags.features))] if flags.features else []),
        *(diversity(weights=flags.lpips_weights) if flags.lpips_weights else []),
    ]
    if flags.validate_every and not metrics:
        raise UserError("--validate-every: nothing is measured. Name --features or --lpips-weights.")
    if metrics and len(held_out) < 2:
        raise UserError(
            f"KID and diversity are of two held-out pictures at least, and there are {len(held_out)}. Raise "
            "--validation, or leave --features and --lpips-weights out."
        )
    train = from_noise(pictures, flags.latent)
    generator = NoiseGenerator(flags.size, flags.latent, flags.width, norm=flags.norm)
    critic = NoiseCritic(flags.size, flags.width, spectral=flags.spectral)
    game = GAMES[flags.game]
    run.record(data=train.fingerprint(), held_out=held_out.fingerprint())

    def seen(shown: Tensor) -> Tensor:
        if flags.vary == "none":
            return shown
        if flags.vary == "shift":
            return diff_augment(shown, colour=False, hole=0, fill="edge")
        return diff_augment(shown, colour=flags.vary == "all")

    def tell_apart(nets: Nets, batch: Batch) -> dict[str, Tensor]:
        return critic_terms(
            nets.critic,
            seen(batch.target),
            seen(nets.generator(batch.input).detach()),
            game,
            r1_weight=flags.r1 or 0.0,
            r1_every=flags.r1_every,
            step=nets.step,
            penalty=flags.penalty or 0.0,
        )

    def persuade(nets: Nets, batch: Batch) -> dict[str, Tensor]:
        fake = seen(nets.generator(batch.input))
        if game is not relativistic:
            return {"adversarial": game.generator(nets.critic(fake))}
        real_logits, fake_logits = judge(nets.critic, seen(batch.target), fake)
        return {"adversarial": game.generator(fake_logits, real_logits)}

    fading = flat_cosine(0.75)
    # Without momentum, as is usual since Gulrajani et al. 2017 (arXiv:1704.00028): what it remembers is of another
    # opponent.
    plain = adam(betas=(0.0, 0.99))
    artist = Player("generator", generator, persuade, lr=flags.lr, optimizer=plain, schedule=fading, ema=flags.ema)
    expert = Player("critic", critic, tell_apart, lr=flags.critic_lr, optimizer=plain, schedule=fading)
    callbacks: list[Callback] = [FromLatents(flags.latent, every=flags.samples_every)]
    if metrics:
        judged = FromNoise(held_out, flags.latent)
        best = "kid" if flags.features else None
        callbacks.append(
            Validation(judged, metrics, every=flags.validate_every, best=best, baseline="untrained", batch_size=64)
        )
    trainer = run.trainer(train, callbacks=callbacks)
    # Turn by turn each step takes a batch and makes fakes of its own: together both learn from one.
    several = flags.critic_turns or 1
    switcher = Together() if several == 1 else Alternate(critic=several, generator=1)
    run.fit(
        trainer,
        [Phase("adversarial", [expert, artist], flags.steps or 0, switcher=switcher)],
        task="vanilla-gan",
        input="noise",
        trained_size=flags.size,
    )


if __name__ == "__main__":
    recipe.main(main, VanillaGAN, __doc__)
