import json
import math

import pytest
import torch

from gangen.errors import UserError
from gangen.nets import ImageHead
from gangen.nets.heads import Bounded, map_head


def test_answers_fill_the_range_and_stay_in_it():
    build = ImageHead(2, (0.0, 4.0)).build(1)
    torch.nn.init.ones_(build[0].weight)
    torch.nn.init.zeros_(build[0].bias)
    out = build(torch.tensor([-1e4, 0.0, 1e4]).view(3, 1, 1, 1))
    torch.testing.assert_close(out[:, 0].flatten(), torch.tensor([0.0, 2.0, 4.0]))
    assert out.shape == (3, 2, 1, 1)


def test_headroom_reaches_the_bounds_and_goes_beyond_them_only_to_learn():
    last = Bounded(-1.0, 1.0, headroom=0.35).eval()
    before = torch.tensor([-9.0, -2.0, 0.3, 2.0, 9.0])
    out = last(before)
    assert out[[0, 1, 3, 4]].tolist() == [-1.0, -1.0, 1.0, 1.0]  # to the bit, as black and white are in data
    assert out[2].item() == pytest.approx(1.35 * math.tanh(0.3))
    torch.testing.assert_close(last.train()(before), 1.35 * before.tanh())


def test_who_has_learned_to_paint_white_can_still_learn_grey_with_headroom():
    def learned(headroom):
        torch.manual_seed(0)
        build = ImageHead(1, headroom=headroom).build(4)
        optimizer = torch.optim.Adam(build.parameters(), lr=0.003)
        for step in range(400):
            optimizer.zero_grad()
            out = build(torch.ones(1, 4, 3, 3))
            (out - (1.0 if step < 300 else 0.5)).abs().mean().backward()
            optimizer.step()
        return out.mean().item()

    assert learned(0.0) > 0.95
    assert learned(0.35) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("bounds", "headroom"), [((-1, 1), -0.1), ((-1, 1), math.inf), ((-1, 1), "much"), (None, 0.3)]
)
def test_impossible_headroom_is_told(bounds, headroom):
    with pytest.raises(UserError, match="headroom"):
        ImageHead(3, bounds, headroom)


def test_configs_from_before_there_was_headroom_have_none():
    assert map_head({"channels": 3, "output_range": [-1, 1]}) == ImageHead(3)


def test_without_a_range_answers_are_unbounded():
    build = ImageHead(1, None).build(1)
    torch.nn.init.ones_(build[0].weight)
    assert build(torch.full((1, 1, 1, 1), 1e4)).item() > 9e3


@pytest.mark.parametrize("head", [ImageHead(), ImageHead(12, None), ImageHead(1, (0, 1), 0.5)])
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
