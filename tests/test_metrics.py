import lpips
import pytest
import torch
from torchvision.models import alexnet

from gangen import images, metrics, weights
from gangen.errors import WeightsError
from gangen.metrics import LPIPS, STANDARD, Metric, Metrics


def noise(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_l1_and_psnr_of_a_known_difference():
    target = torch.zeros(2, 3, 8, 8)
    output = target + torch.tensor([0.2, 0.02]).view(2, 1, 1, 1)  # 0.1 and 0.01 on a scale of 0..1
    assert metrics.l1(output, target).tolist() == pytest.approx([0.1, 0.01])
    assert metrics.psnr(output, target).tolist() == pytest.approx([20, 40], abs=1e-3)


def test_equal_pictures_are_perfect():
    pictures = noise(2, 3, 16, 16)
    assert metrics.l1(pictures, pictures).tolist() == [0, 0]
    assert metrics.psnr(pictures, pictures).tolist() == [100, 100]
    assert metrics.ssim(pictures, pictures).tolist() == pytest.approx([1, 1])


def test_ssim_follows_the_published_formula_on_flat_pictures():
    """On flat pictures only the luminance term is left: (2ab + c1) / (a² + b² + c1)."""
    a, b, c1 = 0.01, 0.03, 0.01**2
    pictures = [torch.full((1, 3, 16, 16), 2 * value - 1) for value in (a, b)]
    assert metrics.ssim(*pictures).item() == pytest.approx((2 * a * b + c1) / (a * a + b * b + c1), abs=1e-3)


def test_one_picture_alone_and_in_a_batch_get_the_same_values():
    output, target = noise(3, 3, 24, 20), noise(3, 3, 24, 20, seed=1)
    for metric in STANDARD:
        together = metric(output, target)
        alone = torch.cat([metric(output[i : i + 1], target[i : i + 1]) for i in range(3)])
        assert together.shape == (3,)
        assert torch.allclose(together, alone, atol=1e-5), metric.name


def test_values_outside_the_range_are_judged_as_they_would_be_saved():
    output, target = 3 * noise(2, 3, 16, 16), noise(2, 3, 16, 16, seed=1)
    for metric in STANDARD:
        assert torch.equal(metric(output, target), metric(output.clamp(-1, 1), target)), metric.name


def test_saturation_tells_a_faded_picture_from_its_target():
    target = noise(1, 3, 8, 8)
    faded = images.luminance(target).expand(-1, 3, -1, -1)
    values = {metric.name: metric(faded, target).item() for metric in STANDARD}
    assert values["saturation"] == pytest.approx(0, abs=1e-3)
    assert values["saturation_target"] > 0.5
    assert values["saturation_gap"] == pytest.approx(values["saturation_target"], abs=1e-3)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"\(1, 3, 8, 8\).*\(1, 3, 8, 9\)"):
        metrics.l1(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 9))
    with pytest.raises(ValueError, match="at least 6x6 pixels, these are 9x5"):
        metrics.ssim(torch.zeros(1, 3, 5, 9), torch.zeros(1, 3, 5, 9))


def test_means_weigh_every_picture_alike_whatever_the_batches():
    output, target = noise(5, 3, 16, 16), noise(5, 3, 16, 16, seed=1)
    whole = Metrics()
    whole.update(output, target)
    pieces = Metrics()
    for part in (slice(0, 4), slice(4, 5)):
        pieces.update(output[part], target[part])
    assert pieces.compute() == pytest.approx(whole.compute(), rel=1e-6)
    assert whole.compute()["l1"] == pytest.approx(metrics.l1(output, target).mean().item())
    assert list(whole.compute()) == [metric.name for metric in STANDARD] == list(whole.protocols)


def test_processes_add_up_and_fillers_do_not_count():
    output, target = noise(4, 3, 16, 16), noise(4, 3, 16, 16, seed=1)
    output[3] = float("nan")
    ranks = [Metrics(), Metrics()]
    ranks[0].update(output[:2], target[:2])
    ranks[1].update(output[2:], target[2:], counted=torch.tensor([True, False]))
    together = ranks[0].compute(ranks[0].totals + ranks[1].totals)
    assert together["psnr"] == pytest.approx(metrics.psnr(output[:3], target[:3]).mean().item())


def test_metrics_start_again_and_without_pictures_are_not_a_number():
    meter = Metrics()
    meter.update(noise(1, 3, 16, 16), noise(1, 3, 16, 16))
    meter.reset()
    assert all(value != value for value in meter.compute().values())
    with pytest.raises(ValueError, match="names of their own"):
        Metrics([metrics.L1, Metric("l1", metrics.psnr, "higher", {})])


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
    with pytest.raises(ValueError, match="31 px or more"):
        ours(noise(1, 3, 30, 31), noise(1, 3, 30, 31))


@pytest.mark.parametrize(("net", "features", "side"), [("alex", "alexnet", 64), ("vgg", "vgg16", 32)])
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
