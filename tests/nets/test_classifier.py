import json

import pytest
import torch
from torch import nn

from gangen.errors import RunError, UserError
from gangen.nets import Body, ClassHead, Classifier, Siamese, freeze
from tests.networks import opinionated

PLAIN = {"pooling": "average", "hidden": 0, "dropout": 0.0, "norm": False}


@pytest.mark.parametrize("kind", [Classifier, Siamese])
def test_an_untrained_network_prefers_no_answer(kind):
    net = kind(Body("resnet18"), ClassHead(3)).eval()
    assert torch.equal(net(torch.rand(2, 3 if kind is Classifier else 6, 32, 32)), torch.zeros(2, 3))


@pytest.mark.parametrize("size", [(1, 1), (33, 20), (64, 64)])
def test_one_vector_a_picture_at_any_size(size):
    assert Classifier(Body("resnet18"), ClassHead(7)).eval()(torch.zeros(2, 3, *size)).shape == (2, 7)
    assert Siamese(Body("resnet18"), ClassHead(2)).eval()(torch.zeros(3, 6, *size)).shape == (3, 2)


def test_the_plain_head_is_the_resnets_own():
    net = opinionated(Classifier(Body("resnet18"), ClassHead(2, **PLAIN))).eval()
    x = torch.rand(1, 3, 64, 96)
    pooled = net.body(x)[-1].flatten(2).mean(dim=2)
    linear = net.head[-1]
    torch.testing.assert_close(net(x), pooled @ linear.weight.T + linear.bias)
    assert sum(p.numel() for p in net.head.parameters()) == 512 * 2 + 2


def test_the_usual_head_joins_average_and_maximum():
    net = opinionated(Classifier(Body("resnet18"), ClassHead(3))).eval()
    maps = net.body(torch.rand(2, 3, 64, 96))[-1]
    pooled = net.pool(maps)
    torch.testing.assert_close(pooled, torch.cat([maps.mean(dim=(2, 3)), maps.flatten(2).max(dim=2).values], 1))
    kinds = [type(layer) for layer in net.head]
    assert kinds == [nn.BatchNorm1d, nn.Dropout, nn.Linear, nn.ReLU, nn.BatchNorm1d, nn.Dropout, nn.Linear]
    assert (net.head[1].p, net.head[5].p) == (0.25, 0.5)
    net.head.train()
    assert not torch.equal(net.head(pooled), net.head(pooled)), "dropout works while training"


def test_a_range_bounds_regression_and_the_answer_may_be_normalised():
    net = opinionated(Classifier(Body("resnet18"), ClassHead(1, output_range=(0, 5), final_norm=True))).train()
    answers = net(torch.randn(8, 3, 32, 32))
    assert answers.min() > 0
    assert answers.max() < 5
    assert answers.mean().item() == pytest.approx(2.5, abs=0.6)


def test_two_pictures_in_either_order_are_the_same_pair():
    torch.manual_seed(0)
    net = opinionated(Siamese(Body("resnet18"), ClassHead(2))).eval()
    one, other = torch.rand(2, 3, 40, 40), torch.rand(2, 3, 40, 40)
    pairs, turned = torch.cat([one, other], 1), torch.cat([other, one], 1)
    torch.testing.assert_close(net(pairs), net(turned))
    assert (net(pairs) - net(torch.cat([one, one], 1))).abs().max() > 1e-4
    with pytest.raises(UserError, match="3 channels are no pair"):
        net(one)


@pytest.mark.parametrize("kind", [Classifier, Siamese])
def test_config_rebuilds_and_nonsense_is_refused(kind):
    net = opinionated(kind(Body("resnet18", in_channels=1), ClassHead(4, output_range=(-1, 1), hidden=8))).eval()
    rebuilt = kind.from_config(json.loads(json.dumps(net.config))).eval()
    rebuilt.load_state_dict(net.state_dict())
    x = torch.rand(1, 1 if kind is Classifier else 2, 20, 20)
    assert torch.equal(net(x), rebuilt(x))
    with pytest.raises(RunError, match="expected the keys body, head"):
        kind.from_config({"head": net.config["head"]})
    with pytest.raises(RunError, match="does not describe a head"):
        kind.from_config(net.config | {"head": {"classes": 4}})
    with pytest.raises(UserError, match="outputs='four' is impossible"):
        kind.from_config(net.config | {"head": net.config["head"] | {"outputs": "four"}})


def test_impossible_heads_are_refused():
    for options, told in (
        ({"dropout": 1}, "dropout of 1"),
        ({"hidden": -1}, "hidden=-1"),
        ({"pooling": "mean"}, "pooling 'mean' is unknown; choose one of average, both"),
        ({"output_range": (1, 0)}, "is no range"),
    ):
        with pytest.raises(UserError, match=told):
            ClassHead(2, **options)


class _Own(torch.nn.Sequential):
    """A body of one's own, which knows nothing of freezing."""

    in_channels, channels, strides = 3, (4,), (2,)

    def __init__(self):
        super().__init__(torch.nn.Conv2d(3, 4, 3, stride=2, padding=1), torch.nn.BatchNorm2d(4))

    def forward(self, x):
        return [super().forward(x)]


@pytest.mark.parametrize("make", [lambda: Body("resnet18"), _Own])
def test_a_frozen_body_stays_still(make):
    net = opinionated(Classifier(make(), ClassHead(2, **PLAIN)))
    freeze(net.body)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net.train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1, weight_decay=0.1)
    net(torch.randn(2, 3, 32, 32)).square().mean().backward()
    optimizer.step()
    moved = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"head.1.weight", "head.1.bias"}
