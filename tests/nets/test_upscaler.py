import copy
import json

import numpy as np
import pytest
import torch
from PIL import Image

from gangen import images
from gangen.data import embedded_photographs
from gangen.errors import RunError, UserError
from gangen.nets import Body, ImageHead, Residual, UNet, Upscaler, enlarge


def upscaler(scale=4, width=8, blocks=2):
    """One that has learned something: the last layer of a new one answers zero."""
    torch.manual_seed(0)
    network = Upscaler(scale, width=width, blocks=blocks)
    torch.nn.init.normal_(network.shuffle[0].weight, std=0.05)
    return network.eval()


def residual(scale=1):
    torch.manual_seed(0)
    network = Residual(UNet(Body("resnet18"), ImageHead(3, output_range=None), width=4), scale)
    torch.nn.init.normal_(network.unet.head[0].weight, std=0.05)
    return network.eval()


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_new_upscaler_enlarges_as_pillow_does(scale):
    small = embedded_photographs()[0][1].resize((40, 30), Image.Resampling.BICUBIC)
    picture = Image.eval(small, lambda level: 60 + level // 2)  # nothing overshoots, where Pillow would clamp
    large = Upscaler(scale, width=4, blocks=1)(images.to_tensor(picture)[None])[0]
    expected = picture.resize((40 * scale, 30 * scale), Image.Resampling.BICUBIC)
    difference = (large.detach() - images.to_tensor(expected)).abs() * 127.5
    assert difference.max() < 1.2  # Pillow rounds twice
    assert difference.mean() < 0.4


@pytest.mark.parametrize("scale", [1, 2])
def test_a_new_residual_unet_adds_nothing(scale):
    network = Residual(UNet(Body("resnet18"), ImageHead(3, output_range=None), width=4), scale).eval()
    picture = torch.rand(1, 3, 20, 30)
    with torch.no_grad():
        assert torch.equal(network(picture), picture if scale == 1 else enlarge(picture, 2))


@pytest.mark.parametrize(
    ("make", "scale"), [(upscaler, 2), (upscaler, 3), (upscaler, 4), *((residual, n) for n in (1, 2, 3, 4))]
)
def test_pictures_of_every_size_become_exactly_so_much_larger(make, scale):
    network = make(scale)
    for size in ((1, 1), (1, 9), (17, 31), (40, 24)):
        with torch.no_grad():
            assert network(torch.rand(2, 3, *size)).shape == (2, 3, scale * size[0], scale * size[1])


@pytest.mark.parametrize("make", [upscaler, residual, lambda: residual(3)])
def test_a_copy_and_a_saved_and_loaded_one_answer_bit_for_bit(make, tmp_path):
    network = make()
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    again = type(network).from_config(json.loads(json.dumps(network.config)))
    again.load_state_dict(torch.load(tmp_path / "weights.pth", weights_only=True))
    picture = torch.rand(1, 3, 19, 23)
    with torch.no_grad():
        expected = network(picture)
        assert torch.equal(copy.deepcopy(network)(picture), expected)
        assert torch.equal(again.eval()(picture), expected)
    assert again.scale == network.scale


def test_a_place_depends_on_its_surroundings_alone():
    network = upscaler(2, blocks=2)
    picture = torch.rand(1, 3, 40, 40)
    other = picture.clone()
    other[..., :10] = 0
    with torch.no_grad():
        changed = (network(picture) != network(other)).any(dim=1)[0].any(dim=0)
    assert changed[:20].all()
    assert not changed[2 * (10 + 2 * 2 + 3) :].any()
    assert network.tiles_exactly
    assert residual().tiles_exactly


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_it_learns_what_bicubic_cannot(scale):
    """Stripes of two pixels, of which the small picture has only grey, tell where they are by a colour."""
    torch.manual_seed(0)
    target = torch.where(torch.arange(24) // 2 % 2 == 0, 0.8, -0.8).expand(1, 3, 24, 24)
    small = torch.nn.functional.avg_pool2d(target, scale) + 0.1
    network = Upscaler(scale, width=16, blocks=2)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    for _ in range(150):
        loss = (network(small) - target).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.3 * (enlarge(small, scale) - target).abs().mean()


@pytest.mark.parametrize("scale", [0, 1, 5, True, "4"])
def test_other_scales_are_refused(scale):
    with pytest.raises(UserError, match="scale of"):
        Upscaler(scale)


@pytest.mark.parametrize("options", [{"width": 0}, {"blocks": 0}, {"width": True}, {"blocks": 1.5}])
def test_impossible_shapes_are_refused(options):
    with pytest.raises(UserError, match=next(iter(options))):
        Upscaler(4, **options)


def test_configs_of_something_else_are_refused():
    with pytest.raises(RunError, match="an upscaler"):
        Upscaler.from_config({"scale": 4, "width": 8})
    with pytest.raises(RunError, match="residual UNet"):
        Residual.from_config({"scale": 4})


@pytest.mark.slow
@pytest.mark.parametrize("make", [lambda: upscaler(3), lambda: residual(2)])
def test_onnx_with_open_sizes_answers_alike(make, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from gangen.export import export_onnx

    network = make()
    done = export_onnx(network, tmp_path / "net.onnx", size=64)
    assert done.sizes == "any"
    session = onnxruntime.InferenceSession(done.path, providers=["CPUExecutionProvider"])
    picture = torch.rand(1, 3, 21, 34) * 2 - 1
    answer = session.run(None, {"input": picture.numpy()})[0]
    with torch.no_grad():
        assert np.abs(answer - network(picture).numpy()).max() < 1e-4
