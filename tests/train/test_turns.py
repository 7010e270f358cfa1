"""Who moves, who holds still, and what is shared."""

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from gangen.losses import critic_terms, hinge, l1
from gangen.nets import freeze
from gangen.train import Adaptive, Alternate, Callback, Phase, Player, Switcher, Together
from gangen.train.optim import adam, sgd
from tests.train.toys import (
    Game,
    ToyGenerator,
    bits,
    differences,
    imitate,
    judge,
    persuade,
    toy_critic,
    toy_trainer,
)


class Answer(NamedTuple):
    """A picture, and something else."""

    picture: Tensor
    other: int


class Stillness(Callback):
    """Compares every network's bits before and after each step with whose turn it was."""

    def __init__(self, networks: dict[str, torch.nn.Module]) -> None:
        self.networks = networks
        self.moved: dict[str, int] = dict.fromkeys(networks, 0)
        self.wrong: list[str] = []

    def on_phase_start(self, trainer: Any) -> None:
        self.before = {name: bits(network) for name, network in self.networks.items()}
        self.turn = trainer.turn

    def on_step_end(self, trainer: Any) -> None:
        for name, network in self.networks.items():
            changed = differences(self.before[name], bits(network))
            if name in self.turn:
                self.moved[name] += bool(changed)
            elif changed:
                self.wrong.append(f"step {trainer.total}: {name} rested, but moved in {changed}")
            if any(p.grad is not None for p in network.parameters()):
                self.wrong.append(f"step {trainer.total}: {name} still holds gradients")
        self.on_phase_start(trainer)


# The turn is passed by the switcher before Stillness looks, so both players of a pass are seen.
SWITCHERS: list[Switcher | None] = [
    None,
    Alternate(generator=1, critic=1),
    Alternate(critic=3, generator=2),
    Adaptive(critic=1.9, max_turn=3),
    Adaptive(critic=0.0, max_turn=2, term=None),
]


@pytest.mark.parametrize("switcher", SWITCHERS, ids=["none", "alternate", "3-2", "adaptive", "limit"])
@pytest.mark.parametrize(
    "optimizer", [adam(weight_decay=0.1), sgd(momentum=0.9, weight_decay=0.1)], ids=["adam", "sgd"]
)
def test_a_resting_network_does_not_move_by_one_bit(switcher: Switcher | None, optimizer: Any) -> None:
    game = Game(switcher, optimizer)
    watch = Stillness({"generator": game.generator, "critic": game.critic})
    toy_trainer(None, watch).fit(game.phases)
    assert watch.wrong == []
    assert watch.moved["generator"] >= 8
    assert watch.moved["critic"] >= 6


def test_together_moves_both_and_computes_the_generator_once() -> None:
    game = Game(Together(), steps=(0, 0, 5))
    before = bits(game.generator), bits(game.critic)
    toy_trainer().fit(game.phases)
    assert differences(before[0], bits(game.generator))
    assert differences(before[1], bits(game.critic))
    assert game.generator.calls == 5


def test_together_gives_the_gradients_of_two_separate_forwards() -> None:
    """Simultaneous gradients: each player's is the one at the weights that both had before the step."""

    class Keep(Callback):
        def __init__(self) -> None:
            self.gradients: dict[str, list[Tensor]] = {}

        def on_before_update(self, trainer: Any, player: Player) -> None:
            self.gradients[player.name] = [p.grad.clone() for p in player.network.parameters()]

    seen = {}
    for names in [("generator", "critic"), ("generator",), ("critic",)]:
        game = Game(steps=(0, 0, 1))
        game.generator.drop.p = 0.0

        class Fixed(Switcher):
            chosen = names

            def first(self, players: tuple[str, ...]) -> tuple[str, ...]:
                return self.chosen

        keep = Keep()
        toy_trainer(None, keep).fit([Phase("play", [game.expert, game.artist], 1, switcher=Fixed())])
        seen[names] = keep.gradients
    both = seen["generator", "critic"]
    for name in ("generator", "critic"):
        for mine, alone in zip(both[name], seen[name,][name], strict=True):
            torch.testing.assert_close(mine, alone, rtol=1e-5, atol=1e-7)


def test_a_critic_that_forgets_to_detach_teaches_the_generator_nothing() -> None:
    """Under Together the critic is given the shared pictures detached, whatever its loss does with them."""

    def careless(nets: Any, batch: Any) -> dict[str, Tensor]:
        return {"adversarial": nets.critic(nets.generator(batch.input)).mean()}

    weights = []
    for switcher in (Together(), None):
        game = Game()
        game.generator.drop.p = 0.0
        alone = Player("generator", game.generator, imitate, lr=1e-2, optimizer=sgd())
        critic = Player("critic", game.critic, careless, lr=1e-2, optimizer=sgd())
        toy_trainer().fit([Phase("play", [alone, critic], 3, switcher=switcher)])
        weights.append(bits(game.generator))
    assert differences(*weights) == []


@pytest.mark.parametrize(
    ("answer", "picture"),
    [
        (lambda made: {"picture": made}, lambda answer: answer["picture"]),
        (lambda made: Answer(made, 1), lambda answer: answer.picture),
        (lambda made: [made], lambda answer: answer[0]),
    ],
    ids=["dict", "named tuple", "list"],
)
def test_answers_of_several_parts_are_shared_detached(answer: Any, picture: Any) -> None:
    class Artist(ToyGenerator):
        def forward(self, x: Tensor) -> Any:
            return answer(super().forward(x))

    def imitating(nets: Any, batch: Any) -> dict[str, Tensor]:
        return {"pixel": l1(picture(nets.generator(batch.input)), batch.target)}

    def careless(nets: Any, batch: Any) -> dict[str, Tensor]:
        return {"adversarial": nets.critic(picture(nets.generator(batch.input))).mean()}

    artist = Artist()
    players = [Player("generator", artist, imitating), Player("critic", toy_critic(), careless)]
    toy_trainer().fit([Phase("play", players, 2, switcher=Together())])
    assert artist.calls == 2


@pytest.mark.parametrize("switcher", [None, Alternate(critic=1, generator=1), Together()])
@pytest.mark.parametrize("declared", [True, False], ids=["Player(frozen=)", "freeze()"])
def test_a_frozen_body_holds_still_through_every_turn(switcher: Switcher | None, declared: bool) -> None:
    game = Game(switcher)
    body = game.generator.body
    if declared:
        artist = Player("generator", game.generator, persuade, lr=1e-2, frozen=[body], optimizer=sgd(0.9, 0.1))
    else:
        freeze(body)
        artist = Player("generator", game.generator, persuade, lr=1e-2, optimizer=sgd(0.9, 0.1))
    alone = Player("generator", game.generator, imitate, lr=1e-2, frozen=[body] if declared else [])
    before, last = bits(body), bits(game.generator.last)
    phases = [
        Phase("imitate", [alone], 4),
        Phase("judge", [Player("critic", game.critic, judge), artist], 3),
        Phase("play", [Player("critic", game.critic, judge), artist], 8, switcher=switcher),
    ]
    toy_trainer().fit(phases)
    assert differences(before, bits(body)) == []
    assert differences(last, bits(game.generator.last))
    assert all(p.requires_grad is declared for p in body.parameters())


def test_without_freezing_the_body_does_move() -> None:
    game = Game(steps=(4, 0, 0))
    before = bits(game.generator.body)
    toy_trainer().fit(game.phases)
    assert len(differences(before, bits(game.generator.body))) == len(before)


def test_held_statistics_do_not_move_but_weights_do() -> None:
    game = Game(Alternate(generator=1, critic=1), steps=(0, 0, 6))
    before = bits(game.generator.body)
    toy_trainer().fit(game.phases)
    changed = differences(before, bits(game.generator.body))
    assert {"0.weight", "1.weight"} <= set(changed)
    assert not {"1.running_mean", "1.running_var", "1.num_batches_tracked"} & set(changed)


def test_the_resting_generator_answers_in_eval_mode_without_a_graph() -> None:
    seen: list[tuple[bool, bool]] = []

    def spy(nets: Any, batch: Any) -> dict[str, Tensor]:
        seen.append((nets.generator.training, nets.generator(batch.input).requires_grad))
        return judge(nets, batch)

    game = Game()
    toy_trainer().fit([Phase("judge", [Player("critic", game.critic, spy), game.artist], 3)])
    assert seen == [(False, False)] * 3


def test_accumulated_batches_give_the_gradient_of_one_large_batch() -> None:
    """Two batches of 2 and one of 4 see the same samples; the loss is a mean, so the weights agree."""
    weights = []
    for batch_size, accumulate in [(4, 1), (2, 2)]:
        game = Game(accumulate=accumulate)
        game.generator.drop.p = 0.0
        player = Player(
            "generator",
            game.generator,
            imitate,
            lr=1e-2,
            optimizer=sgd(),
            hold_statistics=True,
            accumulate=accumulate,
        )
        toy_trainer(batch_size=batch_size).fit([Phase("imitate", [player], 5)])
        weights.append(bits(game.generator))
    for name, tensor in weights[0].items():
        torch.testing.assert_close(tensor, weights[1][name], rtol=1e-5, atol=1e-6)


def test_accumulation_does_not_starve_a_player() -> None:
    game = Game(Alternate(critic=1, generator=1), steps=(0, 0, 6), accumulate=3)
    watch = Stillness({"generator": game.generator, "critic": game.critic})
    toy_trainer(None, watch).fit(game.phases)
    assert watch.moved == {"generator": 3, "critic": 3}


def test_a_term_that_is_no_number_is_named() -> None:
    game = Game()
    player = Player("generator", game.generator, lambda nets, batch: {"pixel": nets.generator(batch.input)})
    with pytest.raises(TypeError, match=r"generator's loss term 'pixel'.*\(4, 3, 8, 8\)"):
        toy_trainer().fit([Phase("imitate", [player], 1)])


def test_an_unknown_network_is_named_with_those_there_are() -> None:
    game = Game()
    player = Player("generator", game.generator, lambda nets, batch: nets.critik(batch.input))
    with pytest.raises(AttributeError, match=r"no player 'critik'.*generator"):
        toy_trainer().fit([Phase("imitate", [player], 1)])


def test_a_critic_that_asks_without_gradients_leaves_the_generator_its_own() -> None:
    """The usual idiom of a critic's loss; under Together it is the critic that asks first."""

    def usual(nets: Any, batch: Any) -> dict[str, Tensor]:
        with torch.no_grad():
            fake = nets.generator(batch.input)
        assert not fake.requires_grad
        return critic_terms(nets.critic, batch.target, fake, hinge)

    ends = []
    for loss in (judge, usual):
        game = Game(Together(), steps=(0, 0, 5))
        if loss is usual:
            game.expert = Player("critic", game.critic, usual, lr=1e-2)
            game.phases = [Phase("play", [game.expert, game.artist], 5, switcher=Together())]
        before = bits(game.generator)
        toy_trainer().fit(game.phases)
        ends.append(differences(before, bits(game.generator)))
    assert ends[0] == ends[1] != []


def test_a_loss_that_never_reaches_its_network_is_refused_by_name() -> None:
    game, another = Game(), Game()

    def misled(nets: Any, batch: Any) -> dict[str, Tensor]:
        return {"pixel": (another.generator(batch.input) - batch.target).abs().mean()}

    with pytest.raises(ValueError, match=r"loss of 'generator' has no gradient .*nets\.generator"):
        toy_trainer().fit([Phase("imitate", [Player("generator", game.generator, misled)], 2)])
