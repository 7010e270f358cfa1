import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F
from torchvision.models.vgg import cfgs, make_layers

from gangen import layout
from gangen.errors import UserError, WeightsError
from gangen.losses import Perceptual, Restyle, gram


@pytest.fixture(scope="module")
def vgg(tmp_path_factory):
    """Random VGG-16 convolutions in torchvision's layout, and their file in half precision."""
    torch.manual_seed(0)
    features = make_layers(cfgs["D"])
    for layer in features:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
            layer.weight.data = layer.weight.data.half().float()
            nn.init.zeros_(layer.bias)
    path = tmp_path_factory.mktemp("weights") / "vgg16.safetensors"
    save_file({f"features.{name}": value.half() for name, value in features.state_dict().items()}, path)
    return features.eval(), path


@pytest.fixture
def looks(vgg):
    return Perceptual(vgg[1])


def _pictures(size=32, channels=3):
    return torch.rand(2, channels, size, size) * 2 - 1


def test_the_sum_of_its_parts(vgg, monkeypatch):
    monkeypatch.setattr(layout, "WEIGHTS_A_PLACE", 512)  # as on CPUs with AVX512
    features, path = vgg
    output, target = _pictures(), _pictures()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))

    def at(place, x):
        return features[: place + 1](((x + 1) / 2 - mean) / std)

    expected = 0.5 * F.l1_loss(output, target)
    for place, weight in ((8, 0.3), (15, 2.0)):  # relu2_2, relu3_3
        ours, theirs = at(place, output), at(place, target)
        expected = expected + weight * F.l1_loss(ours, theirs)
        expected = expected + weight * 100 * F.l1_loss(gram(ours), gram(theirs))
    looks = Perceptual(path, layers={"relu3_3": 2.0, "relu2_2": 0.3}, pixel=0.5, style=100.0)
    torch.testing.assert_close(looks(output, target), expected, rtol=1e-4, atol=1e-5)


def test_equal_pictures_have_no_distance_and_worse_ones_more(looks):
    target = _pictures()
    assert looks(target, target).item() == 0
    assert 0 < looks(target * 0.9, target) < looks(target * 0.5, target)


def test_gradients_reach_the_output_alone(looks):
    output, target = _pictures().requires_grad_(), _pictures().requires_grad_()
    looks.train()
    looks(output, target).backward()
    assert output.grad.abs().sum() > 0
    assert target.grad is None
    assert not looks.vgg.features.training
    assert all(not p.requires_grad and p.grad is None for p in looks.parameters())


def _batches(looks, call):
    """What went through the network, as (pictures, type), while `call` ran."""
    seen = []
    hook = looks.vgg.features[0].register_forward_hook(
        lambda _, given, out: seen.append((len(given[0]), out.dtype))
    )
    call()
    hook.remove()
    return [count for count, _ in seen], {dtype for _, dtype in seen}


def test_without_gradients_both_go_through_the_network_as_one_batch(looks):
    output, target = _pictures(), _pictures()
    with torch.no_grad():
        assert _batches(looks, lambda: looks(output, target))[0] == [4]
    learning = output.clone().requires_grad_()
    distance = []
    assert _batches(looks, lambda: distance.append(looks(learning, target)))[0] == [2, 2]
    torch.testing.assert_close(distance[0].detach(), looks(output, target))


def test_the_target_leaves_no_graph_behind(looks):
    """Not even where the target itself hangs on a graph: nothing of it is kept for a backward pass."""
    output, target = _pictures().requires_grad_(), (_pictures().requires_grad_() * 1)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        looks(output, target)
    maps = [tensor for tensor in kept if tensor.ndim == 4 and tensor.shape[-1] > 3]  # not the weights
    assert {len(tensor) for tensor in maps} == {2}


def test_bfloat16_where_the_trainer_says_so(looks):
    output, target = _pictures(16), _pictures(16)
    plain = looks(output, target)
    output.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        results = []
        assert _batches(looks, lambda: results.append(looks(output, target)))[1] == {torch.bfloat16}
    assert results[0].dtype == torch.float32
    torch.testing.assert_close(results[0].detach(), plain, rtol=0.02, atol=0)
    results[0].backward()
    assert output.grad.dtype == torch.float32


def test_gram_matrices_keep_their_digits_under_autocast():
    features = torch.rand(1, 8, 20, 20)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(gram(features), gram(features.clone()))
        found = gram(features)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, gram(features), rtol=1e-6, atol=0)


def test_restyling_by_hand(vgg):
    features, path = vgg
    output, content, style = _pictures(), _pictures(), _pictures(48)[:1]
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))

    def at(place, x):
        return features[: place + 1](((x + 1) / 2 - mean) / std)

    ours, theirs = at(8, output), at(8, content)
    far = ((ours - theirs).square().sum((1, 2, 3)) / theirs.square().sum((1, 2, 3))).mean()
    styles = []
    for place in (3, 15):
        wanted = gram(at(place, style))
        styles.append((gram(at(place, output)) - wanted).square().sum((1, 2)).mean() / wanted.square().sum())
    restyle = Restyle(style, path, content="relu2_2", layers=("relu1_2", "relu3_3"))
    found = restyle(output, content)
    torch.testing.assert_close(found["content"], far, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found["style"], sum(styles) / 2, rtol=1e-4, atol=1e-6)


def test_restyling_is_content_with_the_picture_and_pleased_with_the_style(vgg):
    style, content = _pictures()[:1], _pictures()
    restyle = Restyle(style, vgg[1])
    assert restyle(content, content)["content"].item() == 0
    assert restyle(style, content[:1])["style"].item() < 1e-8
    assert restyle(content, content)["style"].item() > 1e-3
    assert list(restyle.state_dict()) == list(Restyle(-style, vgg[1]).state_dict())
    assert not any("gram" in name for name in restyle.state_dict())
    output = content.clone().requires_grad_()
    sum(restyle(output, content).values()).backward()
    assert output.grad.abs().sum() > 0


def test_restyling_needs_weights_and_says_so(tmp_path):
    with pytest.raises(WeightsError, match=r"absent\.pth.*no going on without: name its file with --vgg FILE"):
        Restyle(_pictures()[:1], tmp_path / "absent.pth")


def test_grey_pictures_count_as_equal_colours(looks):
    output, target = _pictures(channels=1), _pictures(channels=1)
    in_colour = looks(output.expand(-1, 3, -1, -1), target.expand(-1, 3, -1, -1))
    torch.testing.assert_close(looks(output, target), in_colour)


def test_gram_by_hand():
    features = torch.tensor([[1.0, 2.0], [3.0, -1.0]]).view(1, 2, 1, 2)
    # rows (1, 2) and (3, -1): products 5, 1, 10 over C * H * W = 4
    torch.testing.assert_close(gram(features), torch.tensor([[[5.0, 1.0], [1.0, 10.0]]]) / 4)


def test_small_pictures(vgg):
    deep = Perceptual(vgg[1], layers={"relu5_3": 1.0})
    assert deep(_pictures(16), _pictures(16)).isfinite()
    with pytest.raises(UserError, match=r"15x15 pixels are too small for layer relu5_3, which needs 16"):
        deep(_pictures(15), _pictures(15))


def test_what_cannot_be_compared_is_told(vgg):
    with pytest.raises(UserError, match=r"relu9_9.*relu5_3"):
        Perceptual(vgg[1], layers={"relu9_9": 1.0})
    with pytest.raises(UserError, match="choose from"):
        Perceptual(vgg[1], layers={})
    with pytest.raises(UserError, match="2 channels"):
        Perceptual(vgg[1])(_pictures(channels=2), _pictures(channels=2))


def test_absent_weights_say_how_to_go_on(tmp_path, monkeypatch):
    with pytest.raises(WeightsError, match=r"absent\.pth.*pixel loss"):
        Perceptual(tmp_path / "absent.pth")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(WeightsError, match=r"cannot be downloaded.*weights=FILE"):
        Perceptual()


def test_real_weights_see_blur_as_worse_than_a_little_noise_of_like_pixel_error(shared):
    """What the loss is for: at equal pixel error, lost edges count more than a shift of brightness."""
    from PIL import Image
    from torchvision.transforms.v2.functional import gaussian_blur, pil_to_tensor

    looks = Perceptual(shared / "data" / "weights" / "vgg16_features.safetensors", pixel=0.0)
    path = sorted((shared / "data" / "set5" / "hr").iterdir())[0]
    target = pil_to_tensor(Image.open(path).convert("RGB"))[None, :, :128, :128].float() / 127.5 - 1
    blurred = gaussian_blur(target, [9, 9])
    shifted = target + (blurred - target).abs().mean()
    assert looks(blurred, target) > 2 * looks(shifted, target)
