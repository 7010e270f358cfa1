"""What a dashboard is told."""

from pathlib import Path
from typing import Any, ClassVar

from accelerate import Accelerator
from accelerate.tracking import GeneralTracker

from gangen.metrics import L1
from gangen.train import Alternate, Callback, NonFinite, Phase, Player, Tracking, Trainer, Validation
from tests.train.toys import Game, ToyGenerator, Toys, imitate


class Listener(GeneralTracker):
    """A tracker that keeps what it is told, from run to run."""

    name, requires_logging_directory = "listener", False
    told: ClassVar[list[tuple[int, str]]] = []

    def __init__(self) -> None:
        super().__init__()

    @property
    def tracker(self) -> None:
        return None

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        pass

    def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        self.told.extend((step or 0, name) for name in values)


def test_a_dashboard_hears_each_step_once_though_the_run_was_cut(tmp_path: Path) -> None:
    class Cut(Callback):
        def on_before_update(self, trainer: Any, player: Player) -> None:
            if trainer.total == 17:
                raise ConnectionError("the plug was pulled")

    def fit(run: Path, *callbacks: Callback) -> list[tuple[int, str]]:
        Listener.told = []
        accelerator = Accelerator(cpu=True, log_with=[Listener()])
        watch = Validation(Toys(3), [L1], every=2)
        game = Game(Alternate(critic=2, generator=1))
        trainer = Trainer(
            run,
            Toys(),
            batch_size=4,
            callbacks=[watch, Tracking("toys", {}), *callbacks],
            accelerator=accelerator,
            log_every=1,
            save_every=4,
        )
        try:
            trainer.fit(game.phases, resume=True)
        except ConnectionError:
            return Listener.told
        return Listener.told

    whole = fit(tmp_path / "whole", Callback())
    first, second = fit(tmp_path / "cut", Cut()), fit(tmp_path / "cut", Callback())
    assert first
    assert second
    assert sorted(first + second) == sorted(whole)
    assert len(set(whole)) == len(whole) > 50


def test_steps_that_are_taken_again_after_a_rollback_are_told_once(tmp_path: Path) -> None:
    Listener.told = []

    def sick(nets: Any, batch: Any) -> dict[str, Any]:
        pixel = imitate(nets, batch)["pixel"]
        return {"pixel": pixel * float("nan") if trainer.total >= 7 and trainer.guard.rate == 1.0 else pixel}

    trainer = Trainer(
        tmp_path,
        Toys(),
        batch_size=4,
        callbacks=[Tracking("toys", {})],
        accelerator=Accelerator(cpu=True, log_with=[Listener()]),
        non_finite=NonFinite(skips=2),
        log_every=1,
        save_every=3,
    )
    trainer.fit([Phase("imitate", [Player("generator", ToyGenerator(), sick, lr=1e-2)], 12)])
    assert trainer.guard.rollbacks == 1
    steps = [step for step, name in Listener.told if name == "generator/pixel"]
    assert steps == sorted(set(steps))
    assert steps[-1] == 12


def test_two_that_tell_of_one_step_are_both_heard(tmp_path: Path) -> None:
    Listener.told = []
    accelerator = Accelerator(cpu=True, log_with=[Listener()])
    twice = [Validation(Toys(3), [L1], every=4, best=None), Validation(Toys(5), [L1], every=4, best=None)]
    trainer = Trainer(
        tmp_path, Toys(), batch_size=4, callbacks=[*twice, Tracking("toys", {})], accelerator=accelerator
    )
    trainer.fit(Game(steps=(8, 0, 0)).phases)
    assert [step for step, name in Listener.told if name == "validation/l1"] == [4, 4, 8, 8]
