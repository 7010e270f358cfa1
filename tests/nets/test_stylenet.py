import copy

import pytest
import torch
from torch import nn

from gangen import images
from gangen.errors import RunError, UserError
from gangen.nets import StyleNet
from gangen.pipeline import Pipeline


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = StyleNet(width=4, blocks=1).eval()
    nn.init.normal_(network.head[0].weight, std=0.1)  # it would begin as the identity
    return network


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 2), (17, 31), (32, 32)])
def test_any_size_comes_back(network, size):
    painted = network(torch.rand(2, 3, *size) * 2 - 1)
    assert painted.shape == (2, 3, *size)
    assert painted.isfinite().all()
    assert painted.abs().max() <= 1


def test_it_begins_as_the_identity_and_what_it_adds_does_not_depend_on_contrast(network):
    """The latter is what instance norm is for."""
    picture = torch.rand(1, 3, 24, 24) - 0.5
    assert torch.equal(StyleNet(width=4)(picture), picture)
    added = network(picture) - picture
    assert added.abs().mean() > 0.05
    fainter = network(picture * 0.5) - picture * 0.5
    inside = (network(picture).abs() < 1) & (network(picture * 0.5).abs() < 1)
    torch.testing.assert_close(fainter[inside], added[inside], atol=5e-3, rtol=0)


def test_a_pipeline_refuses_to_tile_it_and_paints_it_whole(network):
    picture = images.to_picture(torch.rand(3, 70, 90) * 2 - 1)
    with pytest.raises(UserError, match="cannot be tiled"):
        Pipeline(network)(picture, tile=64, overlap=0)
    assert Pipeline(network)(picture, tile=None).size == (90, 70)


def test_saved_loaded_and_copied_it_paints_the_same(network, tmp_path):
    picture = images.to_picture(torch.rand(3, 20, 33) * 2 - 1)
    painted = Pipeline(network)(picture).tobytes()
    Pipeline(network).save(tmp_path)
    assert Pipeline.from_pretrained(tmp_path, device="cpu")(picture).tobytes() == painted
    assert Pipeline(copy.deepcopy(network))(picture).tobytes() == painted


def test_every_weight_learns(network):
    network = copy.deepcopy(network)
    network(torch.rand(2, 3, 24, 24) - 0.5).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in network.parameters())


def test_what_is_impossible_is_told():
    with pytest.raises(UserError, match="width 0"):
        StyleNet(width=0)
    with pytest.raises(UserError, match="blocks True"):
        StyleNet(blocks=True)
    with pytest.raises(RunError, match="does not describe a StyleNet"):
        StyleNet.from_config({"width": 4})
