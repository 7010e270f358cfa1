import importlib.util

import pytest
import torch
from torch import nn

from gangen.errors import RunError, UserError
from gangen.export import export_onnx
from gangen.nets import Body, ClassHead, Colorizer, ImageHead, NoiseGenerator, Siamese, UNet, chroma_unet
from gangen.pipeline import Pipeline

for name in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(name, reason="the export extra is not installed")


class Small(nn.Module):
    """Halves, doubles and crops, as a UNet does."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.up = nn.Conv2d(8, 12, 1)

    def forward(self, x):
        enlarged = nn.functional.pixel_shuffle(self.up(self.down(x)), 2)
        return torch.tanh(enlarged[..., : x.shape[-2], : x.shape[-1]])


class Picky(nn.Module):
    """Takes multiples of 32 only."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        if x.shape[-1] % 32 or x.shape[-2] % 32:
            raise ValueError("not a multiple of 32")
        return self.conv(x)


class Reducing(nn.Module):
    """Does something else with pictures of more than 100 pixels."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        return self.conv(x) if x.shape[-1] <= 100 else self.conv(-x)


class Fickle(nn.Module):
    def forward(self, x):
        return x + torch.rand_like(x)


class Untraceable(nn.Module):
    def forward(self, x):
        return x if x.sum().item() > 0 else -x


def run(path, picture):
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [each.name for each in (*session.get_inputs(), *session.get_outputs())] == ["input", "output"]
    return torch.from_numpy(session.run(None, {"input": picture.numpy()})[0])


@pytest.mark.slow
def test_a_unet_takes_pictures_of_any_size_and_answers_alike(tmp_path):
    torch.manual_seed(0)
    body, head = Body("resnet18", weights="none"), ImageHead(3, headroom=0.3)
    network = UNet(body, head, width=4, norm="skips", bottleneck=True).eval()
    done = export_onnx(Pipeline(network), tmp_path / "unet.onnx", size=64)
    assert (done.path, done.sizes) == (tmp_path / "unet.onnx", "any")
    assert done.difference < 1e-4
    assert len({shape[2:] for shape in done.checked}) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["unet.onnx"]  # the weights are inside
    picture = torch.rand(1, 3, 41, 70) * 2 - 1  # a size that the export did not see
    with torch.no_grad():
        assert (run(done.path, picture) - network(picture)).abs().max() < 1e-4


@pytest.mark.slow
def test_a_network_for_one_size_only_in_multiples(tmp_path):
    network = Picky()
    done = export_onnx(network, tmp_path / "picky.onnx", size=70)
    assert done.sizes == "multiples of 32"
    assert all(height % 32 == width % 32 == 0 for _, _, height, width in done.checked)
    picture = torch.rand(2, 3, 128, 160)
    with torch.no_grad():
        assert torch.allclose(run(done.path, picture), network(picture), atol=1e-5)


@pytest.mark.slow
def test_a_fixed_size(tmp_path):
    done = export_onnx(Small(), tmp_path / "small.onnx", size=40, dynamic=False)
    assert (done.sizes, done.checked) == ("fixed", [(1, 3, 40, 40)])
    assert run(done.path, torch.zeros(1, 3, 40, 40)).shape == (1, 3, 40, 40)
    with pytest.raises(Exception, match="invalid dimensions"):
        run(done.path, torch.zeros(1, 3, 48, 40))


@pytest.mark.slow
def test_the_network_stays_as_it_is(tmp_path, capfd):
    network = Small().train()
    export_onnx(network, tmp_path / "small.onnx", size=64)
    assert network.training
    assert network.down.weight.requires_grad
    told = capfd.readouterr()
    assert told.out == ""


@pytest.mark.slow
def test_a_file_that_answers_otherwise_is_not_left_behind(tmp_path):
    (tmp_path / "old.onnx").write_bytes(b"old")
    with pytest.raises(RunError, match=r"Fickle cannot be exported.*differs from the network"):
        export_onnx(Fickle(), tmp_path / "old.onnx", size=64)
    assert [path.name for path in tmp_path.iterdir()] == ["old.onnx"]
    assert (tmp_path / "old.onnx").read_bytes() == b"old"


def test_a_network_that_cannot_be_followed_is_refused(tmp_path):
    with pytest.raises(RunError, match="Untraceable cannot be exported"):
        export_onnx(Untraceable(), tmp_path / "no.onnx", size=64)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_what_larger_pictures_go_through_is_compared_too(tmp_path):
    with pytest.raises(RunError, match=r"Reducing cannot be exported.*differs.*--fixed"):
        export_onnx(Reducing(), tmp_path / "no.onnx", size=64)


def colorizer():
    torch.manual_seed(0)
    return Colorizer(chroma_unet(Body("resnet18", in_channels=1), width=4), view=32)


def test_a_colorizer_is_of_one_size(tmp_path):
    with pytest.raises(UserError, match=r"Colorizer looks at large pictures reduced.*--fixed"):
        export_onnx(colorizer(), tmp_path / "any.onnx", size=64)


@pytest.mark.slow
@pytest.mark.parametrize("size", [32, 80])
def test_a_colorizer_of_one_size_answers_alike(tmp_path, size):
    network = colorizer().eval()
    done = export_onnx(network, tmp_path / "one.onnx", size=size, dynamic=False)
    picture = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(run(done.path, picture), network(picture), atol=1e-3, rtol=0)


def test_a_missing_extra_names_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'pip install "gangen\[export\]"'):
        export_onnx(Small(), tmp_path / "small.onnx")


@pytest.mark.parametrize(("size", "dynamic"), [(63, True), (0, False)])
def test_an_impossible_size_is_refused(tmp_path, size, dynamic):
    with pytest.raises(UserError, match=f"size {size} is impossible"):
        export_onnx(Small(), tmp_path / "small.onnx", size=size, dynamic=dynamic)


@pytest.mark.slow
@pytest.mark.parametrize("dynamic", [True, False])
def test_a_generator_from_noise_takes_noise(tmp_path, dynamic):
    torch.manual_seed(0)
    generator = NoiseGenerator(8, latent=5, width=4).eval()
    done = export_onnx(Pipeline(generator), tmp_path / "noise.onnx", dynamic=dynamic)
    noise = torch.randn(4 if dynamic else 1, 5)
    with torch.no_grad():
        torch.testing.assert_close(run(done.path, noise), generator(noise), atol=1e-4, rtol=0)


def test_a_network_that_compares_is_refused_with_what_works(tmp_path):
    with pytest.raises(UserError, match=r"compares two pictures .*Pipeline\.compare"):
        export_onnx(Siamese(Body("resnet18", "none"), ClassHead(2)), tmp_path / "x.onnx", size=64)
