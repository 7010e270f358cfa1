"""A loss that is not finite moves nobody; many of them in a row lead back to the last good checkpoint."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from gangen.data import Batch
from gangen.errors import RunError
from gangen.metrics import L1
from gangen.train import Callback, NonFinite, Phase, Player, Trainer, Validation
from tests.train.toys import ToyGenerator, Toys, bits, differences, imitate, toy_trainer

NAN = float("nan")


class Sick:
    """A generator whose loss is not finite wherever `when(trainer)` says so."""

    def __init__(self, when: Callable[[Trainer], bool], value: float = NAN, steps: int = 12) -> None:
        torch.manual_seed(0)
        self.network, self.when, self.value, self.steps = ToyGenerator(), when, value, steps
        self.trainer: Trainer

    def fit(self, run: Path | None, *callbacks: Callback, resume: bool = False, **options: Any) -> Trainer:
        self.trainer = toy_trainer(run, *callbacks, log_every=1, **options)
        player = Player("generator", self.network, self.loss, lr=1e-2, ema=0.9, clip=1.0)
        self.trainer.fit([Phase("imitate", [player], self.steps)], resume=resume)
        return self.trainer

    def loss(self, nets: Any, batch: Batch) -> dict[str, Tensor]:
        pixel = imitate(nets, batch)["pixel"]
        return {"pixel": pixel * self.value if self.when(self.trainer) else pixel}


class States(Callback):
    """The network after each step."""

    def __init__(self, network: nn.Module) -> None:
        self.network, self.seen = network, [bits(network)]

    def on_step_end(self, trainer: Trainer) -> None:
        self.seen.append(bits(self.network))


def events(run: Path, kind: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == kind]


@pytest.mark.parametrize("value", [NAN, float("inf")])
def test_a_step_that_is_not_finite_is_left_out_named_and_counted(tmp_path: Path, value: float) -> None:
    sick = Sick(lambda trainer: trainer.total in (4, 5, 9), value)
    states = States(sick.network)
    trainer = sick.fit(tmp_path, states)
    still = [step for step in range(12) if differences(states.seen[step], states.seen[step + 1]) == []]
    assert still == [4, 5, 9], "weights and running statistics move in all other steps"
    skipped = events(tmp_path, "skipped")
    assert [line["total"] for line in skipped] == [4, 5, 9]
    assert "generator/pixel" in skipped[0]["not_finite"]
    assert skipped[-1]["skipped"] == trainer.guard.skipped == 3
    assert all(
        line["generator/pixel"] is not None for line in events(tmp_path, "train") if "generator/pixel" in line
    )


def test_many_in_a_row_lead_back_to_a_checkpoint_and_lower_rates(tmp_path: Path) -> None:
    sick = Sick(lambda trainer: trainer.total >= 7 and trainer.guard.rate == 1.0)
    trainer = sick.fit(tmp_path, non_finite=NonFinite(skips=2, slower=0.25), save_every=3)
    assert trainer.total == 12
    (back,) = events(tmp_path, "rollback")
    assert back["total"] == 6
    assert back["rate"] == 0.25
    assert "generator/pixel" in back["reason"]
    rates = {line["total"]: line["generator/lr"] for line in events(tmp_path, "train")}
    assert rates == pytest.approx({step: 1e-2 if step <= 6 else 2.5e-3 for step in range(1, 13)})


def test_a_cut_after_going_back_changes_nothing(tmp_path: Path) -> None:
    class Cut(Callback):
        def on_before_update(self, trainer: Trainer, player: Player) -> None:
            if trainer.total == 10:
                raise ConnectionError("the plug was pulled")

    def sick() -> Sick:
        return Sick(lambda trainer: trainer.total == 2 or (trainer.total >= 7 and trainer.guard.rate == 1.0))

    options: dict[str, Any] = {"non_finite": NonFinite(skips=1), "save_every": 3}
    whole, cut, resumed = sick(), sick(), sick()
    whole.fit(tmp_path / "whole", Callback(), **options)
    with pytest.raises(ConnectionError):
        cut.fit(tmp_path / "cut", Cut(), **options)
    trainer = resumed.fit(tmp_path / "cut", Callback(), resume=True, **options)
    assert differences(bits(whole.network), bits(resumed.network)) == []
    assert (tmp_path / "whole/log.jsonl").read_text() == (tmp_path / "cut/log.jsonl").read_text()
    assert (trainer.guard.rollbacks, trainer.guard.rate) == (1, 0.5)


def test_it_ends_with_what_it_knows_when_going_back_does_not_help(tmp_path: Path) -> None:
    sick = Sick(lambda trainer: trainer.total >= 7)
    told = r"generator/pixel.* is no longer finite: 3 step\(s\).*of 'imitate', and it had gone back 2 time"
    with pytest.raises(RunError, match=told):
        sick.fit(tmp_path, non_finite=NonFinite(skips=2, rollbacks=2), save_every=3)
    assert sick.trainer.total < 12
    assert all(bool(value.isfinite().all()) for value in sick.network.state_dict().values())


def test_without_a_checkpoint_there_is_nothing_to_go_back_to(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no longer finite"):
        Sick(lambda trainer: True).fit(tmp_path, non_finite=NonFinite(skips=2))
    with pytest.raises(RunError, match="no longer finite"):
        Sick(lambda trainer: True, steps=5).fit(None)  # too few to be many, but the player has never learned


def test_a_checkpoint_from_which_nothing_good_comes_is_passed_over(tmp_path: Path) -> None:
    """Weights that are broken already, with finite losses up to then, are saved at step 6."""

    class Break(Callback):
        done = False

        def on_step_end(self, trainer: Trainer) -> None:
            if trainer.total == 6 and not self.done:
                self.done = True
                trainer.plan.networks["generator"].last.weight.data.fill_(float("inf"))

    sick = Sick(lambda trainer: False)
    trainer = sick.fit(tmp_path, Break(), non_finite=NonFinite(skips=1, rollbacks=3), save_every=3)
    assert trainer.total == 12
    assert events(tmp_path, "rollback")[-1]["total"] == 3
    assert all(bool(value.isfinite().all()) for value in sick.network.state_dict().values())


def test_broken_weights_are_never_the_best_whatever_they_score(tmp_path: Path) -> None:
    class Break(Callback):
        def on_step_end(self, trainer: Trainer) -> None:
            if trainer.total == 4:
                trainer.averages["generator"].network.unused.fill_(NAN)

    sick = Sick(lambda trainer: False, steps=4)
    sick.network.register_buffer("unused", torch.zeros(1))
    sick.fit(tmp_path, Break(), Validation(Toys(3), [L1], every=2, best="l1"))
    first, last = events(tmp_path, "validation")
    assert last["l1"] < first["l1"]
    assert [first.get("best"), last.get("best")] == [True, None]
    kept = load_file(tmp_path / "checkpoints" / "best.safetensors")
    assert all(bool(value.isfinite().all()) for value in kept.values())


def test_impossible_limits_are_refused() -> None:
    for wrong in ({"skips": -1}, {"rollbacks": -1}, {"slower": 0.0}):
        with pytest.raises(ValueError, match="skips and rollbacks"):
            NonFinite(**wrong)  # type: ignore[arg-type]
