import copy

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models

from gangen.errors import UserError, WeightsError
from gangen.nets import Body


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A whole torchvision ResNet-18 with lively statistics, and its file in half precision."""
    torch.manual_seed(0)
    net = models.resnet18(weights=None).eval()
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean, std=0.1)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    net.load_state_dict({k: v.half().float() if v.is_floating_point() else v for k, v in net.state_dict().items()})
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    save_file({k: v.half() if v.is_floating_point() else v for k, v in net.state_dict().items()}, path)
    return net, path


def _maps(body, x):
    with torch.no_grad():
        return body.eval()(x)


def test_maps_are_those_of_torchvisions_network_on_a_normalised_picture(classifier):
    net, path = classifier
    picture = torch.rand(2, 3, 33, 47)  # in [0, 1], as torchvision's own preprocessing takes it
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        x = net.relu(net.bn1(net.conv1((picture - mean.view(3, 1, 1)) / std.view(3, 1, 1))))
        expected = [x]
        x = net.maxpool(x)
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
            x = stage(x)
            expected.append(x)
    for ours, theirs in zip(_maps(Body("resnet18", path), picture * 2 - 1), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "arch",
    ["resnet18", pytest.param("resnet50", marks=pytest.mark.slow), "mobilenet_v3_small"],
)
@pytest.mark.parametrize("size", [(1, 1), (2, 65), (33, 31)])
def test_channels_and_strides_tell_the_truth_at_any_size(arch, size):
    body = Body(arch)
    maps = _maps(body, torch.zeros(1, 3, *size))
    for features, channels, stride in zip(maps, body.channels, body.strides, strict=True):
        assert features.shape == (1, channels, -(-size[0] // stride), -(-size[1] // stride))


def test_a_grey_picture_answers_as_the_same_picture_in_colour_borders_included(classifier):
    _, path = classifier
    grey = torch.rand(2, 1, 21, 34) * 2 - 1
    in_colour = _maps(Body("resnet18", path), grey.expand(-1, 3, -1, -1))
    for ours, theirs in zip(_maps(Body("resnet18", path, in_channels=1), grey), in_colour, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("channels", [2, 4, 6])
def test_equal_pictures_side_by_side_answer_as_one(classifier, channels):
    _, path = classifier
    one = torch.rand(1, 3 if channels == 6 else 1, 20, 20) * 2 - 1
    expected = _maps(Body("resnet18", path), one.expand(-1, 3, -1, -1))
    many = one.repeat(1, channels // one.shape[1], 1, 1)
    for ours, theirs in zip(_maps(Body("resnet18", path, in_channels=channels), many), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_initial_tells_where_the_weights_came_from(classifier):
    _, path = classifier
    assert Body().initial == {"kind": "none", "path": None, "sha256": None}
    initial = Body("resnet18", str(path)).initial
    assert initial["kind"] == "file"
    assert initial["path"] == str(path)
    assert len(initial["sha256"]) == 64


def test_weights_of_another_network_are_refused_by_name(classifier):
    _, path = classifier
    with pytest.raises(WeightsError, match=r"resnet18\.safetensors.*missing: layer1\.2\."):
        Body("resnet34", path)


def test_imagenet_weights_without_a_network_say_how_to_go_on(tmp_path, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(WeightsError, match="--weights none"):
        Body("resnet18", "imagenet")


def test_imagenet_weights_come_from_the_cache(tmp_path, monkeypatch, classifier):
    net, _ = classifier
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    torch.save(net.state_dict(), tmp_path / "checkpoints" / "resnet18-f37072fd.pth")
    body = Body("resnet18", "imagenet")
    assert body.initial["kind"] == "imagenet"
    assert torch.equal(body.net.conv1.weight, net.conv1.weight)


def test_impossible_bodies_and_pictures_are_told():
    with pytest.raises(UserError, match=r"'resnet19' is unknown.*such as resnet1"):
        Body("resnet19")
    with pytest.raises(UserError, match="0 channels"):
        Body(in_channels=0)
    with pytest.raises(UserError, match="with 1 channels were given to a body made for 3"):
        Body()(torch.zeros(1, 1, 8, 8))


def test_a_frozen_body_stays_still_through_train_and_a_step():
    body = Body()
    body.freeze()
    rest = nn.Conv2d(512, 1, 1)
    before = {name: value.clone() for name, value in body.state_dict().items()}
    optimizer = torch.optim.AdamW([*body.parameters(), *rest.parameters()], lr=0.1, weight_decay=0.1)
    body.train()
    rest(body(torch.randn(2, 3, 32, 32))[-1]).square().mean().backward()
    optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in body.state_dict().items())

    body.unfreeze()
    body.train()
    rest(body(torch.randn(2, 3, 64, 64))[-1]).square().mean().backward()
    optimizer.step()
    moved = {name for name, value in body.state_dict().items() if not torch.equal(value, before[name])}
    assert {"net.conv1.weight", "net.bn1.running_mean"} <= moved


def test_a_copy_is_alike_and_apart():
    body = Body()
    body.freeze()
    twin = copy.deepcopy(body)
    x = torch.rand(1, 3, 16, 16)
    assert torch.equal(_maps(body, x)[-1], _maps(twin, x)[-1])
    with torch.no_grad():
        twin.net.conv1.weight.zero_()
    assert body.net.conv1.weight.abs().sum() > 0
    assert not twin.train().net.bn1.training
    assert Body(**body.config).state_dict().keys() == body.state_dict().keys()


@pytest.mark.parametrize("arch", ["resnet18", "resnet34"])
def test_real_imagenet_weights_load_from_half_precision(shared, arch):
    body = Body(arch, shared / "data" / "weights" / f"{arch}.safetensors")
    maps = _maps(body, torch.rand(1, 3, 64, 64) * 2 - 1)
    assert all(features.isfinite().all() for features in maps)
    assert body.net.conv1.weight.dtype == torch.float32
