"""A run that was cut anywhere goes on to the very same bits."""

import json
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gangen.errors import RunError
from gangen.train import Adaptive, Alternate, Callback, Interrupted, Phase, Player, Together
from tests.forked import forked
from tests.train.toys import Cut, Game, Toys, differences, imitate, toy_trainer

STEPS = (8, 6, 12)


def final_state(run: Path) -> dict[str, Any]:
    """The last checkpoint without its clock, with the log as text."""
    newest = sorted((run / "checkpoints").glob("step-*.pt"))[-1]
    state = torch.load(newest, weights_only=True)
    del state["timing"], state["callbacks"]
    return {**state, "lines": (run / "log.jsonl").read_text()}


@pytest.mark.parametrize(
    ("switcher", "workers"),
    [
        (Adaptive(critic=1.9, max_turn=3), 0),
        (Alternate(critic=2, generator=1), 0),
        pytest.param(Alternate(critic=2, generator=1), 2, marks=pytest.mark.slow),
        (Together(), 0),
    ],
)
def test_resuming_after_a_cut_in_any_phase_changes_nothing(tmp_path: Path, switcher: Any, workers: int) -> None:
    toy_trainer(tmp_path / "whole", Callback(), workers=workers).fit(Game(switcher, steps=STEPS).phases)
    chance = random.Random(workers)
    cuts = [chance.randrange(0, 8), chance.randrange(8, 14), chance.randrange(14, 26), 13]
    for at in sorted(cuts):
        with pytest.raises(ConnectionError):
            toy_trainer(tmp_path / "cut", Cut(at), workers=workers).fit(
                Game(switcher, steps=STEPS).phases, resume=True
            )
    trainer = toy_trainer(tmp_path / "cut", Callback(), workers=workers)
    trainer.fit(Game(switcher, steps=STEPS).phases, resume=True)
    assert differences(final_state(tmp_path / "whole"), final_state(tmp_path / "cut")) == []


@pytest.mark.parametrize("at", [21, *(pytest.param(at, marks=pytest.mark.slow) for at in (17, 24))])
def test_a_run_cut_in_the_middle_of_a_turn_goes_on_with_it(tmp_path: Path, at: int) -> None:
    """Three steps of the critic, two of the generator, a checkpoint at every step: most lie within a turn."""

    def game() -> list[Phase]:
        return Game(Alternate(critic=3, generator=2), steps=STEPS).phases

    toy_trainer(tmp_path / "whole", Callback(), save_every=1).fit(game())
    with pytest.raises(ConnectionError):
        toy_trainer(tmp_path / "cut", Cut(at), save_every=1).fit(game())
    toy_trainer(tmp_path / "cut", Callback(), save_every=1).fit(game(), resume=True)
    assert differences(final_state(tmp_path / "whole"), final_state(tmp_path / "cut")) == []


def test_an_optimizer_waits_for_its_player_through_interruptions(tmp_path: Path) -> None:
    """The generator plays, rests through a phase that is cut twice, and plays again with the moments it had."""

    def phases() -> list[Phase]:
        game = Game()
        alone = [game.artist, game.expert]
        return [Phase("play", alone, 4), Phase("judge", [lone_critic(game)], 6), Phase("again", alone, 4)]

    def lone_critic(game: Game) -> Player:
        return Player(
            "critic", game.critic, lambda nets, batch: {"level": nets.critic(batch.target).mean()}, lr=1e-3
        )

    toy_trainer(tmp_path / "whole", Callback(), save_every=2).fit(phases())
    for at in (7, 9):
        with pytest.raises(ConnectionError):
            toy_trainer(tmp_path / "cut", Cut(at), save_every=2).fit(phases(), resume=True)
    toy_trainer(tmp_path / "cut", Callback(), save_every=2).fit(phases(), resume=True)
    assert differences(final_state(tmp_path / "whole"), final_state(tmp_path / "cut")) == []


def test_what_a_callback_keeps_survives(tmp_path: Path) -> None:
    class Count(Callback):
        def __init__(self, cut_at: int = -1) -> None:
            self.steps, self.cut_at = 0, cut_at

        def on_step_end(self, trainer: Any) -> None:
            self.steps += 1
            if trainer.total == self.cut_at:
                raise ConnectionError

        def state_dict(self) -> dict[str, Any]:
            return {"steps": self.steps}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            self.steps = state["steps"]

    with pytest.raises(ConnectionError):
        toy_trainer(tmp_path, Count(cut_at=11)).fit(Game(steps=STEPS).phases)
    count = Count()
    toy_trainer(tmp_path, count).fit(Game(steps=STEPS).phases, resume=True)
    assert count.steps == sum(STEPS)


def test_resuming_with_accumulation_changes_nothing(tmp_path: Path) -> None:
    def game() -> list[Phase]:
        return Game(Alternate(critic=1, generator=2), steps=STEPS, accumulate=2).phases

    toy_trainer(tmp_path / "whole", Callback()).fit(game())
    with pytest.raises(ConnectionError):
        toy_trainer(tmp_path / "cut", Cut(19)).fit(game())
    toy_trainer(tmp_path / "cut", Callback()).fit(game(), resume=True)
    assert differences(final_state(tmp_path / "whole"), final_state(tmp_path / "cut")) == []


def test_the_number_of_workers_changes_nothing(tmp_path: Path) -> None:
    for workers in (0, 2):
        toy_trainer(tmp_path / str(workers), workers=workers).fit(Game(steps=STEPS).phases)
    assert differences(final_state(tmp_path / "0"), final_state(tmp_path / "2")) == []


def test_another_seed_changes_the_samples(tmp_path: Path) -> None:
    for seed in (0, 1):
        toy_trainer(tmp_path / str(seed), seed=seed).fit(Game(steps=STEPS).phases)
    assert "networks" in differences(final_state(tmp_path / "0"), final_state(tmp_path / "1"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_saves_and_the_run_goes_on_unchanged(tmp_path: Path, number: signal.Signals) -> None:
    class Ring(Callback):
        def on_step_end(self, trainer: Any) -> None:
            if trainer.total == 10:
                signal.raise_signal(number)

    toy_trainer(tmp_path / "whole", Callback()).fit(Game(steps=STEPS).phases)
    before = signal.getsignal(number)
    with pytest.raises(Interrupted) as stop:
        toy_trainer(tmp_path / "cut", Ring(), save_every=0).fit(Game(steps=STEPS).phases)
    assert stop.value.code == 128 + number
    assert signal.getsignal(number) is before
    assert (tmp_path / "cut" / "checkpoints" / "step-00000010.pt").exists()
    toy_trainer(tmp_path / "cut", Callback()).fit(Game(steps=STEPS).phases, resume=True)
    assert differences(final_state(tmp_path / "whole"), final_state(tmp_path / "cut")) == []


def test_resuming_a_finished_run_trains_no_further(tmp_path: Path) -> None:
    toy_trainer(tmp_path, Callback()).fit(Game(steps=STEPS).phases)
    before = final_state(tmp_path)
    game = Game(steps=STEPS)
    assert toy_trainer(tmp_path, Callback()).fit(game.phases, resume=True) == 0
    assert differences(before, final_state(tmp_path)) == []
    assert game.generator.calls == 0
    assert differences(before["networks"]["generator"], game.generator.state_dict()) == []


def test_only_the_newest_checkpoints_stay(tmp_path: Path) -> None:
    toy_trainer(tmp_path, keep=2, save_every=1).fit(Game(steps=STEPS).phases)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-00000025.pt", "step-00000026.pt"]


def test_other_phases_are_refused(tmp_path: Path) -> None:
    toy_trainer(tmp_path).fit(Game(steps=STEPS).phases)
    with pytest.raises(RunError, match="belongs to the phases"):
        toy_trainer(tmp_path).fit(Game(steps=(8, 6, 13)).phases, resume=True)
    with pytest.raises(RunError, match="belongs to the phases"):
        toy_trainer(tmp_path).fit(Game(steps=STEPS).phases[:2], resume=True, allow_changes=True)
    with pytest.raises(RunError, match="finished"):
        toy_trainer(tmp_path).fit(Game(steps=(8, 6, 13)).phases, resume=True, allow_changes=True)


def test_other_lengths_and_rates_may_be_allowed(tmp_path: Path) -> None:
    with pytest.raises(ConnectionError):
        toy_trainer(tmp_path, Cut(20)).fit(Game(steps=STEPS).phases)
    game = Game(steps=(8, 6, 15))
    game.expert.lr = 3e-4
    played = toy_trainer(tmp_path, Callback()).fit(game.phases, resume=True, allow_changes=True)
    assert played == 29 - 20  # from the checkpoint of the sixth step of the third phase
    last = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()][-2]
    assert last["total"] == 29
    assert last["critic/lr"] == pytest.approx(3e-4)


def shortened(content: bytes) -> bytes:
    return content[:-1000]


def with_a_bit_flipped(content: bytes) -> bytes:
    place = 1000  # within the pickled structure: between the parts there is padding, in which no bit matters
    return content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]


def emptied(content: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("damage", [shortened, with_a_bit_flipped, emptied])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(
    tmp_path: Path, damage: Callable[[bytes], bytes], capfd: pytest.CaptureFixture[str]
) -> None:
    toy_trainer(tmp_path / "whole", Callback()).fit(Game(steps=STEPS).phases)
    with pytest.raises(ConnectionError):
        toy_trainer(tmp_path / "cut", Cut(21)).fit(Game(steps=STEPS).phases)
    before, newest = sorted((tmp_path / "cut" / "checkpoints").glob("step-*.pt"))
    newest.write_bytes(damage(newest.read_bytes()))
    toy_trainer(tmp_path / "cut", Callback()).fit(Game(steps=STEPS).phases, resume=True)
    assert f"{newest} is damaged" in capfd.readouterr().err
    assert before.name < newest.name
    assert newest.with_name(f"{newest.name}.damaged").exists()
    assert differences(final_state(tmp_path / "whole"), final_state(tmp_path / "cut")) == []


def test_when_every_checkpoint_is_damaged_that_is_said(tmp_path: Path) -> None:
    toy_trainer(tmp_path, save_every=1).fit(Game(steps=STEPS).phases)
    for path in (tmp_path / "checkpoints").glob("step-*.pt"):
        path.write_bytes(with_a_bit_flipped(path.read_bytes()))
    with pytest.raises(RunError, match=r"every checkpoint .* is damaged: step-00000026\.pt\.damaged"):
        toy_trainer(tmp_path).fit(Game(steps=STEPS).phases, resume=True)


def test_what_a_killed_writer_left_is_cleared_away(tmp_path: Path) -> None:
    with pytest.raises(ConnectionError):
        toy_trainer(tmp_path, Cut(21)).fit(Game(steps=STEPS).phases)
    half = tmp_path / "checkpoints" / ".step-00000021.pt.4242.tmp"
    half.write_bytes(b"half")
    theirs = tmp_path / ".notes.tmp"
    theirs.write_text("a person's")
    toy_trainer(tmp_path, Callback()).fit(Game(steps=STEPS).phases, resume=True)
    assert not half.exists()
    assert theirs.exists()


def test_a_checkpoint_with_code_in_it_is_not_executed(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "executed",))

    (tmp_path / "checkpoints").mkdir()
    torch.save({"format": 1, "evil": Evil()}, tmp_path / "checkpoints" / "step-00000001.pt")
    with pytest.raises(RunError, match="cannot be read"):
        toy_trainer(tmp_path).fit(Game(steps=STEPS).phases, resume=True)
    assert not (tmp_path / "executed").exists()


def test_the_log_tells_phases_terms_and_the_reason_of_every_turn(tmp_path: Path) -> None:
    toy_trainer(tmp_path).fit(Game(Adaptive(critic=0.0, max_turn=2), steps=STEPS).phases)
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [r["phase"] for r in records if r["event"] == "phase"] == ["imitate", "judge", "play"]
    turns = [r for r in records if r["event"] == "turn"]
    assert [r["to"] for r in turns[:4]] == [["generator"], ["critic"], ["generator"], ["critic"]]
    assert "critic had its 2" in turns[0]["reason"]
    last = [r for r in records if r["event"] == "train"][-1]
    assert last["step"] == 12
    assert last["total"] == 26
    assert {"generator/pixel", "generator/adversarial", "critic/adversarial", "critic/lr"} <= set(last)
    assert last["generator/loss"] == pytest.approx(last["generator/pixel"] + last["generator/adversarial"])
    assert records[-1] == {"event": "end", "total": 26}


KILLED = """
import os, signal, sys
from pathlib import Path
from gangen.train import Adaptive, Callback
from tests.train.toys import Game, toy_trainer

class Kill(Callback):
    def on_before_update(self, trainer, player):
        if trainer.total == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)

trainer = toy_trainer(Path(sys.argv[1]), Kill(), workers=int(sys.argv[3]))
trainer.fit(Game(Adaptive(critic=1.9, max_turn=3), steps=(8, 6, 12)).phases, resume=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_kill_9_in_each_phase(tmp_path: Path, workers: int) -> None:
    script = tmp_path / "train.py"
    script.write_text(KILLED)

    def train(run: Path, kill_at: int) -> int:
        return forked(str(script), str(run), str(kill_at), str(workers)).returncode

    chance = random.Random()
    kills = [chance.randrange(0, 8), chance.randrange(8, 14), chance.randrange(14, 26)]
    assert train(tmp_path / "whole", -1) == 0
    for at in kills:
        assert train(tmp_path / "cut", at) == -signal.SIGKILL
    assert train(tmp_path / "cut", -1) == 0
    found = differences(final_state(tmp_path / "whole"), final_state(tmp_path / "cut"))
    assert found == [], f"killed at steps {kills}"


def test_an_average_that_is_asked_for_later_begins_with_the_weights_at_hand(tmp_path: Path) -> None:
    game = Game(Alternate(critic=1, generator=1), steps=STEPS)
    for phase in game.phases:
        for player in phase.players:
            player.ema = 0.0
    with pytest.raises(ConnectionError):
        toy_trainer(tmp_path, Cut(20)).fit(game.phases)
    later = Game(Alternate(critic=1, generator=1), steps=STEPS)
    trainer = toy_trainer(tmp_path, Callback())
    trainer.fit(later.phases, resume=True, allow_changes=True)
    assert trainer.averages["generator"].updates == 3  # of the generator's turns since the checkpoint


def test_another_choice_of_what_learns_is_refused_by_the_players_name(tmp_path: Path) -> None:
    with pytest.raises(ConnectionError):
        toy_trainer(tmp_path, Cut(5)).fit(Game(steps=STEPS).phases)
    game = Game(steps=STEPS)
    game.phases[0].players[0].frozen = [game.generator.body]
    with pytest.raises(RunError, match=r"optimizer of 'generator' is of other weights: .*is frozen"):
        toy_trainer(tmp_path, Callback()).fit(game.phases, resume=True, allow_changes=True)


def test_a_checkpoint_of_another_network_says_so_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConnectionError):
        toy_trainer(tmp_path, Cut(5)).fit(Game(steps=STEPS).phases)
    game = Game(steps=STEPS)
    game.generator.last = torch.nn.Conv2d(6, 3, 1)
    with pytest.raises(RunError, match=r"is another network \(.*gangen that made it, or start") as told:
        toy_trainer(tmp_path, Callback()).fit(game.phases, resume=True)
    assert "\n" not in str(told.value)


class Counting(Alternate):
    """Counts the steps of all phases that it is the switcher of."""

    def __init__(self) -> None:
        super().__init__(critic=1, generator=1)
        self.count, self.heard = 0, []  # type: ignore[var-annotated]

    def on_fit_start(self, trainer: Any) -> None:
        self.heard.append("start")

    def on_fit_end(self, trainer: Any) -> None:
        self.heard.append("end")

    def on_step_end(self, trainer: Any) -> None:
        self.count += 1
        super().on_step_end(trainer)

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count = state["count"]


def test_what_a_switcher_of_two_phases_keeps_survives_a_cut_between_them(tmp_path: Path) -> None:
    def phases(switcher: Counting) -> list[Phase]:
        game = Game(switcher)
        return [Phase(name, [game.expert, game.artist], 4, switcher=switcher) for name in ("first", "second")]

    with pytest.raises(ConnectionError):
        toy_trainer(tmp_path, Cut(5), save_every=0).fit(phases(Counting()))
    switcher = Counting()
    toy_trainer(tmp_path, Callback(), save_every=0).fit(phases(switcher), resume=True)
    assert (switcher.count, switcher.heard) == (8, ["start", "end"])


def test_numbers_of_numpy_survive(tmp_path: Path) -> None:
    """A rate out of `np.logspace` is a float to all but the checkpoint."""

    class Noting(Callback):
        noted: Any = np.float64(2.5)

        def state_dict(self) -> dict[str, Any]:
            return {"noted": [self.noted]}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            (self.noted,) = state["noted"]

    def phases() -> list[Phase]:
        game = Game()
        alone = Player("generator", game.generator, imitate, lr=np.logspace(-3, -2, 3)[1])
        return [Phase("alone", [alone], 6)]

    with pytest.raises(ConnectionError):
        toy_trainer(tmp_path, Noting(), Cut(4)).fit(phases())
    noting = Noting()
    noting.noted = None
    assert toy_trainer(tmp_path, noting, Callback()).fit(phases(), resume=True) == 3
    assert noting.noted == 2.5


def test_what_cannot_be_read_back_is_named(tmp_path: Path) -> None:
    class Foreign(Callback):
        def state_dict(self) -> dict[str, Any]:
            return {"path": Path("somewhere")}

    toy_trainer(tmp_path, Foreign()).fit(Game(steps=(2, 0, 0)).phases)
    with pytest.raises(RunError, match=r"step-00000002\.pt cannot be read \(UnpicklingError: .*pathlib"):
        toy_trainer(tmp_path, Foreign()).fit(Game(steps=(2, 0, 0)).phases, resume=True)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"seed": 5}, "the seed was 0 and is 5"),
        ({"batch_size": 2}, r"the batch size of each phase was \[4\] and is \[2\]"),
        ({"data": Toys(7)}, r"samples of each data set was \[10\] and is \[7\]"),
    ],
    ids=["seed", "batch size", "data"],
)
def test_a_place_among_other_samples_is_refused_unless_that_is_allowed(
    tmp_path: Path, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConnectionError):
        toy_trainer(tmp_path, Cut(4)).fit(Game(steps=(6, 0, 0)).phases)

    def other() -> Any:
        trainer = toy_trainer(tmp_path, Callback())
        for name, value in options.items():
            setattr(trainer, name, value)
        return trainer

    with pytest.raises(RunError, match=rf"of other samples.*{told}"):
        other().fit(Game(steps=(6, 0, 0)).phases, resume=True)
    assert other().fit(Game(steps=(6, 0, 0)).phases, resume=True, allow_changes=True) == 3
