"""Bodies that are no ResNets: cut from torchvision's classifiers, or timm's."""

import copy

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models

from gangen.errors import UserError, WeightsError
from gangen.nets import Body, ClassHead, Classifier, MaskHead, UNet, classifiers, cut, layer_groups
from gangen.weights import normalisation

ARCHS = [
    "mobilenet_v3_small",
    "squeezenet1_1",
    "timm/convnext_atto",
    *(
        pytest.param(arch, marks=pytest.mark.slow)
        for arch in ("alexnet", "swin_t", "vgg11_bn", "googlenet", "timm/dla34")
    ),
]


@pytest.fixture(scope="module", params=ARCHS)
def body(request):
    torch.manual_seed(0)
    return Body(request.param).eval()


@pytest.mark.parametrize("size", [(1, 1), (33, 20), (64, 96)])
def test_a_unet_and_a_classifier_stand_on_it_at_any_size(body, size):
    x = torch.rand(2, 3, *size)
    with torch.no_grad():
        assert UNet(body, MaskHead(4), width=4).eval()(x).shape == (2, 4, *size)
        assert Classifier(body, ClassHead(5, hidden=8)).eval()(x).shape == (2, 5)


def test_all_of_it_learns_and_the_groups_are_all_of_it(body):
    net = UNet(copy.deepcopy(body), MaskHead(2), width=4).train()
    net(torch.rand(2, 3, 64, 64)).square().mean().backward()
    idle = {name for name, p in net.named_parameters() if p.grad is None}
    assert idle == set()
    groups = layer_groups(net)
    assert len(groups) == 3
    assert all(len(group) > 1 for group in groups)
    assert sum(map(len, groups)) == len(list(net.parameters()))


def test_a_config_rebuilds_it(body):
    other = Body(**body.config).eval()
    other.load_state_dict(body.state_dict())
    x = torch.rand(1, 3, 40, 40)
    for one, twin in zip(body(x), other(x), strict=True):
        assert torch.equal(one, twin)


@pytest.mark.parametrize("arch", ["mobilenet_v3_small", pytest.param("densenet121", marks=pytest.mark.slow)])
def test_its_coarsest_map_is_what_the_classifier_pools(arch, tmp_path):
    """Under torchvision's own weights and normalisation, whatever lies between."""
    torch.manual_seed(0)
    net = getattr(models, arch)(weights=None).eval()
    save_file(net.state_dict(), tmp_path / "whole.safetensors")
    body = Body(arch, tmp_path / "whole.safetensors").eval()
    picture = torch.rand(1, 3, 96, 96)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        expected = net.features((picture - mean.view(3, 1, 1)) / std.view(3, 1, 1))
        if arch == "densenet121":
            expected = torch.relu(expected)
        torch.testing.assert_close(body(2 * picture - 1)[-1], expected, rtol=1e-4, atol=1e-5)
    # and without the classifier's end
    own = {name: value for name, value in net.state_dict().items() if not name.startswith("classifier")}
    save_file(own, tmp_path / "body.safetensors")
    assert Body(arch, tmp_path / "body.safetensors").initial["kind"] == "file"
    with pytest.raises(WeightsError, match="another network"):
        Body("resnet18", tmp_path / "body.safetensors")


def test_pictures_are_normalised_as_each_classifiers_weights_ask():
    found = {arch: models.get_model_weights(arch).DEFAULT.transforms() for arch in classifiers()}
    assert len(found) > 50
    for arch, asked in found.items():
        # torchvision converts inside these two, where it loads their weights itself
        inside = arch in ("googlenet", "inception_v3")
        expected = [[0.5] * 3] * 2 if inside else [asked.mean, asked.std]
        assert [list(values) for values in normalisation(arch)] == expected, arch
    body = Body("resnet18")
    assert body.centre.flatten().tolist() == pytest.approx([2 * mean - 1 for mean in normalisation("resnet18")[0]])


def test_a_body_that_needs_larger_pictures_is_made_without_a_word(capfd):
    cut._find.cache_clear()
    assert Body("vgg11").channels[-1] == 512
    assert capfd.readouterr() == ("", "")


def test_timms_own_layout_of_weights_is_read(tmp_path):
    timm = pytest.importorskip("timm")
    net = timm.create_model("convnext_atto").eval()
    save_file(net.state_dict(), tmp_path / "weights.safetensors")
    body = Body("timm/convnext_atto", tmp_path / "weights.safetensors").eval()
    x = torch.rand(1, 3, 64, 64)
    mean, std = (torch.tensor(net.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        torch.testing.assert_close(body(2 * x - 1)[-1], net.forward_intermediates((x - mean) / std)[1][-1])


@pytest.mark.slow
def test_blocks_are_never_cut_within():
    """A block's inner maps are wider than what it hands on: those of the inverted bottleneck are not taken."""
    assert Body("mobilenet_v2").channels == (16, 24, 32, 96, 1280)
    assert Body("densenet121").channels == (64, 256, 512, 1024, 1024)
    assert Body("swin_t").channels == (96, 192, 384, 768)


def test_making_a_body_draws_nothing_beyond_its_weights():
    """The weights of a seed do not depend on whether the architecture was cut before."""
    torch.manual_seed(0)
    one = Body("resnet18")
    torch.manual_seed(0)
    other = Body("resnet18")
    assert all(
        torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )


def test_networks_without_maps_are_refused():
    assert "vit_b_16" in classifiers()
    with pytest.raises(UserError, match=r"vit_b_16.*one size only"):
        Body("vit_b_16")
    pytest.importorskip("timm")
    with pytest.raises(UserError, match=r"timm/vit_tiny.*no feature maps of several resolutions"):
        Body("timm/vit_tiny_patch16_224")
    with pytest.raises(UserError, match=r"timm/swin_tiny.*one size only"):
        Body("timm/swin_tiny_patch4_window7_224")
    with pytest.raises(UserError, match=r"timm/resnetty.*cannot be had"):
        Body("timm/resnetty")


@pytest.mark.slow
def test_only_bodies_that_look_around_may_be_tiled():
    assert UNet(Body("resnet18"), MaskHead(2)).tiles_exactly
    assert not UNet(Body("mobilenet_v3_small"), MaskHead(2)).tiles_exactly, (
        "squeeze and excitation pools everything"
    )
    assert not UNet(Body("regnet_y_400mf"), MaskHead(2)).tiles_exactly
    pytest.importorskip("timm")
    assert not UNet(Body("timm/convnext_atto"), MaskHead(2)).tiles_exactly


def test_first_layers_for_other_channels_keep_their_stride():
    body = Body("squeezenet1_1", in_channels=6)
    conv = next(part for part in body.modules() if isinstance(part, nn.Conv2d))
    assert (conv.in_channels, conv.stride, conv.kernel_size, conv.padding) == (6, (2, 2), (3, 3), (0, 0))
    assert conv.bias is not None
    assert body.eval()(torch.rand(1, 6, 70, 71))[0].shape[-2:] == (35, 36)
