import lpips
import pytest
import torch
from torchvision.models import alexnet

from gangen import images, weights
from gangen.errors import UserError, WeightsError
from gangen.metrics import LPIPS, STANDARD, Metrics
from tests.metrics.noise import noise


@pytest.fixture(scope="module")
def alex(tmp_path_factory):
    """AlexNet's shape with random weights in a file, and the reference network with the same weights."""
    torch.manual_seed(0)
    network = alexnet(weights=None)
    path = tmp_path_factory.mktemp("weights") / "alexnet.pth"
    torch.save(network.state_dict(), path)
    return path, reference("alex", network.features.state_dict())


def reference(net, features, head=None):
    """The lpips package's own network, with the given features and its own head or a given one."""
    network = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    slices = {
        name: f"{number}.{kind}" for name in network.net.state_dict() for _, number, kind in [name.split(".")]
    }
    network.net.load_state_dict({name: features[key] for name, key in slices.items()})
    if head:
        network.load_state_dict(head, strict=False)
    return network.eval()


def agrees(ours, theirs, output, target):
    values = ours(output, target)
    with torch.no_grad():
        expected = theirs(output, target).flatten()
    assert values.shape == (len(output),)
    assert expected.min() > 1e-3
    assert torch.allclose(values, expected, atol=1e-4), (values - expected).abs().max()


def test_lpips_agrees_with_its_authors_package(alex):
    path, theirs = alex
    output, target = noise(2, 3, 64, 48), noise(2, 3, 64, 48, seed=1)
    agrees(LPIPS("alex", weights=path), theirs, output, target)


def test_lpips_of_equal_pictures_is_zero_and_its_protocol_names_the_weights(alex):
    ours = LPIPS("alex", weights=alex[0])
    pictures = noise(2, 3, 40, 40)
    assert ours(pictures, pictures).tolist() == [0, 0]
    assert ours.protocol["network"] == "alex"
    assert weights.fingerprint(alex[0]).startswith(ours.protocol["weights"])
    meter = Metrics([*STANDARD, ours])
    meter.update(pictures, -pictures)
    assert meter.compute()["lpips"] > 0


def test_lpips_refuses_other_weights_and_pictures_that_are_too_small(alex, tmp_path):
    torch.save(torch.nn.Conv2d(3, 64, 3).state_dict(), tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"other\.pth"):
        LPIPS("alex", weights=tmp_path / "other.pth")
    ours = LPIPS("alex", weights=alex[0])
    assert ours(noise(1, 3, 31, 31), noise(1, 3, 31, 31, seed=1)) > 0
    with pytest.raises(UserError, match="at least 31x31"):
        ours(noise(1, 3, 30, 31), noise(1, 3, 30, 31))


@pytest.mark.parametrize(
    ("net", "features", "side"),
    [("alex", "alexnet", 64), pytest.param("vgg", "vgg16", 32, marks=pytest.mark.slow)],
)
def test_lpips_agrees_on_real_pictures_with_real_weights(shared, net, features, side):
    folder = shared / "data" / "weights"
    state = weights.read(folder / f"{features}_features.safetensors")
    head = weights.read(folder / f"lpips_head_{net}.pth")
    theirs = reference(net, {name.removeprefix("features."): value for name, value in state.items()}, head)
    ours = LPIPS(net, weights=folder / f"{features}_features.safetensors", head=folder / f"lpips_head_{net}.pth")
    paths = sorted((shared / "data" / "openmoji" / "val" / "color").iterdir())[:20]
    target = torch.stack([images.to_tensor(images.read(path).resize((side, side))) for path in paths])
    sketches = [path.parent.with_name("sketch") / path.name for path in paths]
    output = torch.stack([images.to_tensor(images.read(path).resize((side, side))) for path in sketches])
    output = (output + 0.2 * noise(*output.shape)).clamp(-1, 1)
    agrees(ours, theirs, output, target)
