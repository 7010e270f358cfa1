import json

import pytest
import torch

from gangen.errors import RunError, UserError
from gangen.nets import Body, Classifier, freeze


@pytest.mark.parametrize("size", [(1, 1), (33, 20), (64, 64)])
def test_one_vector_a_picture_at_any_size(size):
    net = Classifier(Body("resnet18"), 7).eval()
    assert net(torch.zeros(2, 3, *size)).shape == (2, 7)


def test_the_answer_is_the_mean_over_all_places():
    net = Classifier(Body("resnet18"), 2, dropout=0.5).eval()
    x = torch.rand(1, 3, 64, 96)
    pooled = net.body(x)[-1].flatten(2).mean(dim=2)
    torch.testing.assert_close(net(x), pooled @ net.head[1].weight.T + net.head[1].bias)
    net.head.train()
    assert not torch.equal(net(x), net(x)), "dropout works while training"


def test_config_rebuilds_and_nonsense_is_refused():
    net = Classifier(Body("resnet18", in_channels=1), 4).eval()
    rebuilt = Classifier.from_config(json.loads(json.dumps(net.config))).eval()
    rebuilt.load_state_dict(net.state_dict())
    x = torch.rand(1, 1, 20, 20)
    assert torch.equal(net(x), rebuilt(x))
    with pytest.raises(RunError, match="expected the keys body, classes, dropout"):
        Classifier.from_config({"classes": 4})
    with pytest.raises(UserError, match="classes is impossible"):
        Classifier.from_config(net.config | {"classes": "four"})
    with pytest.raises(UserError, match="dropout of 1"):
        Classifier(net.body, 4, dropout=1)


class _Own(torch.nn.Sequential):
    """A body of one's own, which knows nothing of freezing."""

    in_channels, channels, strides = 3, (4,), (2,)

    def __init__(self):
        super().__init__(torch.nn.Conv2d(3, 4, 3, stride=2, padding=1), torch.nn.BatchNorm2d(4))

    def forward(self, x):
        return [super().forward(x)]


@pytest.mark.parametrize("make", [lambda: Body("resnet18"), _Own])
def test_a_frozen_body_stays_still(make):
    net = Classifier(make(), 2)
    freeze(net.body)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net.train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1, weight_decay=0.1)
    net(torch.randn(2, 3, 32, 32)).square().mean().backward()
    optimizer.step()
    moved = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"head.1.weight", "head.1.bias"}
