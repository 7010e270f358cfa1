"""Teaching a pretrained network something new: what is held, at which rates, and which rate is found."""

import copy
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from gangen.data import Batch
from gangen.errors import UserError
from gangen.losses import cross_entropy
from gangen.nets import (
    Body,
    ClassHead,
    Classifier,
    ImageHead,
    Norms,
    Residual,
    UNet,
    freeze,
    freeze_to,
    is_frozen,
    layer_groups,
    set_training,
    unfreeze,
)
from gangen.nets.groups import body_of
from gangen.recipe.flags import FineTuneFlags
from gangen.train import Callback, NoGan, Player, Trainer, alike, fine_tune, lr_find, nogan_phases, steps_of
from gangen.train.lr_find import _steepest, _valley
from gangen.train.optim import parameter_groups, spread
from tests.train.toys import differences


class Shades(Dataset[Batch]):
    """Dark pictures, class 0, and bright ones, class 1, with noise drawn anew each time."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Batch:
        picture = (0.2 * torch.randn(3, 16, 16) + (0.5 if index % 2 else -0.5)).clamp(-1, 1)
        return Batch(picture, torch.tensor(index % 2), f"shade-{index}")


class Small(nn.Module):
    """A body of three groups' worth of layers, with a norm."""

    in_channels, channels, strides = 3, (8,), (2,)

    def __init__(self) -> None:
        super().__init__()
        self.early, self.norm = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8)
        self.register_buffer("seen", torch.zeros(()), persistent=False)
        self.late = nn.Conv2d(8, 8, 3, 1, 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        self.seen += len(x)
        return [self.late(torch.relu(self.norm(self.early(x))))]

    def layer_groups(self) -> list[list[nn.Parameter]]:
        return [[*self.early.parameters(), *self.norm.parameters()], list(self.late.parameters())]


def network() -> Classifier:
    torch.manual_seed(0)
    return Classifier(Small(), ClassHead(2, hidden=0, dropout=0.1))


def tell(nets, batch):  # type: ignore[no-untyped-def]
    return {"cross_entropy": cross_entropy(nets.network(batch.input), batch.target)}


def phases(net: nn.Module, **options):  # type: ignore[no-untyped-def]
    return fine_tune(net, tell, **{"epochs": 2, "epoch": 3, "lr": 1e-2} | options)


def trained(run: Path, net: nn.Module, *callbacks: Callback, resume: bool = False, **options):  # type: ignore[no-untyped-def]
    trainer = Trainer(run, Shades(), batch_size=4, callbacks=callbacks, save_every=1, log_every=1)
    trainer.fit(phases(net, **options), resume=resume)
    return trainer


def test_every_weight_is_in_one_group_from_the_first_layers_to_the_last() -> None:
    net = Classifier(Body("resnet18"), ClassHead(3))
    early, late, head = layer_groups(net)
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    assert {names[id(p)].split(".")[2] for p in early} == {"conv1", "bn1", "layer1", "layer2"}
    assert {names[id(p)].split(".")[2] for p in late} == {"layer3", "layer4"}
    assert {names[id(p)].split(".")[0] for p in head} == {"head"}
    assert sum(map(len, (early, late, head))) == len(names)
    assert [len(group) for group in layer_groups(nn.Linear(2, 2))] == [2]


def test_what_holds_a_unet_has_its_layer_groups() -> None:
    unet = UNet(Body("resnet18"), ImageHead(3, None), width=4)
    groups = [[id(parameter) for parameter in group] for group in layer_groups(Residual(unet))]
    assert len(groups) == 3
    assert groups == [[id(parameter) for parameter in group] for group in layer_groups(unet)]


@pytest.mark.parametrize(("pretrained", "rates"), [(True, {1e-4, 1e-3 * 0.1**0.5, 1e-3}), (False, {1e-3})])
def test_in_nogan_a_pretrained_bodys_first_layers_learn_by_the_early_share(
    pretrained: bool, rates: set[float]
) -> None:
    body = Body("resnet18")
    body.initial = {**body.initial, "kind": "file" if pretrained else "none"}
    unet = UNet(body, ImageHead(3), width=4)
    settings = NoGan(generator_steps=1, adversarial_steps=1, lr=1e-3, early_share=0.1)
    phases = nogan_phases(settings, generator=unet, critic=nn.Conv2d(3, 1, 1), likeness=alike(), body=body)
    alone = next(phase for phase in phases if phase.name == "generator").players[0]
    given = {group["lr"] for group in parameter_groups(unet, alone.lr)}
    assert sorted(given) == pytest.approx(sorted(rates))
    others = [player.lr for phase in phases for player in phase.players if phase.name != "generator"]
    assert all(isinstance(rate, float) for rate in others)


@pytest.mark.parametrize(("pretrained", "rates"), [(True, {1e-5, 1e-4, 1e-3}), (False, {1e-3})])
def test_a_recipe_spares_the_first_layers_of_a_pretrained_body_alone(pretrained: bool, rates: set[float]) -> None:
    body = Body("resnet18")
    body.initial = {**body.initial, "kind": "file" if pretrained else "none"}
    net = Classifier(body, ClassHead(2))
    *_, whole = FineTuneFlags(lr=2e-3, epochs=1).phases(net, tell, body, 1)
    given = {group["lr"] for group in parameter_groups(net, whole.players[0].lr)}
    assert sorted(given) == pytest.approx(sorted(rates))


def test_without_an_early_share_the_weights_are_in_as_few_groups_as_checkpoints_of_before_have() -> None:
    body = Body("resnet18")
    body.initial = {**body.initial, "kind": "file"}
    unet = UNet(body, ImageHead(3), width=4)
    settings = NoGan(generator_steps=1, adversarial_steps=1)
    phases = nogan_phases(settings, generator=unet, critic=nn.Conv2d(3, 1, 1), likeness=alike(), body=body)
    alone = next(phase for phase in phases if phase.name == "generator").players[0]
    assert len(parameter_groups(unet, alone.lr)) == 2


@pytest.mark.parametrize("norms", ["hold", "adapt"])
def test_before_nogan_frees_a_pretrained_body_its_statistics_may_follow_the_pictures(
    tmp_path: Path, norms: Norms
) -> None:
    body = Body("resnet18")
    body.initial = {**body.initial, "kind": "file"}
    before = copy.deepcopy(body.state_dict())
    unet = UNet(body, ImageHead(3), width=4)
    settings = NoGan(frozen_steps=2, generator_steps=0, critic_steps=0, adversarial_steps=0, norms=norms)
    phases = nogan_phases(settings, generator=unet, critic=nn.Conv2d(3, 1, 1), likeness=alike(), body=body)
    white = torch.ones(3, 32, 32)
    Trainer(tmp_path, [Batch(white, white, str(n)) for n in range(8)], batch_size=4).fit(phases)
    changed = {name for name, value in body.state_dict().items() if not torch.equal(value, before[name])}
    kinds = {name.rsplit(".", 1)[1] for name in changed}
    assert kinds == ({"running_mean", "running_var", "num_batches_tracked"} if norms == "adapt" else set())


def test_a_networks_own_body_comes_before_that_of_its_unet() -> None:
    net = network()
    groups = layer_groups(net)
    net.unet = UNet(Body("resnet18"), ImageHead(3), width=4)
    assert body_of(net) is net.body
    assert [len(group) for group in layer_groups(net)][:-1] == [len(group) for group in groups][:-1]
    assert body_of(nn.Linear(2, 2)) is None


def test_rates_rise_from_the_first_group_to_the_last() -> None:
    assert spread((1e-4, 1e-2), 3) == pytest.approx([1e-4, 1e-3, 1e-2])
    assert spread((1e-4, 1e-2), 1) == [1e-2]
    assert spread(1e-3, 2) == [1e-3, 1e-3]


def test_fine_tuning_holds_the_body_and_then_teaches_its_first_layers_least(tmp_path: Path) -> None:
    net = network()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    seen: dict[str, dict[str, Tensor]] = {}
    rates: dict[str, list[float]] = {}

    class Watch(Callback):
        def on_step_end(self, trainer):  # type: ignore[no-untyped-def]
            groups = trainer.seats["network"].optimizer.param_groups
            if trainer.step == 1:
                rates[trainer.phase.name] = [group["initial_lr"] for group in groups]
                assert {(group["weight_decay"], group["params"][0].ndim > 1) for group in groups} <= {
                    (0.01, True),
                    (0.0, False),
                }

        def on_phase_end(self, trainer):  # type: ignore[no-untyped-def]
            seen[trainer.phase.name] = {name: value.clone() for name, value in net.state_dict().items()}

    trained(tmp_path, net, Watch())
    moved = {name for name, value in seen["head"].items() if not torch.equal(value, before[name])}
    assert not any(name.startswith(("body.early", "body.late")) for name in moved)
    assert {"body.norm.weight", "body.norm.running_mean", "head.2.weight"} <= moved, "norms go on learning"
    assert set(rates["head"]) == {1e-2}
    assert sorted(set(rates["whole"])) == pytest.approx([5e-5, 5e-4, 5e-3])
    moved = {name for name, value in net.state_dict().items() if not torch.equal(value, seen["head"][name])}
    assert moved == set(before)


def test_norms_adapt_where_that_is_asked_for(tmp_path: Path) -> None:
    net = network()
    before = {name: value.clone() for name, value in net.body.state_dict().items()}
    trained(tmp_path, net, epochs=0, norms="adapt")
    moved = {name for name, value in net.body.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"norm.running_mean", "norm.running_var", "norm.num_batches_tracked"}


def test_a_body_whose_norms_adapt_needs_no_gradient() -> None:
    net = network()
    freeze(net.body, norms="adapt")
    set_training(net, True)
    before = net.body.norm.running_mean.clone()
    assert not net.body(torch.randn(4, 3, 16, 16))[-1].requires_grad
    assert not torch.equal(net.body.norm.running_mean, before)
    assert is_frozen(net.body.norm)
    unfreeze(net.body)
    assert net.body(torch.randn(4, 3, 16, 16))[-1].requires_grad


def test_norms_are_held_where_that_is_asked_for(tmp_path: Path) -> None:
    net = network()
    before = {name: value.clone() for name, value in net.body.state_dict().items()}
    trained(tmp_path / "head", net, epochs=0, norms="hold")
    assert all(torch.equal(value, before[name]) for name, value in net.body.state_dict().items())
    trained(tmp_path / "both", net, epochs=1, norms="hold")
    moved = {name for name, value in net.body.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"early.weight", "early.bias", "late.weight", "late.bias"}


@pytest.mark.parametrize("at", [1, 4, 7])
def test_cut_in_either_part_it_goes_on_to_the_same_bits(tmp_path: Path, at: int) -> None:
    class Cut(Callback):
        def on_before_update(self, trainer, player):  # type: ignore[no-untyped-def]
            if trainer.total == at:
                raise ConnectionError("the plug was pulled")

    whole = network()
    trained(tmp_path / "whole", whole, Callback())
    with pytest.raises(ConnectionError):
        trained(tmp_path / "cut", network(), Cut())
    resumed = network()
    trained(tmp_path / "cut", resumed, Callback(), resume=True)
    assert differences(whole.state_dict(), resumed.state_dict()) == []
    assert (tmp_path / "whole/log.jsonl").read_text() == (tmp_path / "cut/log.jsonl").read_text()


def test_groups_may_be_frozen_by_number() -> None:
    net = network()
    freeze_to(net, -1)
    assert [parameter.requires_grad for group in layer_groups(net)[:2] for parameter in group] == [
        False,
        False,
        True,  # the norm's
        True,
        False,
        False,
    ]
    assert all(parameter.requires_grad for parameter in layer_groups(net)[2])
    freeze_to(net, 1, norms="hold")
    assert [all(p.requires_grad for p in group) for group in layer_groups(net)] == [False, True, True]
    assert not net.train().body.norm.training
    freeze_to(net, 0)
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert net.train().body.norm.training
    with pytest.raises(UserError, match="has 3 layer groups"):
        freeze_to(net, 3)


def test_the_range_test_leaves_everything_as_it_was() -> None:
    net = network()
    net.train()
    net.body.norm.eval()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    net(torch.randn(4, 3, 16, 16)).sum().backward()
    optimizer.step()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    held = [parameter.grad.clone() for parameter in net.parameters()]
    moments = copy.deepcopy(optimizer.state_dict())
    generators = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    player = Player("network", net, tell)
    found = lr_find(player, Shades(), batch_size=4, steps=40)
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert net.body.seen == 4, "a buffer that is not saved with the network"
    assert all(torch.equal(p.grad, grad) for p, grad in zip(net.parameters(), held, strict=True))
    assert differences(optimizer.state_dict(), moments) == []
    assert torch.equal(torch.get_rng_state(), generators[0])
    assert random.getstate() == generators[1]
    assert np.random.get_state()[1].tolist() == generators[2]  # noqa: NPY002
    assert net.training
    assert not net.body.norm.training
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert player.lr == 2e-4
    # the same again, and sensible: it learns in between, and breaks at the end
    assert lr_find(player, Shades(), batch_size=4, steps=40) == found
    assert 1e-6 < found.valley < 1
    assert found.rates[0] == 1e-7
    assert min(found.losses) < 0.8 * found.losses[0]


def test_a_test_that_cannot_begin_leaves_the_network_able_to_learn() -> None:
    net = network()
    with pytest.raises(UserError, match="batch size"):
        lr_find(Player("network", net, tell), Shades(), batch_size=0)
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_the_valley_lies_two_thirds_into_the_longest_fall() -> None:
    rates = tuple(float(k) for k in range(12))
    losses = (9.0, 8.5, 9.5, 8.0, 9.0, 7.0, 6.0, 9.0, 5.0, 4.0, 30.0, 40.0)
    assert _valley(rates, losses) == 6.0  # of 0, 1, 3, 5, 6, 8, 9 the fifth
    assert _steepest(rates, (5.0,) * 6 + (1.0,) * 6) in (4.0, 5.0, 6.0, 7.0, 8.0)


def test_a_rate_that_is_found_learns_better_than_one_far_below(tmp_path: Path) -> None:
    found = lr_find(Player("network", network(), tell), Shades(), batch_size=4, steps=60)
    losses = {}
    for rate in (found.valley, found.valley / 300):
        net = network()
        trained(tmp_path / f"{rate}", net, lr=rate, frozen_epochs=3, epochs=0)
        batch = [Shades()[index] for index in range(12)]
        net.eval()
        with torch.no_grad():
            logits = net(torch.stack([sample.input for sample in batch]))
        losses[rate] = cross_entropy(logits, torch.stack([sample.target for sample in batch])).item()
    assert losses[found.valley] < losses[found.valley / 300]


def test_numbers_that_cannot_be_are_refused() -> None:
    for options, told in (
        ({"epochs": -1}, "epochs=-1"),
        ({"epoch": 0}, "epoch=0"),
        ({"lr": 0.0}, "lr=0"),
        ({"ratio": 0.5}, r"ratio=0\.5"),
    ):
        with pytest.raises(UserError, match=told):
            phases(network(), **options)
    with pytest.raises(UserError, match="nothing would be learned"):
        phases(network(), epochs=0, frozen_epochs=0)
    with pytest.raises(UserError, match="Linear has no body"):
        phases(nn.Linear(2, 2))
    with pytest.raises(UserError, match="5 rates from"):
        lr_find(Player("network", network(), tell), Shades(), steps=5)
    assert (steps_of(10, 4), steps_of(8, 4), steps_of(8, 4, processes=2), steps_of(1, 4)) == (3, 2, 1, 1)
