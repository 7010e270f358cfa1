"""Players and phases: what a training consists of, as plain data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from gangen.nets import Norms
from gangen.train.optim import OptimizerFactory, Rate, adam
from gangen.train.schedule import Schedule, constant

if TYPE_CHECKING:
    from torch.utils.data import Dataset

    from gangen.train.seats import Nets
    from gangen.train.switcher import Switcher

Loss = Callable[["Nets", Any], dict[str, Tensor]]
"""`loss(nets, batch) -> terms`: named scalars whose sum the player minimises.

`nets.NAME` is the network of the player of that name. Called from its own player's loss it learns; called from
another's it only answers, and nothing flows into its weights.
"""


@dataclass(eq=False)
class Player:
    """A network that learns, with its loss, its optimizer and its schedule.

    Attributes:
        name: under which losses and logs know it. Phases may hold several players of one name (other losses,
            other rates), but always with the same network.
        network: what learns.
        loss: `loss(nets, batch) -> {"term": scalar, ...}`; the sum is minimised.
        lr: peak learning rate; or two, of the first layer group and of the last, between which the others' are
            spread in equal ratios (see `gangen.nets.layer_groups`).
        optimizer: makes its optimizer. The same `Player` object in several phases keeps its optimizer's state.
        schedule: factor on `lr` over the phase.
        clip: largest norm of the gradient, or None.
        frozen: parts of the network that hold still while this player plays, statistics included.
        norms: what normalisation layers within these parts do; see `gangen.nets.Norms`.
        hold_statistics: use BatchNorm's running statistics instead of the batch's while it learns, so that
            what it learns from looks like what it will make afterwards. For adversarial phases.
        ema: decay of the moving average of its weights; 0 for none.
        accumulate: batches whose gradients are averaged into one step.
    """

    name: str
    network: nn.Module
    loss: Loss
    _: KW_ONLY
    lr: Rate = 2e-4
    optimizer: OptimizerFactory = adam()
    schedule: Schedule = constant()
    clip: float | None = None
    frozen: Sequence[nn.Module] = ()
    norms: Norms = "hold"
    hold_statistics: bool = False
    ema: float = 0.0
    accumulate: int = 1

    def __post_init__(self) -> None:
        if not self.name.isidentifier() or self.name == "step":
            raise ValueError(f"a player's name is used as nets.NAME, so {self.name!r} will not do")
        if not 0.0 <= self.ema < 1.0:
            raise ValueError(f"{self.name}: ema is a decay, at least 0 and below 1, not {self.ema}")
        if self.accumulate < 1:
            raise ValueError(f"{self.name}: accumulate counts batches, so it is at least 1")


@dataclass(eq=False)
class Phase:
    """One stretch of training.

    Attributes:
        name: as it appears in logs, the report and the progress bar.
        players: those at the table. Without a switcher the first one learns in every step; the others answer.
        steps: how many steps it lasts. In a step, whoever has the turn moves once.
        switcher: passes the turn.
        data: data set of this phase, if it is not the trainer's.
        batch_size: samples a batch and process, if it is not the trainer's.
    """

    name: str
    players: Sequence[Player]
    steps: int
    _: KW_ONLY
    switcher: Switcher | None = None
    data: Dataset[Any] | None = None
    batch_size: int | None = None

    def __post_init__(self) -> None:
        names = [player.name for player in self.players]
        if not names:
            raise ValueError(f"phase {self.name!r} has no players")
        if len(set(names)) < len(names):
            raise ValueError(f"phase {self.name!r} has two players of one name: {names}")
        if self.steps < 0:
            raise ValueError(f"phase {self.name!r}: steps cannot be negative")
