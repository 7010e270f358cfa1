"""Compiling changes nothing but speed, and each form of a network is compiled once."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gangen.train import Alternate, Callback, Phase, Player, Trainer
from tests.train.toys import differences, imitate, judge, persuade, toy_critic, toy_trainer


class Compiler:
    """A backend that compiles nothing, and keeps what it was given."""

    def __init__(self) -> None:
        self.graphs: list[str] = []

    def __call__(self, graph: Any, inputs: Any) -> Any:
        self.graphs.append(type(graph).__name__)
        return graph.forward


class Counts(Callback):
    """How much was compiled by the end of each step."""

    def __init__(self, compiler: Compiler) -> None:
        self.compiler, self.counts = compiler, []

    def on_step_end(self, trainer: Trainer) -> None:
        self.counts.append(len(self.compiler.graphs))


def phases(drop: float = 0.1) -> list[Phase]:
    """A generator with its first layers held; alone; and against a critic."""
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
    generator = nn.Sequential(body, nn.Dropout(drop), nn.Conv2d(6, 3, 3, padding=1), nn.Tanh())
    critic = toy_critic()
    beginner = Player("generator", generator, imitate, frozen=[body], ema=0.9)
    alone = Player("generator", generator, imitate, ema=0.9)
    expert, artist = Player("critic", critic, judge), Player("generator", generator, persuade, ema=0.9)
    return [
        Phase("held", [beginner], 4),
        Phase("alone", [alone], 4),
        Phase("play", [expert, artist], 24, switcher=Alternate(critic=2, generator=1)),
    ]


@pytest.fixture(autouse=True)
def forgotten() -> None:
    torch._dynamo.reset()


@pytest.mark.slow
def test_turns_phases_and_frozen_parts_are_compiled_once_each(tmp_path: Path) -> None:
    compiler = Compiler()
    counts = Counts(compiler)
    toy_trainer(tmp_path, counts, compile=compiler).fit(phases())
    held, alone, play = counts.counts[:4], counts.counts[4:8], counts.counts[8:]
    assert 1 <= held[0] == held[-1] < alone[0] == alone[-1] < play[0]
    # The first turn of each player, and the critic with and without its penalty, which comes every third step.
    assert play[8] == play[-1]
    assert play[-1] <= 12


def test_it_is_the_same_training_with_the_same_checkpoints(tmp_path: Path) -> None:
    ends = []
    for name, backend in (("plain", None), ("compiled", Compiler())):
        trainer = toy_trainer(tmp_path / name, Callback(), compile=backend)
        trainer.fit(phases())
        newest = sorted((tmp_path / name / "checkpoints").glob("step-*.pt"))[-1]
        state = torch.load(newest, weights_only=True)
        del state["timing"], state["callbacks"]
        ends.append(state)
    assert differences(*ends) == []


@pytest.mark.slow
def test_a_penalty_is_taken_from_the_network_as_it_is() -> None:
    """What is compiled, as this backend does it too, has no derivative of second order."""
    trainer = toy_trainer(None, Callback(), compile="aot_eager")
    trainer.fit(phases())
    assert trainer.total == 32


@pytest.mark.slow
def test_a_compiled_training_that_was_cut_goes_on(tmp_path: Path) -> None:
    class Cut(Callback):
        def on_step_end(self, trainer: Trainer) -> None:
            if trainer.total == 17:
                raise ConnectionError("the plug was pulled")

    networks = []
    for cut in (False, True):
        run = tmp_path / str(cut)
        if cut:
            with pytest.raises(ConnectionError):
                toy_trainer(run, Cut(), compile=Compiler()).fit(phases())
        played = phases()
        toy_trainer(run, Callback(), compile=Compiler()).fit(played, resume=True)
        networks.append({p.name: p.network.state_dict() for phase in played for p in phase.players})
    assert differences(*networks) == []


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles with g++ for the CPU")
def test_compiled_for_the_cpu_it_learns_the_same_but_for_rounding() -> None:
    losses: dict[Any, list[float]] = {None: [], "inductor": []}

    class Seen(Callback):
        def on_log(self, trainer: Trainer, record: dict[str, Any]) -> None:
            losses[trainer.compile] += [v for k, v in record.items() if k.endswith("/loss")]

    for backend in losses:
        # Dropout would draw other numbers where it is compiled.
        played = [Phase(p.name, p.players, 4, switcher=p.switcher) for p in phases(drop=0.0)]
        toy_trainer(None, Seen(), compile=backend, log_every=1).fit(played)
    assert len(losses[None]) == len(losses["inductor"]) == 12
    assert losses["inductor"] == pytest.approx(losses[None], rel=1e-3)
