"""A generator and a critic that learn by gangen's trainer, as several benchmarks time them."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from typing import Any

from ready import Ready
from timing import now
from torch import Tensor

from gangen.data import Batch
from gangen.losses import bce, critic_terms, l1
from gangen.nets import Body, ImageHead, PatchCritic, UNet
from gangen.train import Callback, Phase, Player, Switcher, Together, Trainer, launch

Loss = Callable[[Any, Batch], dict[str, Tensor]]


class Clock(Callback):
    """How long the steps of a phase took, without its beginning and end."""

    def __init__(self) -> None:
        self.begun = self.took = 0.0

    def on_phase_start(self, trainer: Trainer) -> None:
        """Start."""
        self.begun = now()

    def on_step_end(self, trainer: Trainer) -> None:
        """Stop, for now."""
        self.took = now() - self.begun


def painter(body: str) -> UNet:
    """The generator of the sketch recipe, on a body of random weights."""
    return UNet(Body(body), ImageHead(3, headroom=0.35), norm="skips", bottleneck=True)


def small_critic() -> PatchCritic:
    """The critic of the sketch recipe, but that it sees the picture alone, as fastai's does."""
    return PatchCritic(3, width=32, layers=2, shrink=4, norm="instance", spectral=False)


def losses(*, conditional: bool = False, pixel: float = 1.0, opinion: float = 0.02) -> tuple[Loss, Loss]:
    """The generator's, and the critic's: an L1 distance, and binary cross-entropy on the critic's logits.

    Args:
        conditional: whether the critic sees the input too.
        pixel: weight of the L1 distance.
        opinion: weight of the critic's opinion, in the generator's loss.
    """

    def persuade(nets: Any, batch: Batch) -> dict[str, Tensor]:
        fake = nets.generator(batch.input)
        verdict = nets.critic(fake, batch.input) if conditional else nets.critic(fake)
        return {"pixel": pixel * l1(fake, batch.target), "adversarial": opinion * bce().generator(verdict)}

    def judge(nets: Any, batch: Batch) -> dict[str, Tensor]:
        condition = batch.input if conditional else None
        return critic_terms(nets.critic, batch.target, nets.generator(batch.input), bce(), condition=condition)

    return persuade, judge


def playing(
    players: Sequence[Player],
    *,
    size: int,
    batch_size: int,
    steps: int,
    switcher: Switcher | None = None,
    compile: str | None = None,
) -> Callable[[], float]:
    """What lets a trainer's players learn for some steps, and gives the seconds of those steps.

    Args:
        players: the critic and the generator.
        size: side of the pictures, in pixels.
        batch_size: pictures a batch.
        steps: of the trainer.
        switcher: whose turn it is; by default both learn from each batch.
        compile: a backend of torch.compile.
    """
    data, clock, accelerator = Ready(64, size), Clock(), launch()
    phase = Phase("play", players, steps, switcher=switcher or Together())

    def work() -> float:
        with contextlib.redirect_stderr(io.StringIO()):
            trainer = Trainer(
                None, data, batch_size=batch_size, callbacks=[clock], accelerator=accelerator, compile=compile
            )
            trainer.fit([phase])
        return clock.took

    return work
