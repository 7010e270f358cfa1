"""Each thing that goes wrong in games is told of when it is there, and none when all is well."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gangen.data import Batch
from gangen.losses import critic_terms, hinge, l1
from gangen.train import Alternate, Callback, Health, Phase, Player
from gangen.train.symptoms import SYMPTOMS, measure, separation
from tests.train.toys import Game, bits, differences, toy_trainer


class Painter(nn.Module):
    """A generator of one convolution, and whatever else is done to its picture."""

    def __init__(self, after: Callable[[Tensor], Tensor] = torch.tanh) -> None:
        super().__init__()
        self.conv, self.after = nn.Conv2d(3, 3, 3, padding=1), after
        nn.init.dirac_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.conv(x))


class Constant(nn.Module):
    """A critic that says the same of all."""

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros(len(x), 1) + self.level + 0 * x.mean()


def critic() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.LeakyReLU(0.2), nn.Conv2d(8, 1, 3))


class Bright(nn.Module):
    """A critic that has won: what is brighter than the generator can paint is real, and it is sure of it."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(20.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * (x.mean(dim=(1, 2, 3))[:, None] + 0.5)


def play(
    run: Path | None,
    painter: nn.Module,
    judge: nn.Module,
    *,
    fool: float = 0.02,
    pixel: float = 1.0,
    rates: tuple[float, float] = (0.0, 0.0),
    watch: Health | None = None,
) -> Health:
    """Twelve steps of a game, probed at every second; with rates of 0 the players stay as they are."""

    def tell(nets: Any, batch: Any) -> dict[str, Tensor]:
        return critic_terms(nets.critic, batch.target, nets.generator(batch.input), hinge)

    def persuade(nets: Any, batch: Any) -> dict[str, Tensor]:
        fake = nets.generator(batch.input)
        return {"pixel": pixel * l1(fake, batch.target), "adversarial": fool * hinge.generator(nets.critic(fake))}

    health = watch or Health(every=2, patience=3)
    game = [
        Player("critic", judge, tell, lr=max(rates[0], 1e-30)),
        Player("generator", painter, persuade, lr=max(rates[1], 1e-30)),
    ]
    phase = Phase("game", game, 12, switcher=Alternate(critic=1, generator=1))
    toy_trainer(run, health).fit([phase])
    return health


def told(run: Path, event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


def checkered(x: Tensor) -> Tensor:
    board = (torch.arange(x.shape[2])[:, None] + torch.arange(x.shape[3])[None]) % 2
    return (x + 0.9 * (2.0 * board - 1)).clamp(-1, 1)


def sick(name: str) -> dict[str, Any]:
    """A game with this disease."""
    torch.manual_seed(0)
    games: dict[str, Callable[[], dict[str, Any]]] = {
        "critic_won": lambda: {"painter": Painter(lambda x: x.clamp(-1, 1) * 0.01 - 0.99), "judge": Bright()},
        "critic_silent": lambda: {"painter": Painter(), "judge": Constant()},
        "critic_ignored": lambda: {"painter": Painter(), "judge": critic(), "fool": 1e-6},
        "critic_alone": lambda: {"painter": Painter(), "judge": critic(), "pixel": 1e-6},
        "colour_drift": lambda: {"painter": Painter(lambda x: (x + 0.9).clamp(-1, 1)), "judge": critic()},
        "grid": lambda: {"painter": Painter(checkered), "judge": critic()},
        "repeats": lambda: {"painter": Painter(lambda x: 0.001 * x), "judge": critic()},
        "gradient_gone": lambda: {"painter": Painter(lambda x: torch.tanh(1e4 + x)), "judge": critic()},
        "gradient_grows": lambda: {"painter": Growing(), "judge": critic()},
    }
    return games[name]()


class Growing(Painter):
    """A generator whose gradient grows at every look."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.looks += 1
        value = super().forward(x)
        return value.detach() + (value - value.detach()) * 10.0**self.looks


@pytest.mark.parametrize("name", [symptom.name for symptom in SYMPTOMS])
def test_a_sick_game_is_told_of_once_with_a_remedy(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    game = sick(name)
    health = play(tmp_path, game.pop("painter"), game.pop("judge"), **game)
    assert name in health.diagnoses
    (diagnosis,) = [line for line in told(tmp_path, "diagnosis") if line["name"] == name]
    assert ";" in diagnosis["text"], "what is seen; what to do"
    assert diagnosis["text"] in capsys.readouterr().err
    assert diagnosis["step"] >= 6, "after three looks"


def test_a_healthy_game_is_not_told_of(tmp_path: Path) -> None:
    torch.manual_seed(0)
    health = play(tmp_path, Painter(), critic(), rates=(1e-3, 1e-3))
    assert health.diagnoses == []
    assert told(tmp_path, "diagnosis") == []
    looks = told(tmp_path, "health")
    assert [line["step"] for line in looks] == [2, 4, 6, 8, 10, 12]
    expected = {"critic_accuracy", "logit_gap", "adversarial_share", "colour_drift", "grid", "variety"}
    assert expected | {"generator_gradient", "critic_gradient"} <= set(looks[-1])


def test_a_watched_game_is_played_as_an_unwatched_one(tmp_path: Path) -> None:
    ends = []
    for callbacks in ([], [Health(every=2)]):
        game = Game(Alternate(critic=2, generator=1))
        toy_trainer(None, *callbacks).fit(game.phases)
        ends.append({**bits(game.generator), **{f"critic.{k}": v for k, v in bits(game.critic).items()}})
    assert differences(*ends) == []


def test_what_was_seen_survives_an_interruption(tmp_path: Path) -> None:
    class Cut(Callback):
        def on_before_update(self, trainer: Any, player: Player) -> None:
            if trainer.total == 23:
                raise ConnectionError("the plug was pulled")

    def fit(run: Path, *callbacks: Callback) -> None:
        trainer = toy_trainer(run, Health(every=2, patience=2), *callbacks)
        trainer.fit(Game(Alternate(critic=2, generator=1)).phases, resume=True)

    fit(tmp_path / "whole", Callback())
    with pytest.raises(ConnectionError):
        fit(tmp_path / "cut", Cut())
    fit(tmp_path / "cut", Callback())
    assert told(tmp_path / "whole", "health")
    assert (tmp_path / "whole/log.jsonl").read_text() == (tmp_path / "cut/log.jsonl").read_text()


def test_label_maps_of_three_classes_are_no_pictures() -> None:
    probe: Any = SimpleNamespace(judged=[(torch.rand(4, 3, 16, 16), torch.randn(4, 1)) for _ in range(2)])
    judge: Any = SimpleNamespace(player=SimpleNamespace(loss=lambda nets, batch: {}))
    pictures, labels = torch.randn(4, 3, 16, 16), torch.randint(3, (4, 16, 16))
    of_pictures, of_labels = (
        set(Health()._tell_apart(judge, probe, Batch(pictures, target, "abcd"))) for target in (pictures, labels)
    )
    assert of_pictures - of_labels == {"colour_drift", "grid", "variety"}


def test_what_a_look_measures() -> None:
    torch.manual_seed(0)
    real = torch.rand(6, 3, 16, 16) * 2 - 1
    same = measure(real, real, real)
    assert same == pytest.approx({"colour_drift": 0.0, "grid": 1.0, "variety": 1.0})
    shifted = real.clone()
    shifted[:, 1] += 0.3
    assert measure(shifted, real, real)["colour_drift"] == pytest.approx(0.3)
    assert measure(real.mean(dim=0, keepdim=True).expand(6, -1, -1, -1), real, real)["variety"] == pytest.approx(0)
    assert measure(checkered(real * 0.1), real * 0.1, real)["grid"] > 1000
    assert "variety" not in measure(real, real, torch.zeros(6, 4)), "equal inputs may give equal outputs"
    assert "grid" not in measure(real[..., :4], real[..., :4], real)


@pytest.mark.parametrize(
    ("real", "fake", "accuracy"), [([1, 2], [-1, -2], 1.0), ([0, 1], [0.5, 2], 0.25), ([1, 3], [2, 2], 0.5)]
)
def test_accuracy_needs_no_threshold(real: Iterable[float], fake: Iterable[float], accuracy: float) -> None:
    shifted = [torch.tensor(logits, dtype=torch.float32)[:, None] + 100 for logits in (real, fake)]
    assert separation(*shifted)["critic_accuracy"] == pytest.approx(accuracy)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="pictures 2 or more"):
        Health(pictures=1)


class Several(nn.Module):
    """A critic that judges at two scales, which a probe does not know of."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = critic(), critic()

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.fine(x), self.coarse(nn.functional.avg_pool2d(x, 2, stride=1))]


def test_a_game_that_cannot_be_probed_goes_on_and_that_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def tell(nets: Any, batch: Any) -> dict[str, Tensor]:
        fake = nets.generator(batch.input)
        pairs = zip(nets.critic(batch.target), nets.critic(fake.detach()), strict=True)
        return {"adversarial": sum((hinge.critic(real, made) for real, made in pairs), torch.zeros(()))}

    def persuade(nets: Any, batch: Any) -> dict[str, Tensor]:
        said = nets.critic(nets.generator(batch.input))
        return {"adversarial": sum((hinge.generator(each) for each in said), torch.zeros(()))}

    players = [Player("critic", Several(), tell), Player("generator", Painter(), persuade)]
    phase = Phase("game", players, 12, switcher=Alternate(critic=1, generator=1))
    toy_trainer(tmp_path, Health(every=2)).fit([phase])
    (diagnosis,) = told(tmp_path, "diagnosis")
    assert diagnosis["name"] == "unwatched"
    assert "'list' object has no attribute 'detach'" in diagnosis["text"]
    assert capsys.readouterr().err.count("is not watched") == 1
    assert told(tmp_path, "end")


def test_what_a_loss_changes_in_place_may_be_probed(tmp_path: Path) -> None:
    def tell(nets: Any, batch: Any) -> dict[str, Tensor]:
        return critic_terms(nets.critic, batch.target, nets.generator(batch.input).clamp_(-0.5, 0.5), hinge)

    def persuade(nets: Any, batch: Any) -> dict[str, Tensor]:
        return {"adversarial": hinge.generator(nets.critic(nets.generator(batch.input)))}

    players = [Player("critic", critic(), tell), Player("generator", Painter(), persuade)]
    phase = Phase("game", players, 4, switcher=Alternate(critic=1, generator=1))
    toy_trainer(tmp_path, Health(every=2)).fit([phase])
    assert len(told(tmp_path, "health")) == 2
    assert not [each for each in told(tmp_path, "diagnosis") if each["name"] == "unwatched"]
