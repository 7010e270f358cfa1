"""The three phases of NoGAN: the generator alone, the critic alone, then both against each other.

Antic 2019, DeOldify ("NoGAN"): most is learned before the game begins, which is then short and stays stable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import Tensor, nn
from torch.utils.data import Dataset

from gangen.data import Batch
from gangen.errors import UserError
from gangen.losses import Adversarial, Perceptual, l1
from gangen.nets import Body, Norms
from gangen.train.game import Judged, Likeness, game_phases
from gangen.train.muon import muon
from gangen.train.optim import Rate, adam
from gangen.train.phase import Phase, Player
from gangen.train.schedule import one_cycle
from gangen.train.seats import Nets
from gangen.train.switcher import Adaptive, Switcher

OptimizerName = Literal["adam", "muon", "auto"]
"""How a generator's new layers learn while it is alone; "auto": by Muon on a pretrained body, else by Adam."""


@dataclass(kw_only=True)
class NoGan:
    """How long the phases are and how fast is learned in them. A recipe's flags derive from it."""

    frozen_steps: int = 100
    """Steps of the generator alone with its pretrained body frozen; skipped when the body's weights are random."""
    norms: Norms = "hold"
    """What a pretrained body's normalisation layers do while it is frozen: hold still; adapt their statistics to
    the pictures, as they do once it is free, which suits pictures unlike photographs; or learn."""
    generator_steps: int | None = None
    """Steps of the generator alone."""
    critic_steps: int = 100
    """Steps of the critic alone."""
    adversarial_steps: int | None = None
    """Steps of both, whoever has the turn."""
    lr: float = 1e-3
    """Peak learning rate of the generator while it is alone."""
    early_share: float = 1.0
    """Share of --lr at which a pretrained body's first layers learn, its later ones at something between: they
    know most already. Of no effect on a body of random weights, nor where there is none."""
    optimizer: OptimizerName = "adam"
    """How the generator's new layers learn while it is alone: by Muon more in few steps. "auto": by Muon on a
    pretrained body, by Adam on one of random weights or none. The body, and all in the game, learn by Adam."""
    adversarial_lr: float = 1e-4
    """Learning rate of the generator while it plays against the critic; it fades to nothing over the phase."""
    critic_lr: float = 2e-4
    """Learning rate of the critic."""
    fool: float = 0.5
    """Weight of the critic's opinion in the generator's loss, against 1 for the pixels."""
    critic_threshold: float = 1.4
    """The critic hands over when its loss (undecided: 1.39) is below this, after two steps at the latest."""


def nogan_phases(
    settings: NoGan,
    *,
    generator: nn.Module,
    critic: nn.Module,
    likeness: Likeness,
    play_likeness: Likeness | None = None,
    condition: Callable[[Batch], Tensor] | None = None,
    game: Adversarial | None = None,
    judged: Judged | None = None,
    body: Body | None = None,
    switcher: Switcher | None = None,
    ema: tuple[float, float] = (0.99, 0.995),
    first: Sequence[tuple[str, Dataset[Any], int]] = (),
) -> list[Phase]:
    """The phases; one of no steps is passed over by the trainer.

    The players are named "generator" and "critic". With a pretrained `body` there is a phase before the others in
    which it is frozen.

    Args:
        settings: lengths, rates and weights.
        generator: paints from `batch.input`.
        critic: judges `batch.target` against what was painted.
        likeness: what the generator minimises alone.
        play_likeness: what it minimises besides the critic's opinion in the game; `likeness` when None.
        condition: what a conditional critic sees beside the picture, such as the input; None for one that judges
            pictures by themselves.
        game: the pair of losses; `bce()`, for which the settings' threshold is meant, when None.
        judged: what the critic sees of an output and its batch, real and fake; the target and the output when
            None.
        body: the generator's body, if it has one; see `gangen.nets.layer_groups`.
        switcher: passes the turn in the game; when None, the critic plays until its loss is below the threshold,
            two steps at most, and then the generator once.
        ema: decays of the moving average of the generator's weights, alone and in the game.
        first: stretches in which the generator learns alone before it learns from the trainer's data, each of
            `generator_steps` too: name, data and batch size, such as smaller pictures in larger batches.
    """

    def imitate(nets: Nets, batch: Batch) -> dict[str, Tensor]:
        return likeness(nets.generator(batch.input), batch)

    pretrained = body is not None and body.pretrained
    # One rate makes fewer groups of weights than two equal ones, and checkpoints know how many there were
    graded = pretrained and settings.early_share != 1
    rate: Rate = (settings.early_share * settings.lr, settings.lr) if graded else settings.lr

    if settings.optimizer not in get_args(OptimizerName):
        known = ", ".join(get_args(OptimizerName))
        raise UserError(f"optimizer {settings.optimizer!r} is unknown; choose one of {known}.")
    by_muon = settings.optimizer == "muon" or (settings.optimizer == "auto" and pretrained)
    optimizer = muon(generator, body=body) if by_muon else adam()

    def alone() -> Player:
        return Player(
            "generator",
            generator,
            imitate,
            lr=rate,
            optimizer=optimizer,
            schedule=one_cycle(),
            clip=1.0,
            ema=ema[0],
        )

    phases = []
    if body is not None:
        beginner = Player(
            "generator",
            generator,
            imitate,
            lr=settings.lr,
            optimizer=optimizer,
            clip=1.0,
            ema=ema[0],
            frozen=[body],
            norms=settings.norms,
        )
        phases.append(Phase("generator, body frozen", [beginner], settings.frozen_steps if pretrained else 0))
    steps = settings.generator_steps or 0
    return [
        *phases,
        *(Phase(name, [alone()], steps, data=data, batch_size=size) for name, data, size in first),
        Phase("generator", [alone()], steps),
        *game_phases(
            generator,
            critic,
            play_likeness or likeness,
            steps=(settings.critic_steps, settings.adversarial_steps or 0),
            lr=settings.adversarial_lr,
            critic_lr=settings.critic_lr,
            fool=settings.fool,
            switcher=switcher or Adaptive(critic=settings.critic_threshold, max_turn=2),
            judged=judged,
            condition=condition,
            pair=game,
            ema=ema[1],
        ),
    ]


def alike(features: Perceptual | None = None, weight: float = 1.0) -> Likeness:
    """The mean absolute difference of the pixels, "pixel", and where `features` are given theirs, "features".

    Args:
        features: compares what a classifier sees, made with `pixel=0.0`.
        weight: of the features, against 1 for the pixels.
    """

    def likeness(fake: Tensor, batch: Batch) -> dict[str, Tensor]:
        terms = {"pixel": l1(fake, batch.target)}
        return terms if features is None else {**terms, "features": weight * features(fake, batch.target)}

    return likeness
