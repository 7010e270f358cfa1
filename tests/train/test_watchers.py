"""What watches the loop: validation, sample grids, the averaged network, and what they keep."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import Dataset

from gangen.data import Batch, Centre, Pairs, open_folder
from gangen.losses import l1
from gangen.metrics import L1, PSNR, FeatureNet, fid, kid
from gangen.train import Callback, Phase, Player, Samples, Together, Validation
from gangen.train.optim import sgd
from gangen.train.showing import showing
from tests.train.toys import Game, Toys, bits, differences, imitate, toy_trainer


class Grey(Dataset[Batch]):
    """Targets of one grey, n / 10 for sample n; the input is black."""

    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> Batch:
        return Batch(-torch.ones(3, 8, 8), torch.full((3, 8, 8), index / 10), str(index))


class Level(nn.Module):
    """Answers with one grey, its only weight."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.grey = nn.Parameter(torch.tensor(start))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x) + self.grey


def records(run: Path, event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


@pytest.mark.parametrize("batch_size", [1, 3, 7])
def test_validation_counts_every_sample_once_whatever_the_batch_size(tmp_path: Path, batch_size: int) -> None:
    level = Level(0.0)
    still = Player("generator", level, imitate, lr=1e-30, optimizer=sgd(momentum=0.0))
    watch = Validation(Grey(), [L1], batch_size=batch_size)
    toy_trainer(tmp_path, watch).fit([Phase("still", [still], 1)])
    # The mean of |0 - n / 10| over n = 0..6, on a scale of 0..1, is half of 0.3.
    assert watch.latest["l1"] == pytest.approx(0.15, abs=1e-6)


MEANS = FeatureNet(lambda pictures: pictures.mean(dim=(2, 3)), {"network": "mean colours"})


@pytest.mark.parametrize("batch_size", [1, 3, 7])
def test_validation_judges_the_whole_set_whatever_the_batch_size(tmp_path: Path, batch_size: int) -> None:
    still = Player("generator", Level(0.0), imitate, lr=1e-30, optimizer=sgd(momentum=0.0))
    watch = Validation(Grey(), [L1, fid(MEANS), kid(MEANS)], best="kid", batch_size=batch_size)
    toy_trainer(tmp_path, watch).fit([Phase("still", [still], 1)])
    targets = torch.arange(7.0, dtype=torch.float64)[:, None].expand(7, 3) / 10
    assert watch.latest["l1"] == pytest.approx(0.15, abs=1e-6)
    for metric in (fid(MEANS), kid(MEANS)):
        assert watch.latest[metric.name] == pytest.approx(metric(torch.zeros(7, 3), targets).value, rel=1e-5)
    assert watch.latest["fid"] > 0.1
    with safe_open(tmp_path / "checkpoints" / "best.safetensors", "pt") as file:
        assert json.loads(file.metadata()["gangen"])["kid"] == watch.latest["kid"]


def test_the_protocols_of_the_logged_numbers_lie_in_the_run_folder(tmp_path: Path) -> None:
    metrics = [PSNR, kid(MEANS)]
    toy_trainer(tmp_path, Validation(Grey(), metrics, best="psnr")).fit(Game(steps=(1, 0, 0)).phases)
    told = json.loads((tmp_path / "protocols.json").read_text())
    (record,) = records(tmp_path, "validation")
    assert told["metrics"] == {metric.name: metric.protocol for metric in metrics}
    assert set(told["metrics"]) <= set(record)
    assert (told["pictures"], told["best"]) == (7, "psnr")
    assert torch.__version__.startswith(told["versions"]["torch"])


def test_the_best_weights_are_those_of_the_best_validation(tmp_path: Path) -> None:
    """The rate is so high that the grey runs past the targets: the best validation is not the last one."""
    level = Level(-1.0)
    player = Player("generator", level, imitate, lr=0.2, optimizer=sgd(momentum=0.0))
    trainer = toy_trainer(tmp_path, Validation(Grey(), [L1, PSNR], every=1, best="l1"), seed=0)
    trainer.data = Shifted()
    trainer.fit([Phase("run", [player], 12)])
    found = records(tmp_path, "validation")
    best = min(found, key=lambda record: record["l1"])
    assert best["total"] < 12
    assert [r for r in found if r.get("best")][-1]["total"] == best["total"]
    kept = load_file(tmp_path / "checkpoints" / "best.safetensors")
    assert abs(kept["grey"].item() - 0.3) < abs(level.grey.item() - 0.3)
    with safe_open(tmp_path / "checkpoints" / "best.safetensors", "pt") as file:
        assert json.loads(file.metadata()["gangen"])["total"] == best["total"]


class Shifted(Grey):
    """Trains towards white, away from what is validated."""

    def __getitem__(self, index: int) -> Batch:
        return Batch(-torch.ones(3, 8, 8), torch.ones(3, 8, 8), str(index))


def test_the_best_weights_may_be_tied(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
            self.second.weight = self.first.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(self.first(x))

    network = Tied()
    watch = Validation(Grey(), [L1], every=1, best="l1")
    toy_trainer(tmp_path, watch).fit([Phase("alone", [Player("generator", network, imitate)], 1)])
    Tied().load_state_dict(load_file(tmp_path / "checkpoints" / "best.safetensors"))


def test_the_best_record_survives_an_interruption(tmp_path: Path) -> None:
    watch = Validation(Grey(), [L1], best="l1")
    watch.load_state_dict({"record": 0.1, "latest": {"l1": 0.1}})
    level = Level(0.0)
    still = Player("generator", level, imitate, lr=1e-30, optimizer=sgd(momentum=0.0))
    toy_trainer(tmp_path, watch).fit([Phase("still", [still], 1)])
    assert not (tmp_path / "checkpoints" / "best.safetensors").exists()
    assert watch.state_dict()["record"] == 0.1


def test_an_unknown_best_metric_is_refused() -> None:
    with pytest.raises(ValueError, match=r"best='fid' is none of the metrics: \['l1'\]"):
        Validation(Grey(), [L1], best="fid")


def test_the_average_is_shown_in_eval_mode_and_the_game_is_left_as_it_was() -> None:
    seen: list[tuple[bool, bool, list[str]]] = []

    class Look(Callback):
        def on_step_end(self, trainer: Any) -> None:
            modes = {name: module.training for name, module in trainer.plan.networks["generator"].named_modules()}
            with showing(trainer, "generator") as network:
                is_average = network is trainer.averages["generator"].network
                seen.append((is_average, network.training, []))
            after = {name: module.training for name, module in trainer.plan.networks["generator"].named_modules()}
            assert modes == after

    toy_trainer(None, Look()).fit(Game(steps=(3, 2, 0)).phases)
    assert [(average, training) for average, training, _ in seen] == [(True, False)] * 5


def test_without_an_average_the_live_network_is_shown_in_eval_mode() -> None:
    game = Game()

    class Look(Callback):
        def on_step_end(self, trainer: Any) -> None:
            assert game.generator.training
            with showing(trainer, "generator") as network:
                assert network is game.generator
                assert not network.training
            assert game.generator.training

    toy_trainer(None, Look()).fit([Phase("imitate", [Player("generator", game.generator, imitate)], 2)])


def test_a_phase_without_an_average_leaves_its_latest_weights_in_it() -> None:
    game = Game()
    averaged = Player("generator", game.generator, imitate, lr=1e-2, ema=0.99)
    plain = Player("generator", game.generator, imitate, lr=1e-2)
    trainer = toy_trainer()
    trainer.fit([Phase("averaged", [averaged], 3), Phase("plain", [plain], 3)])
    assert differences(bits(trainer.averages["generator"].network), bits(game.generator)) == []


def test_grids_show_the_same_pictures_before_between_and_after(tmp_path: Path) -> None:
    toy_trainer(tmp_path, Samples(Toys(5), count=3, every=4)).fit(Game(Together(), steps=(6, 3, 8)).phases)
    files = [record["file"] for record in records(tmp_path, "samples")]
    # None in the critic's phase, in which the pictures do not change.
    assert [int(name[-12:-4]) for name in files] == [0, 4, 6, 13, 17]
    grids = [Image.open(tmp_path / name) for name in files]
    assert len({grid.size for grid in grids}) == 1
    targets = grids[0].width * 3 // 4
    right = [grid.crop((targets, 0, grid.width, grid.height)).tobytes() for grid in grids]
    assert len(set(right)) == 1
    assert len({grid.tobytes() for grid in grids}) == len(grids)


class Growing(Dataset[Batch]):
    """Small pictures of several sizes, and targets of twice their size."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Batch:
        small = torch.rand(3, 4 + index, 5, generator=torch.Generator().manual_seed(index)) * 2 - 1
        return Batch(small, torch.zeros(3, 8 + 2 * index, 10), str(index))


class Doubling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return double(x) + self.shift


def double(x: torch.Tensor) -> torch.Tensor:
    return nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")


def test_small_inputs_of_several_sizes_are_shown_enlarged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[list[torch.Tensor]] = []
    monkeypatch.setattr(
        "gangen.train.samples.images.grid", lambda rows, **_: shown.extend(rows) or Image.new("L", (1, 1))
    )
    player = Player("generator", Doubling(), imitate, lr=1e-30, optimizer=sgd(momentum=0.0))
    trainer = toy_trainer(tmp_path, Samples(Growing()), batch_size=1)
    trainer.fit([Phase("still", [player], 1, data=Growing())])
    assert len(shown) == 6
    for row, sample in zip(shown, [Growing()[index] for index in (0, 1, 2)] * 2, strict=True):
        assert [tuple(cell.shape) for cell in row] == [tuple(sample.target.shape)] * 3
        assert torch.equal(row[0], double(sample.input[None])[0])


def test_the_baseline_is_judged_once_before_the_first_step(tmp_path: Path) -> None:
    player = Player("generator", Level(0.0), imitate, lr=1e-30, optimizer=sgd(momentum=0.0))
    watch = Validation(Grey(), [L1], baseline=lambda x: x + 1.0)
    toy_trainer(tmp_path, watch).fit([Phase("a", [player], 1), Phase("b", [player], 1)])
    (record,) = records(tmp_path, "baseline")
    assert record["total"] == 0
    assert record["l1"] == pytest.approx(sum(range(7)) / 7 / 10 / 2, abs=1e-6)  # of 0 against the greys, on 0..1
    assert watch.base == {"l1": record["l1"]}
    again = Validation(Grey(), [L1], baseline=lambda x: x)
    again.load_state_dict(watch.state_dict())
    assert again.base == watch.base


@pytest.mark.filterwarnings("ignore:.*next readable sample")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_picture_that_takes_the_place_of_an_unreadable_one_counts_once(tmp_path: Path, workers: int) -> None:
    for level in range(5):
        Image.new("RGB", (16, 16), (50 * level,) * 3).save(tmp_path / f"{level}.png")
    data = Pairs(open_folder(tmp_path), Centre(16), size=16, draw=lambda picture: picture)
    for level in (1, 4):
        (tmp_path / f"{level}.png").write_bytes(b"broken")
    player = Player("generator", Level(-1.0), imitate, lr=1e-30, optimizer=sgd(momentum=0.0))
    watch = Validation(data, [L1], batch_size=1)
    toy_trainer(tmp_path / "run", watch, workers=workers).fit([Phase("only", [player], 1)])
    assert watch.latest["l1"] == pytest.approx((0 + 100 + 150) / 3 / 255, abs=1e-6)


def test_the_untrained_network_can_be_the_baseline(tmp_path: Path) -> None:
    player = Player("generator", Level(0.0), imitate, lr=0.5, optimizer=sgd(momentum=0.0))
    watch = Validation(Grey(), [L1], baseline="untrained")
    toy_trainer(tmp_path, watch).fit([Phase("a", [player], 3)])
    (record,) = records(tmp_path, "baseline")
    assert record["total"] == 0
    assert record["l1"] == pytest.approx(sum(range(7)) / 7 / 10 / 2, abs=1e-6)  # of 0 against the greys, on 0..1
    assert records(tmp_path, "validation")[-1]["l1"] < record["l1"]


def test_a_second_fit_begins_with_optimizers_of_its_own() -> None:
    game = Game()
    trainer = toy_trainer()
    trainer.fit([Phase("frozen", [Player("generator", game.generator, imitate, frozen=[game.generator.body])], 2)])
    before = bits(game.generator.body)
    trainer.fit([Phase("free", [Player("generator", game.generator, imitate, lr=1e-2)], 2)])
    assert {"0.weight", "1.weight"} <= set(differences(before, bits(game.generator.body)))


def test_a_used_run_folder_is_not_overwritten(tmp_path: Path) -> None:
    toy_trainer(tmp_path).fit(Game(steps=(3, 0, 0)).phases)
    before = (tmp_path / "log.jsonl").read_bytes()

    class Writes(Callback):
        def on_fit_start(self, trainer: Any) -> None:
            (tmp_path / "protocols.json").write_text("others")

    with pytest.raises(ValueError, match="already holds a training"):
        toy_trainer(tmp_path, Writes()).fit(Game(steps=(3, 0, 0)).phases)
    with pytest.raises(ValueError, match="belongs to the phases"):
        toy_trainer(tmp_path, Writes()).fit(Game(steps=(4, 0, 0)).phases, resume=True)
    assert (tmp_path / "log.jsonl").read_bytes() == before
    assert not (tmp_path / "protocols.json").exists()


def test_groups_keep_the_ratio_of_their_rates() -> None:
    game = Game()

    def tenth(groups: list[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
        parameters = [p for group in groups for p in group["params"]]
        return torch.optim.SGD([{"params": parameters[:1], "lr": lr / 10}, {"params": parameters[1:]}], lr=lr)

    rates: list[list[float]] = []

    class Look(Callback):
        def on_step_end(self, trainer: Any) -> None:
            rates.append([group["lr"] for group in trainer.seats["generator"].optimizer.param_groups])

    player = Player("generator", game.generator, imitate, lr=1e-2, optimizer=tenth)
    toy_trainer(None, Look()).fit([Phase("imitate", [player], 2)])
    assert rates == [pytest.approx([1e-3, 1e-2])] * 2


def test_parts_frozen_by_hand_stay_frozen_after_a_player_that_froze_more() -> None:
    from gangen.nets import freeze

    game = Game()
    norm = game.generator.body[1]
    freeze(norm)
    before = bits(norm)
    more = Player("generator", game.generator, imitate, lr=1e-2, frozen=[game.generator.body])
    free = Player("generator", game.generator, imitate, lr=1e-2)
    toy_trainer().fit([Phase("more", [more], 2), Phase("free", [free], 3)])
    assert differences(before, bits(norm)) == []
    assert differences(bits(game.generator.body[0]), bits(Game().generator.body[0]))


def test_a_term_of_shape_one_is_a_number_too(tmp_path: Path) -> None:
    game = Game()
    player = Player("generator", game.generator, lambda n, b: {"a": l1(n.generator(b.input), b.target)[None]})
    toy_trainer(tmp_path).fit([Phase("imitate", [player], 5)])
    assert isinstance(records(tmp_path, "train")[-1]["generator/a"], float)
