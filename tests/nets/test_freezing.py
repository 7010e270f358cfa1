import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from gangen.nets import free_parameters, freeze, hold_statistics, is_frozen, set_training, unfreeze


def _net():
    first = nn.Sequential(spectral_norm(nn.Conv2d(3, 4, 3)), nn.BatchNorm2d(4))
    second = nn.Sequential(nn.Conv2d(4, 4, 3), nn.SyncBatchNorm(4), nn.InstanceNorm2d(4, track_running_stats=True))
    return nn.Sequential(first, second)


def _state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def _unchanged(module, before):
    return all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def _learn(net):
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1, weight_decay=0.1)
    net(torch.randn(2, 3, 9, 9)).square().mean().backward()
    optimizer.step()


def _without_sync(net):
    net[1][1] = nn.BatchNorm2d(4)  # SyncBatchNorm runs on accelerators alone
    return net


def test_a_frozen_part_does_not_move_by_a_bit_while_the_rest_learns():
    net = _without_sync(_net())
    freeze(net[0])
    set_training(net, True)
    frozen, free = _state(net[0]), _state(net[1])
    _learn(net)
    assert _unchanged(net[0], frozen)
    moved = [name for name, value in net[1].state_dict().items() if not torch.equal(value, free[name])]
    # The convolution's bias is cancelled by the norm behind it and moves only by weight decay.
    assert {"0.weight", "1.running_mean", "2.running_mean"} <= set(moved)


def test_everything_moves_when_nothing_is_frozen():
    net = _without_sync(_net())
    set_training(net, True)
    before = _state(net)
    _learn(net)
    assert not _unchanged(net[0], {name[2:]: value for name, value in before.items() if name.startswith("0.")})


def test_set_training_holds_statistics_of_all_kinds_only_when_asked():
    net = _net()
    moving = [net[0][1], net[1][1], net[1][2], net[0][0].parametrizations.weight[0]]
    set_training(net, True)
    assert all(layer.training for layer in moving)
    set_training(net, True, hold_statistics=True)
    assert not any(layer.training for layer in moving)
    assert net[0][0].training
    set_training(net, False)
    assert not any(part.training for part in net.modules())
    net.train()
    hold_statistics(net)
    assert not any(layer.training for layer in moving)


def test_marks_survive_deepcopy_and_parts_can_be_released():
    net = _net()
    freeze(net)
    unfreeze(net[1])
    for kept in (net, copy.deepcopy(net)):
        assert is_frozen(kept[0])
        assert not is_frozen(kept[1])
        assert {id(p) for p in free_parameters(kept)} == {id(p) for p in kept[1].parameters()}
        assert not any(p.requires_grad for p in kept[0].parameters())
        set_training(kept, True)
        assert not kept[0][1].training
        assert kept[1][1].training


def test_free_parameters_do_not_depend_on_whose_turn_it_is():
    net = _net()
    freeze(net[0])
    net.requires_grad_(False)  # what a trainer does to a resting network
    assert len(list(free_parameters(net))) == len(list(net[1].parameters()))


@pytest.mark.parametrize("wrapped", [False, True])
def test_set_training_reaches_through_wrappers(wrapped):
    net = _net()
    freeze(net[0])
    set_training(nn.Sequential(net) if wrapped else net, True)
    assert not net[0][1].training
    assert net[1].training
