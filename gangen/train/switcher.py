"""Switchers: callbacks that decide whose turn it is. A turn is passed only between complete steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gangen.train.callback import Callback

if TYPE_CHECKING:
    from gangen.train.trainer import Trainer


class Switcher(Callback):
    """Passes the turn with `trainer.pass_turn((name, ...), reason)`, usually in `on_step_end`.

    `first` names who begins; the phase's first player unless overridden. `trainer.turn` is who has just learned
    and `trainer.held` how many steps they have had in this turn.
    """

    def first(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Who has the first turn among the phase's players `names`."""
        return names[:1]


class Alternate(Switcher):
    """So many steps each, in turn: `Alternate(critic=5, generator=1)` begins with five steps of the critic.

    Goodfellow et al. 2014 (arXiv:1406.2661), algorithm 1.
    """

    def __init__(self, **steps: int) -> None:
        if len(steps) < 2 or min(steps.values()) < 1:
            raise ValueError(f"Alternate takes two players or more with one step or more each, not {steps}")
        self.steps = steps

    def first(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The first one named."""
        _check_names(self, self.steps, names)
        return (next(iter(self.steps)),)

    def on_step_end(self, trainer: Trainer) -> None:
        """Pass the turn on when the holder has had its steps."""
        holder = trainer.turn[0]
        if trainer.held >= self.steps[holder]:
            order = list(self.steps)
            following = order[(order.index(holder) + 1) % len(order)]
            trainer.pass_turn((following,), f"{holder} had its {self.steps[holder]}")


class Together(Switcher):
    """Everyone learns from every batch, and the generator's forward pass is computed once for all.

    Gradients are taken at the same weights for all players before any of them moves (simultaneous gradient
    descent; Mescheder et al. 2017, arXiv:1705.10461).
    """

    def first(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """All of them."""
        return names


class Adaptive(Switcher):
    """The critic plays until it is good enough, then the generator takes its steps.

    After fastai's `AdaptiveGANSwitcher` and DeOldify's use of it, with a limit: the critic hands over when its
    loss falls below `critic`, or after `max_turn` steps at the latest. Each decision reads one number, averaged
    over the processes, so that all of them take the same turn; that costs one synchronisation a critic step.

    Args:
        critic: threshold for the critic's loss. 0.65 suits the bce pair (undecided: 1.39, fastai's critic loss
            is half of that sum); for the hinge pair 2.0 is undecided.
        generator: steps of the generator's turn.
        max_turn: most steps of a turn of the critic.
        term: which term of the critic is compared; None for the sum of all, penalties included.
        players: names of the critic and the generator.
    """

    def __init__(
        self,
        critic: float = 0.65,
        *,
        generator: int = 1,
        max_turn: int = 10,
        term: str | None = "adversarial",
        players: tuple[str, str] = ("critic", "generator"),
    ) -> None:
        if generator < 1 or max_turn < 1:
            raise ValueError("a turn has one step at least: check generator and max_turn")
        self.threshold, self.generator_steps, self.max_turn = critic, generator, max_turn
        self.term, self.players = term, players

    def first(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The critic."""
        _check_names(self, self.players, names)
        return self.players[:1]

    def on_step_end(self, trainer: Trainer) -> None:
        """Hand over when there is a reason to."""
        critic, generator = self.players
        if trainer.turn[0] == generator:
            if trainer.held >= self.generator_steps:
                trainer.pass_turn((critic,), f"{generator} had its {self.generator_steps}")
            return
        loss = trainer.last_loss(critic, self.term)
        label = f"{critic}/{self.term or 'loss'}"
        if loss < self.threshold:
            trainer.pass_turn((generator,), f"{label} {loss:.4g} < {self.threshold:g}")
        elif trainer.held >= self.max_turn:
            trainer.pass_turn((generator,), f"{label} {loss:.4g}, but {critic} had its {self.max_turn}")


def _check_names(switcher: Switcher, wanted: Any, names: tuple[str, ...]) -> None:
    missing = [name for name in wanted if name not in names]
    if missing:
        raise ValueError(
            f"{type(switcher).__name__} passes the turn to {missing[0]!r}, but the phase's players are: "
            f"{', '.join(names)}"
        )
