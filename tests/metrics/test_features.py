import builtins
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torchvision.models import alexnet, resnet18
from torchvision.transforms.v2 import functional as F

from gangen import weights
from gangen.errors import UserError, WeightsError
from gangen.metrics import DISTS, classifier, feature_net, inception
from tests.metrics.noise import noise


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    torch.manual_seed(0)
    network = resnet18(weights=None).eval()
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(network.state_dict(), path)
    network.fc = nn.Identity()
    return path, network


def test_a_stand_in_is_torchvisions_network_up_to_its_pooled_features(resnet):
    path, network = resnet
    net = classifier("resnet18", path, size=32)
    pictures = 2 * noise(2, 3, 32, 32)
    unit = (pictures.clamp(-1, 1) + 1) / 2
    with torch.no_grad():
        expected = network(F.normalize(unit, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    assert expected.shape == (2, 512)
    assert torch.allclose(net(pictures), expected, atol=1e-5)
    assert weights.fingerprint(path).startswith(net.protocol["weights"])
    assert "resnet18" in net.protocol["network"]


def test_a_network_that_was_trained_on_other_levels_sees_those(resnet, monkeypatch):
    monkeypatch.setattr(weights, "_TRAINED_ON_SIGNED", ("resnet18",))
    pictures = noise(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(classifier("resnet18", resnet[0], size=32)(pictures), resnet[1](pictures), atol=1e-5)


def test_pictures_of_any_size_are_brought_to_the_networks_own(resnet):
    net = classifier("resnet18", resnet[0], size=32)
    pictures = noise(1, 3, 50, 41)
    assert torch.allclose(net(pictures), net(F.resize(pictures, [32, 32], antialias=True)))
    assert net.protocol["resize"] == "bilinear with antialias to 32x32"


def test_convolutions_alone_are_enough_for_alexnet(tmp_path):
    torch.manual_seed(0)
    network = alexnet(weights=None)
    torch.save({f"features.{k}": v for k, v in network.features.state_dict().items()}, tmp_path / "alex.pth")
    net = classifier("alexnet", tmp_path / "alex.pth", size=64)
    unit = (noise(2, 3, 64, 64) + 1) / 2
    seen = network.features(F.normalize(unit, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    assert torch.allclose(net(noise(2, 3, 64, 64)), seen.mean(dim=(2, 3)), atol=1e-5)


def test_building_a_network_leaves_the_random_numbers_of_a_training_alone(resnet):
    before = torch.get_rng_state()
    classifier("resnet18", resnet[0])
    with pytest.raises(WeightsError, match=r"resnet18\.pth: these weights are not those of torch-fidelity"):
        inception(resnet[0])
    assert torch.equal(torch.get_rng_state(), before)


def test_what_cannot_be_a_feature_network_is_refused(resnet, tmp_path):
    with pytest.raises(UserError, match="resnet1000 is no classifier"):
        feature_net("resnet1000", resnet[0])
    with pytest.raises(UserError, match="swin_t has neither"):
        feature_net("swin_t", resnet[0])
    with pytest.raises(UserError, match="size=16"):
        classifier("resnet18", resnet[0], size=16)
    with pytest.raises(WeightsError, match="made for another network"):
        classifier("resnet34", resnet[0])
    torch.jit.script(nn.Linear(2, 2)).save(tmp_path / "script.pt")
    for name in ("inception", "resnet18"):
        with pytest.raises(WeightsError, match="executed, which is refused"):
            feature_net(name, tmp_path / "script.pt")


def test_without_torch_fidelity_its_extra_is_named(resnet, monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("torch_fidelity"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"pip install 'gangen\[fid\]'"):
        inception(resnet[0])


@pytest.mark.slow
def test_inceptions_features_are_those_of_torch_fidelity(tmp_path):
    """Of random weights: where they can be had, the published ones are read in the same way."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Untrained(FeatureExtractorInceptionV3):
        def load_state_dict(self, state):
            pass

    torch.manual_seed(0)
    torch.save({}, tmp_path / "empty.pth")
    theirs = Untrained("x", ["2048"], feature_extractor_weights_path=tmp_path / "empty.pth")
    for module in theirs.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    torch.save(theirs.state_dict(), tmp_path / "inception.pth")
    ours = inception(tmp_path / "inception.pth")
    levels = (torch.rand(2, 3, 40, 30) * 255).round()
    expected = theirs(levels.to(torch.uint8))[0]
    assert expected.std() > 1e-3
    assert torch.allclose(ours(levels / 127.5 - 1), expected)
    assert weights.fingerprint(tmp_path / "inception.pth").startswith(ours.protocol["weights"])


def test_dists_is_that_of_torchmetrics_which_would_download(tmp_path, monkeypatch):
    from torchmetrics.functional.image import dists
    from torchvision.models import vgg16

    torch.manual_seed(0)
    with torch.device("meta"):
        features = vgg16(weights=None).features
    features = features.to_empty(device="cpu")
    for tensor in features.parameters():
        nn.init.normal_(tensor, std=0.02 if tensor.ndim == 1 else (2 / tensor[0].numel()) ** 0.5)
    torch.save({f"features.{k}": v for k, v in features.state_dict().items()}, tmp_path / "vgg.pth")
    monkeypatch.setattr(dists, "vgg16", lambda weights: SimpleNamespace(features=features))
    theirs = dists.DISTSNetwork()
    monkeypatch.undo()
    ours = DISTS(weights=tmp_path / "vgg.pth")
    output, target = noise(2, 3, 40, 33), noise(2, 3, 40, 33, seed=1).sign()
    expected = theirs((output + 1) / 2, (target + 1) / 2)
    assert expected.min() > 0.01
    assert torch.allclose(ours(output, target), expected, atol=1e-6)
    assert ours(output[:1], output[:1]).tolist() == pytest.approx([0], abs=1e-5)
    assert weights.fingerprint(tmp_path / "vgg.pth").startswith(ours.protocol["weights"])
