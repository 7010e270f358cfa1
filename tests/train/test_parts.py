"""The loop's small parts: schedules, averages, optimizers, launch checks, plain mistakes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gangen.errors import UserError
from gangen.nets import is_frozen
from gangen.train import Adaptive, Alternate, Callback, Phase, Player
from gangen.train.ema import Average
from gangen.train.launch import check_connected
from gangen.train.optim import adam, parameter_groups
from gangen.train.plan import Plan
from gangen.train.schedule import constant, flat_cosine, one_cycle
from tests.train.toys import Game, Toys, imitate, toy_trainer


def test_one_cycle_rises_to_the_peak_and_falls_to_nothing() -> None:
    factor = one_cycle(warmup=0.25, start=0.04, end=1e-5)
    assert factor(0.0) == pytest.approx(0.04)
    assert factor(0.25) == pytest.approx(1.0)
    assert factor(1.0) == pytest.approx(1e-5)
    assert factor(0.125) == pytest.approx((1 + 0.04) / 2)


def test_flat_cosine_is_flat_and_then_falls() -> None:
    factor = flat_cosine(0.5, warmup=0.1)
    assert [factor(0.05), factor(0.1), factor(0.49)] == pytest.approx([0.5, 1.0, 1.0])
    assert factor(0.75) == pytest.approx(0.5)
    assert factor(1.0) == pytest.approx(0.0)
    assert constant()(0.0) == 1.0


def test_the_players_rate_follows_the_phase() -> None:
    rates: list[float] = []
    game = Game(steps=(4, 0, 0))
    trainer = toy_trainer(log_every=1)

    class Watch(Callback):
        def on_log(self, trainer, record):  # type: ignore[no-untyped-def]
            if record["event"] == "train":
                rates.append(record["generator/lr"])

    trainer.callbacks.append(Watch())
    trainer.fit(game.phases)
    assert rates == pytest.approx([1e-2 * one_cycle()(step / 4) for step in range(4)])


def test_the_average_moves_by_the_ramped_decay_and_copies_counters() -> None:
    network = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    nn.init.constant_(network[0].weight, 0.0)
    average = Average(network)
    nn.init.constant_(network[0].weight, 1.0)
    network[1].num_batches_tracked += 7
    network[1].running_mean += 1.0
    average.update(network, decay=0.9)
    decay = 2 / 11
    assert average.network[0].weight.item() == pytest.approx(1 - decay)
    assert average.network[1].running_mean.item() == pytest.approx(1 - decay)
    assert average.network[1].num_batches_tracked.item() == 7
    for _ in range(200):
        average.update(network, decay=0.9)
    assert average.network[0].weight.item() == pytest.approx(1.0)
    assert not average.network[0].weight.requires_grad
    assert not average.network.training


def test_norms_and_biases_do_not_decay() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    groups = adam(weight_decay=0.1)(parameter_groups(network, 1e-3), 1e-3).param_groups
    assert all(group["fused"] for group in groups)
    assert [(group["weight_decay"], len(group["params"])) for group in groups] == [(0.1, 1), (0.0, 3)]


def test_n_processes_that_do_not_know_each_other_are_refused() -> None:
    with pytest.raises(UserError, match=r"started as 2 processes.*ACCELERATE_USE_CPU=true torchrun"):
        check_connected({"WORLD_SIZE": "2"}, processes=1)
    launched = {"MASTER_ADDR": "127.0.0.1", "ACCELERATE_MIXED_PRECISION": "no"}
    with pytest.raises(UserError, match="started only this one"):
        check_connected(launched, processes=1)
    check_connected({"WORLD_SIZE": "2", **launched}, processes=2)
    check_connected({}, processes=1)


def test_plain_mistakes_are_named() -> None:
    game = Game()
    with pytest.raises(ValueError, match="no players"):
        Phase("empty", [], 3)
    with pytest.raises(ValueError, match="two players of one name"):
        Phase("twice", [game.artist, game.artist], 3)
    with pytest.raises(ValueError, match=r"nets\.NAME"):
        Player("my generator", game.generator, imitate)
    with pytest.raises(ValueError, match="different networks"):
        toy_trainer().fit([Phase("a", [game.artist], 1), Phase("b", [Game().artist], 1)])
    with pytest.raises(ValueError, match="no phase has a step"):
        toy_trainer().fit([])
    with pytest.raises(ValueError, match=r"passes the turn to 'critik'.*critic, generator"):
        toy_trainer().fit([Phase("a", [game.expert, game.artist], 1, switcher=Alternate(critik=1, generator=1))])
    with pytest.raises(ValueError, match="at least"):
        Player("generator", game.generator, imitate, accumulate=0)
    with pytest.raises(ValueError, match="one step at least"):
        Adaptive(max_turn=0)


def test_a_trainer_without_a_run_folder_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    toy_trainer().fit(Game(steps=(2, 1, 2)).phases)
    assert list(tmp_path.iterdir()) == []


def test_the_vectors_of_spectral_norm_are_copied_since_their_mean_is_too_short() -> None:
    torch.manual_seed(0)
    network = nn.utils.parametrizations.spectral_norm(nn.Linear(8, 8, bias=False))
    average = Average(network)
    for _ in range(3):
        nn.init.normal_(network.parametrizations.weight.original)
        network(torch.zeros(1, 8))  # a step of the power iteration
        average.update(network, decay=0.5)
    norm, ours = network.parametrizations.weight[0], average.network.parametrizations.weight[0]
    assert torch.equal(ours._u, norm._u)
    assert ours._v.norm().item() == pytest.approx(1.0, rel=1e-5)
    original = average.network.parametrizations.weight.original
    assert not torch.equal(original, network.parametrizations.weight.original)


def test_players_that_would_learn_the_same_weights_are_refused() -> None:
    game = Game()
    double = nn.Sequential(game.critic[0], nn.Conv2d(8, 1, 1))
    judging, also = game.expert, Player("also", double, imitate)
    with pytest.raises(ValueError, match=r"'critic' and 'also' share weights that both would learn"):
        toy_trainer().fit([Phase("play", [judging, also], 1)])
    Plan([Phase("play", [judging, Player("also", double, imitate, frozen=[double[0]])], 1)], Toys())


def test_a_phase_that_cannot_begin_leaves_the_networks_able_to_learn() -> None:
    class Failing(Callback):
        def on_phase_start(self, trainer: Any) -> None:
            raise MemoryError("no room for a grid")

    game = Game(steps=(1, 0, 0))
    game.phases[0].players[0].frozen = [game.generator.body]
    with pytest.raises(MemoryError):
        toy_trainer(None, Failing()).fit(game.phases)
    assert all(weight.requires_grad for weight in game.generator.parameters())
    game.phases[0].players[0].frozen = [game.generator]
    with pytest.raises(ValueError, match="every weight is frozen"):
        toy_trainer().fit(game.phases)
    assert all(weight.requires_grad for weight in game.generator.parameters())
    assert not is_frozen(game.generator)
