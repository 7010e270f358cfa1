"""Watches a game for what goes wrong in games, and says so in one sentence with a remedy."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from gangen.seeding import seeded
from gangen.train.callback import Callback
from gangen.train.feed import first_samples, to_device
from gangen.train.phase import Player
from gangen.train.seats import Seat
from gangen.train.symptoms import SYMPTOMS, measure, separation

if TYPE_CHECKING:
    from gangen.train.trainer import Trainer

_CHANCE = 0x6EA17
"""Of what a loss draws while it is probed, beside the training's seed."""

UNWATCHED = "unwatched"
"""Stands among the diagnoses of a game whose losses cannot be probed."""

_NOTED = 10
"""Steps before a probe in which gradients are looked at."""


class Health(Callback):
    """Probes the players of each game now and then, and tells of what it sees.

    A probe shows the same few samples to both players in eval mode, in which nothing moves and nothing is drawn
    from the training's random generators, so a training is the same with it and without. It goes to log.jsonl as
    "health", and what all of the last few had as "diagnosis": once a phase, also on the console and in the report.
    See `gangen.train.symptoms`.

    Only games are probed: phases of two players, one of them the critic, with a switcher.

    Args:
        every: steps between probes.
        patience: probes in a row that must show a symptom.
        pictures: samples that are shown.
        critic: name of that player.
        term: the generator's term that is the critic's opinion.

    Attributes:
        latest: the newest numbers.
        diagnoses: names of the symptoms that were told of in this phase.
    """

    def __init__(
        self,
        *,
        every: int = 50,
        patience: int = 3,
        pictures: int = 8,
        critic: str = "critic",
        term: str = "adversarial",
    ) -> None:
        if every < 1 or patience < 1 or pictures < 2:
            raise ValueError("every and patience are 1 or more, pictures 2 or more")
        self.every, self.patience, self.pictures = every, patience, pictures
        self.critic, self.term = critic, term
        self.latest: dict[str, float] = {}
        self.diagnoses: list[str] = []
        self._first: dict[str, float] = {}
        self._rows: dict[str, int] = {}
        self._norms: dict[str, Tensor | float] = {}
        self._batch: Any = None

    def on_phase_start(self, trainer: Trainer) -> None:
        """Nothing is known of a new phase."""
        self.latest, self.diagnoses, self._first, self._rows, self._norms = {}, [], {}, {}, {}
        self._batch = None

    def on_before_update(self, trainer: Trainer, player: Player) -> None:
        """Note the gradient's norm, in the last steps before a probe: whose turn it is then is no matter."""
        if self._watches(trainer) and trainer.step % self.every >= self.every - _NOTED:
            gradients = [p.grad for p in trainer.seats[player.name].parameters if p.grad is not None]
            if gradients:
                self._norms[f"{player.name}_gradient"] = torch.stack(torch._foreach_norm(gradients)).norm()

    def on_step_end(self, trainer: Trainer) -> None:
        """Probe when it is due."""
        if self._watches(trainer) and trainer.step % self.every == 0:
            self.probe(trainer)

    def probe(self, trainer: Trainer) -> None:
        """Look now: log the numbers, and what they mean when they have meant it for a while."""
        # Every process has the same networks, is shown the same samples and sees the same.
        try:
            seen = self._look(trainer)
        except Exception as error:  # a loss may do what a probe does not know of, and a watch ends no training
            told = (str(error).splitlines() or [""])[0]
            text = f"this game is not watched, since its losses cannot be probed ({type(error).__name__}: {told})"
            self._tell(trainer, UNWATCHED, text)
            return
        self.latest = {**seen, **{name: float(norm) for name, norm in self._norms.items()}}
        self._first = {**self.latest, **self._first}
        trainer.log("health", **self.latest)
        for symptom in SYMPTOMS:
            shows = symptom.shows(self.latest, self._first)
            self._rows[symptom.name] = self._rows.get(symptom.name, 0) + 1 if shows else 0
            if self._rows[symptom.name] >= self.patience and symptom.name not in self.diagnoses:
                self._tell(trainer, symptom.name, symptom.says(self.latest, self._first))

    def _tell(self, trainer: Trainer, name: str, text: str) -> None:
        self.diagnoses.append(name)
        trainer.log("diagnosis", name=name, text=text)
        if trainer.accelerator.is_main_process:
            sys.stderr.write(f"\nstep {trainer.total} of {trainer.phase.name!r}: {text}.\n")

    def state_dict(self) -> dict[str, Any]:
        """What was seen in this phase."""
        kept = {"latest": dict(self.latest), "first": dict(self._first), "rows": dict(self._rows)}
        norms = {name: float(norm) for name, norm in self._norms.items()}
        return {**kept, "norms": norms, "diagnoses": list(self.diagnoses)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take it back."""
        self.latest, self._first, self._rows = dict(state["latest"]), dict(state["first"]), dict(state["rows"])
        self._norms, self.diagnoses = dict(state["norms"]), list(state["diagnoses"])

    def _watches(self, trainer: Trainer) -> bool:
        game = trainer.switcher is not None and len(trainer.seats) == 2 and self.critic in trainer.seats
        return game and UNWATCHED not in self.diagnoses

    def _look(self, trainer: Trainer) -> dict[str, float]:
        critic = trainer.seats[self.critic]
        (generator,) = (seat for seat in trainer.seats.values() if seat is not critic)
        for seat in trainer.seats.values():
            seat.rest()  # until its next step
        if self._batch is None:
            # No more than fit into memory while it learns
            count = min(self.pictures, max(2, trainer.phase.batch_size or trainer.batch_size))
            self._batch = _first_of(trainer.plan.data_of(trainer.phase), count, trainer)
        device, name = trainer.accelerator.device, generator.player.name
        chance = torch.random.fork_rng([device] if device.type == "cuda" else [])
        with chance, seeded(trainer.seed, _CHANCE):  # in single precision: slopes at pictures are small
            heard = self._hear(generator, Probe(trainer.seats, name), self._batch)
            return {**heard, **self._tell_apart(critic, Probe(trainer.seats, name), self._batch)}

    def _hear(self, generator: Seat, probe: Probe, batch: Any) -> dict[str, float]:
        """How much of what the generator is told comes from the critic."""
        terms = generator.player.loss(probe, batch)  # type: ignore[arg-type]
        found = {"terms": float(len(terms))}
        if self.term in terms and probe.made:
            rest = [value for name, value in terms.items() if name != self.term]
            critics = _slope(terms[self.term], probe.made)
            others = _slope(torch.stack([value.reshape(()) for value in rest]).sum(), probe.made) if rest else 0.0
            if critics + others > 0:
                found["adversarial_share"] = critics / (critics + others)
        return found

    def _tell_apart(self, critic: Seat, probe: Probe, batch: Any) -> dict[str, float]:
        """What the critic is shown and makes of it. Real pictures come first, as `gangen.losses.judge` has it."""
        terms = critic.player.loss(probe, batch)  # type: ignore[arg-type]
        if len(probe.judged) == 1:
            pictures, logits = probe.judged[0]
            size = len(batch.target)
            real, fake = (pictures[:size], logits[:size]), (pictures[size : 2 * size], logits[size : 2 * size])
        elif len(probe.judged) > 1:
            real, fake = probe.judged[:2]
        else:
            return {}
        if not len(fake[0]):
            return {}
        found = separation(real[1].detach(), fake[1].detach())
        if self.term in terms:
            found["critic_loss"] = float(terms[self.term])
        of_pictures = batch.target.ndim == 4 and batch.target.is_floating_point()  # not of three classes
        in_colour = of_pictures and real[0].ndim == 4 and real[0].shape[1] == 3
        if in_colour and fake[0].shape == real[0].shape:
            found |= measure(fake[0].detach().float(), real[0].detach().float(), batch.input.float())
            if batch.input.ndim != 4:
                del found["colour_drift"]  # so few pictures that are not each other's differ by chance
        return found


class Probe:
    """What a loss sees in place of `Nets`: networks at rest, and what goes through them is kept.

    Attributes:
        made: what the generator made, leaves that take gradients.
        judged: pictures and logits of each call of another network.
        step: 1, for terms that are not due always.
    """

    def __init__(self, seats: dict[str, Seat], generator: str) -> None:
        self._seats, self._generator = seats, generator
        self.made: list[Tensor] = []
        self.judged: list[tuple[Tensor, Tensor]] = []
        self.step = 1

    def __getattr__(self, name: str) -> Any:
        if name not in self._seats:
            raise AttributeError(name)
        return _Watched(self, name)

    def call(self, name: str, *inputs: Any, **named: Any) -> Any:
        """Run the network of a player."""
        network = self._seats[name].network
        if name != self._generator:
            output = network(*inputs, **named)
            self.judged.append((inputs[0], output))
            return output
        with torch.no_grad():
            output = network(*inputs, **named)
        if isinstance(output, Tensor):
            self.made.append(output.detach().requires_grad_())
            return self.made[-1].clone()  # which a loss may change in place, as it may what a network at rest made
        return output


class _Watched:
    """One network in a probe. Attributes are those of the bare network."""

    def __init__(self, probe: Probe, name: str) -> None:
        self._probe, self._name = probe, name

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        return self._probe.call(self._name, *inputs, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._probe._seats[self._name].network, name)


def _first_of(data: Dataset[Any], count: int, trainer: Trainer) -> Any:
    """A batch of the first samples, as of the first pass over the data."""
    return to_device(first_samples(data, count, trainer.seed), trainer.accelerator.device)


def _slope(value: Tensor, at: list[Tensor]) -> float:
    """Norm of the gradient of `value` at the generated pictures."""
    if not value.requires_grad:
        return 0.0
    slopes = torch.autograd.grad(value, at, retain_graph=True, allow_unused=True)
    known = [slope.float().norm() for slope in slopes if slope is not None]
    return float(torch.stack(known).norm()) if known else 0.0
