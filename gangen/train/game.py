"""The game of a network against a critic: the critic alone at first, then both."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from gangen.data import Batch
from gangen.losses import Adversarial, bce, critic_terms
from gangen.train.optim import Rate, adam
from gangen.train.phase import Phase, Player
from gangen.train.schedule import flat_cosine
from gangen.train.seats import Nets
from gangen.train.switcher import Switcher

Likeness = Callable[[Tensor, Batch], dict[str, Tensor]]
"""What an output is compared with its batch by: named scalars, as of a loss."""

Judged = Callable[[Tensor, Batch], tuple[Tensor, Tensor]]
"""What the critic is to tell apart, real and fake, from an output and its batch."""


def game_phases(
    network: nn.Module,
    critic: nn.Module,
    likeness: Likeness,
    *,
    steps: tuple[int, int],
    lr: Rate,
    critic_lr: float = 2e-4,
    fool: float,
    switcher: Switcher,
    judged: Judged | None = None,
    condition: Callable[[Batch], Tensor] | None = None,
    pair: Adversarial | None = None,
    ema: float = 0.0,
    name: str = "generator",
) -> list[Phase]:
    """The phases "critic" and "adversarial"; the players are named "critic" and `name`.

    Args:
        network: answers to `batch.input`, and has learned to do so.
        critic: gives logits, high for real.
        likeness: what the network minimises besides the critic's opinion.
        steps: of the critic alone, and of both; a phase of no steps is passed over by the trainer.
        lr: learning rate of the network, which fades to nothing over the game.
        critic_lr: learning rate of the critic.
        fool: weight of the critic's opinion in the network's loss.
        switcher: passes the turn in the game.
        judged: what the critic sees of an output and its batch; the target and the output themselves when None.
        condition: what a conditional critic sees besides, such as the input; None for one that does not.
        pair: the two adversarial losses; `bce()` when None.
        ema: decay of the moving average of the network's weights in the game.
        name: of the network's player.
    """
    losses = pair or bce()

    def judge(nets: Nets, batch: Batch) -> dict[str, Tensor]:
        output = getattr(nets, name)(batch.input)
        real, fake = judged(output, batch) if judged else (batch.target, output)
        return critic_terms(nets.critic, real, fake, losses, condition=condition(batch) if condition else None)

    def persuade(nets: Nets, batch: Batch) -> dict[str, Tensor]:
        output = getattr(nets, name)(batch.input)
        fake = judged(output, batch)[1] if judged else output
        opinion = nets.critic(fake, condition(batch)) if condition else nets.critic(fake)
        return {**likeness(output, batch), "adversarial": fool * losses.generator(opinion)}

    artist = Player(
        name,
        network,
        persuade,
        lr=lr,
        optimizer=adam(betas=(0.5, 0.99)),
        schedule=flat_cosine(0.0),
        clip=1.0,
        ema=ema,
        hold_statistics=True,
    )
    expert = Player("critic", critic, judge, lr=critic_lr, optimizer=adam(betas=(0.5, 0.99)))
    return [
        Phase("critic", [expert, artist], steps[0]),
        Phase("adversarial", [expert, artist], steps[1], switcher=switcher),
    ]
