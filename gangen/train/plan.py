"""The phases of a training seen as a whole: which networks, which data, and how a checkpoint recognises them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn
from torch.utils.data import Dataset

from gangen.errors import UserError
from gangen.train.phase import Phase, Player
from gangen.train.switcher import Switcher


class Plan:
    """The phases that are to be played, checked.

    Attributes:
        phases: in their order, without those of no steps.
        networks: by player's name; players of one name share one network.
        sources: the data sets in the order of their first use.

    Raises:
        ValueError: no phases, a phase without data, one name for two networks, or weights that two players of a
            phase would both learn.
    """

    def __init__(self, phases: Sequence[Phase], data: Dataset[Any] | None) -> None:
        self.phases, self._data = [phase for phase in phases if phase.steps], data
        if not self.phases:
            raise UserError("there is nothing to train: no phase has a step. Give one some (--steps, --epochs).")
        self.networks: dict[str, nn.Module] = {}
        for player in self.players():
            if self.networks.setdefault(player.name, player.network) is not player.network:
                raise ValueError(f"players named {player.name!r} have different networks")
        for phase in self.phases:
            _check_apart(phase.players)
        self.sources = list({id(source): source for source in map(self.data_of, self.phases)}.values())

    def players(self) -> Iterator[Player]:
        """Each `Player` object once, in the order of its first appearance."""
        return iter(dict.fromkeys(player for phase in self.phases for player in phase.players))

    def switchers(self) -> Iterator[Switcher]:
        """Each switcher once."""
        return iter(dict.fromkeys(phase.switcher for phase in self.phases if phase.switcher))

    def key(self, player: Player) -> str:
        """A player's place in the plan: what its optimizer is saved under."""
        return f"{list(self.players()).index(player)}-{player.name}"

    def data_of(self, phase: Phase) -> Dataset[Any]:
        """The phase's own data, or else the trainer's."""
        data = phase.data if phase.data is not None else self._data
        if data is None:
            raise ValueError(f"phase {phase.name!r} has no data, and neither has the trainer")
        return data

    def source_of(self, phase: Phase) -> int:
        """Which of `sources` feeds the phase."""
        data = self.data_of(phase)
        return next(i for i, source in enumerate(self.sources) if source is data)

    def summary(self) -> list[dict[str, Any]]:
        """The phases in plain words, by which a checkpoint is recognised."""
        return [
            {"name": p.name, "players": [player.name for player in p.players], "steps": p.steps}
            for p in self.phases
        ]


def _check_apart(players: Sequence[Player]) -> None:
    """Refuse players that share weights to be learned: while one of them rests, the other could not learn them."""
    learners: dict[int, str] = {}
    for player in players:
        held = {id(weight) for part in player.frozen for weight in part.parameters()}
        for weight in player.network.parameters():
            if weight.requires_grad and id(weight) not in held:
                other = learners.setdefault(id(weight), player.name)
                if other != player.name:
                    raise ValueError(
                        f"the networks of {other!r} and {player.name!r} share weights that both would learn. Make "
                        "one network with one player of them, or freeze what they share for one of the two."
                    )
