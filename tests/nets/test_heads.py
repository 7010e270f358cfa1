import json
import math

import pytest
import torch

from gangen.errors import UserError
from gangen.nets import ImageHead


def test_answers_fill_the_range_and_stay_in_it():
    build = ImageHead(2, (0.0, 4.0)).build(1)
    torch.nn.init.ones_(build[0].weight)
    torch.nn.init.zeros_(build[0].bias)
    out = build(torch.tensor([-1e4, 0.0, 1e4]).view(3, 1, 1, 1))
    torch.testing.assert_close(out[:, 0].flatten(), torch.tensor([0.0, 2.0, 4.0]))
    assert out.shape == (3, 2, 1, 1)


def test_without_a_range_answers_are_unbounded():
    build = ImageHead(1, None).build(1)
    torch.nn.init.ones_(build[0].weight)
    assert build(torch.full((1, 1, 1, 1), 1e4)).item() > 9e3


@pytest.mark.parametrize("head", [ImageHead(), ImageHead(12, None), ImageHead(1, (0, 1))])
def test_config_goes_through_json_and_back(head):
    assert ImageHead(**json.loads(json.dumps(head.config))) == head


@pytest.mark.parametrize("bounds", [(1, 1), (1, -1), (0,), (0, 1, 2), "ab", 3, (0, math.inf), (math.nan, 1)])
def test_impossible_ranges_are_told(bounds):
    with pytest.raises(UserError, match="is no range"):
        ImageHead(3, bounds)


@pytest.mark.parametrize("channels", [0, -1, 2.5, True])
def test_impossible_channels_are_told(channels):
    with pytest.raises(UserError, match="whole number"):
        ImageHead(channels)
