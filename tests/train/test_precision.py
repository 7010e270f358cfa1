"""float16 with a scaler for each player, as far as that shows without a GPU."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.amp.grad_scaler import GradScaler

from gangen.errors import UserError
from gangen.losses import critic_terms, hinge
from gangen.train import Alternate, Callback, Phase, Player, Together, Trainer, launch
from gangen.train.guard import Diverged
from tests.train.toys import Game, ToyGenerator, bits, differences, imitate, toy_critic, toy_trainer


class Scaled(Callback):
    """Gives a training on the CPU the scalers that it would have with float16 on a GPU."""

    def __init__(self, start: float = 2.0**16) -> None:
        self.start = start

    def on_fit_start(self, trainer: Trainer) -> None:
        for name in trainer.plan.networks:
            trainer.scalers[name] = GradScaler("cpu", init_scale=self.start, growth_interval=10)


def ends(run: Path | None, switcher: Any, *callbacks: Callback) -> tuple[dict[str, Any], Trainer]:
    game = Game(switcher, accumulate=2)
    trainer = toy_trainer(run, *callbacks)
    trainer.fit(game.phases, resume=run is not None)
    return {**bits(game.generator), **{f"critic.{k}": v for k, v in bits(game.critic).items()}}, trainer


@pytest.mark.parametrize("switcher", [Alternate(critic=2, generator=1), Together()])
def test_scaled_losses_teach_the_same(switcher: Any) -> None:
    """Times 65,536 and divided by it again: exact in floating point."""
    plain, _ = ends(None, switcher, Callback())
    scaled, trainer = ends(None, switcher, Scaled())
    assert differences(plain, scaled) == []
    assert trainer.scalers["generator"].get_scale() > 2.0**16, "it grows when all is well"
    assert trainer.scalers["generator"] is not trainer.scalers["critic"]


def test_a_gradient_that_overflows_moves_nobody_and_makes_the_scale_smaller() -> None:
    class Overflow(Callback):
        seen: list[tuple[dict[str, Any], int, float]]

        def __init__(self) -> None:
            self.seen = []

        def on_before_update(self, trainer: Trainer, player: Player) -> None:
            network = trainer.plan.networks["generator"]
            updates = trainer.averages["generator"].updates
            self.seen.append((bits(network), updates, trainer.scalers[player.name].get_scale()))

    def shout(nets: Any, batch: Any) -> dict[str, Any]:
        return {"pixel": 1000 * imitate(nets, batch)["pixel"]}

    player, watch = Player("generator", ToyGenerator(), shout, ema=0.9), Overflow()
    toy_trainer(None, Scaled(2.0**121), watch).fit([Phase("imitate", [player], 12)])
    first, second = watch.seen[:2]
    weights = [name for name, value in first[0].items() if value.is_floating_point() and "running" not in name]
    assert all(torch.equal(first[0][name], second[0][name]) for name in weights)
    assert second[1] == first[1] == 0, "nor does the average follow"
    assert second[2] == first[2] / 2
    assert watch.seen[-1][1] > 0, "once the scale fits, it learns"


def test_the_scale_survives_an_interruption(tmp_path: Path) -> None:
    class Cut(Callback):
        def on_before_update(self, trainer: Trainer, player: Player) -> None:
            if trainer.total == 21:
                raise ConnectionError("the plug was pulled")

    switcher = Alternate(critic=2, generator=1)
    whole, undisturbed = ends(tmp_path / "whole", switcher, Scaled(), Callback())
    with pytest.raises(ConnectionError):
        ends(tmp_path / "cut", switcher, Scaled(), Cut())
    resumed, trainer = ends(tmp_path / "cut", switcher, Scaled(), Callback())
    assert differences(whole, resumed) == []
    for name, scaler in undisturbed.scalers.items():
        assert scaler.state_dict() == trainer.scalers[name].state_dict()
        assert scaler.get_scale() > Scaled().start


def test_float16_without_a_gpu_is_refused_with_what_works() -> None:
    if torch.cuda.is_available():
        pytest.skip("a GPU trains in float16")
    with pytest.raises(UserError, match=r"--precision fp16: .* on GPUs only"):
        launch(precision="fp16")


@pytest.mark.slow
def test_how_float32_is_multiplied_on_gpus_is_chosen() -> None:
    script = """
import importlib
import torch
from accelerate.state import AcceleratorState

starting = importlib.import_module("gangen.train.launch")
starting.is_on_cpu = lambda: False  # though a CPU does the rest
chosen = []
tell = starting.choose_float32
starting.choose_float32 = lambda kind: (chosen.append(kind), tell(kind))
for precision in ("no", "tf32", "bf16", None):
    accelerator = starting.launch(precision=precision)
    # Either name may be read, as torch.compile and others do
    older = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    print(precision, chosen[-1], torch.backends.cuda.matmul.fp32_precision, *older)
    AcceleratorState._reset_state(reset_partial_state=True)
"""
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in told.splitlines()]
    assert rows == [
        ["no", "ieee", "ieee", "highest", "False"],
        ["tf32", "tf32", "tf32", "high", "True"],
        ["bf16", "tf32", "tf32", "high", "True"],
        ["None", "tf32", "tf32", "high", "True"],
    ]


def test_a_gradient_that_no_scale_makes_finite_ends_the_training_with_its_name() -> None:
    class Unending(Callback):
        def on_before_update(self, trainer: Trainer, player: Player) -> None:
            found = trainer.scalers[player.name]._per_optimizer_states[id(trainer.seats["generator"].optimizer)]
            for each in found["found_inf_per_device"].values():
                each.fill_(1.0)

    player = Player("generator", ToyGenerator(), imitate)
    trainer = toy_trainer(None, Scaled(), Unending())
    with pytest.raises(
        Diverged, match=r"generator/gradient_norm is no longer finite: 50 step\(s\) of the generator"
    ):
        trainer.fit([Phase("imitate", [player], 80)])
    assert trainer.total == 49


@pytest.mark.parametrize("options", [{"penalty": 10.0}, {"r1_weight": 1.0}, {"penalty": 10.0, "r1_weight": 1.0}])
def test_penalties_take_what_was_painted_in_half_precision(options: dict[str, float]) -> None:
    critic, real = toy_critic(), torch.rand(2, 3, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        terms = critic_terms(critic, real, torch.rand(2, 3, 8, 8).bfloat16(), hinge, **options)
    assert {"adversarial"} < terms.keys()
    assert all(term.dtype == torch.float32 and term.isfinite() for term in terms.values())
    torch.stack(list(terms.values())).sum().backward()
