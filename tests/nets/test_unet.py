import copy
import itertools
import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from gangen.errors import RunError, UserError
from gangen.nets import Body, ImageHead, UNet, freeze, layer_groups

ODD = [(1, 1), (1, 67), (2, 3), (5, 4), (16, 16), (17, 31), (32, 33), (45, 64), (63, 1), (67, 67), (129, 7)]


def _unet(head=None, **options):
    options = {"width": 8} | options
    return UNet(Body("resnet18"), head or ImageHead(3), **options)


@pytest.fixture(
    scope="module",
    params=[
        {},
        {"norm": "instance", "attention": True, "blur": True, "bottleneck": True},
        {"cross": False},
        {"norm": "skips"},
        {"norm": "skips", "bottleneck": True},
    ],
)
def unet(request):
    torch.manual_seed(0)
    return _unet(**request.param).eval()


@torch.no_grad()
def _paint(unet, x):
    return unet.eval()(x)


@pytest.mark.parametrize("size", ODD)
def test_the_answer_has_the_size_and_range_of_the_picture(unet, size):
    out = _paint(unet, torch.rand(1, 3, *size) * 2 - 1)
    assert out.shape == (1, 3, *size)
    assert out.isfinite().all()
    assert out.abs().max() <= 1


@pytest.mark.slow
def test_every_size_up_to_67_is_kept():
    unet = _unet(width=4)
    for height in range(1, 68):
        for width in (height, 68 - height):
            assert _paint(unet, torch.zeros(1, 3, height, width)).shape == (1, 3, height, width)


def test_masks_and_grey_pictures():
    unet = UNet(Body("resnet18", in_channels=1), ImageHead(12, None), width=4)
    assert _paint(unet, torch.zeros(2, 1, 9, 20)).shape == (2, 12, 9, 20)


def test_cost_at_the_default_width_stays_below_the_goal():
    unet = UNet(Body("resnet34"), ImageHead(3)).eval().to("meta")  # shapes are enough to count by
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        unet(torch.zeros(1, 3, 256, 256, device="meta"))
    assert counter.get_total_flops() <= 17.5e9


def test_a_fresh_unet_lays_no_checkerboard():
    torch.manual_seed(0)
    for level in _unet().levels:
        enlarged = level.enlarge(torch.randn(2, level.enlarge[0].in_channels, 4, 4))
        assert torch.equal(enlarged[..., ::2, ::2], enlarged[..., 1::2, 1::2])
        assert torch.equal(enlarged[..., ::2, ::2], enlarged[..., ::2, 1::2])


def test_cross_lets_the_pixels_themselves_reach_the_head():
    """Without it the last level knows the picture through the stem's stride of 2 alone."""
    for cross in (True, False):
        unet = _unet(cross=cross)
        nn.init.zeros_(unet.levels[-1].enlarge[0].weight)
        changed = _paint(unet, torch.zeros(1, 3, 8, 8)) - _paint(unet, torch.ones(1, 3, 8, 8))
        assert bool(changed.any()) is cross


def test_a_copy_and_a_saved_and_loaded_one_answer_bit_for_bit(unet, tmp_path):
    x = torch.rand(1, 3, 33, 20) * 2 - 1
    expected = _paint(unet, x)
    assert torch.equal(_paint(copy.deepcopy(unet), x), expected)

    torch.save(unet.state_dict(), tmp_path / "unet.pth")
    rebuilt = UNet.from_config(json.loads(json.dumps(unet.config)))
    rebuilt.load_state_dict(torch.load(tmp_path / "unet.pth", weights_only=True))
    assert torch.equal(_paint(rebuilt, x), expected)
    assert rebuilt.config == unet.config


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"surprise": 1}, "surprise"),
        ({"width": "wide"}, "multiple of 4"),
        ({"width": 6}, "multiple of 4"),
        ({"attention": "yes"}, "true or false"),
        ({"bottleneck": 1}, "true or false"),
        ({"widening": 0}, "widening of 0"),
        ({"widening": 2.0}, "widening of 2.0"),
        ({"finest": True}, "finest of True"),
        ({"norm": "layer"}, "norm 'layer' is unknown"),
        ({"body": {"arch": "os.system", "in_channels": 3}}, "os.system"),
        ({"body": {"arch": "resnet18"}}, "expected the keys arch, in_channels"),
        ({"body": {"arch": "resnet18", "in_channels": 3, "weights": "/etc/passwd"}}, "expected the keys"),
        ({"body": "MyBody"}, "body of its own, MyBody"),
        ({"head": None}, "expected the keys channels, output_range"),
        ({"head": {"channels": 3, "output_range": [1, -1]}}, "is no range"),
    ],
)
def test_configs_that_describe_no_unet_are_refused(change, told):
    config = _unet().config | change
    with pytest.raises(UserError, match=told):
        UNet.from_config(config)


def test_configs_that_lack_later_keys_are_of_the_networks_of_their_time():
    config = _unet().config
    del config["bottleneck"], config["widening"], config["finest"]
    before = UNet.from_config(config)
    assert [level.out_channels for level in before.levels] == [64, 32, 16, 12, 8]
    assert [level.enlarge[0].out_channels // 4 for level in before.levels] == [64, 32, 16, 8, 4]
    assert not before.bottleneck
    assert UNet.from_config(before.config).config == before.config
    assert UNet.from_config(config | {"bottleneck": True}).bottleneck


def test_levels_widen_as_far_as_told():
    def channels(**options):
        return [level.out_channels for level in _unet(**options).levels]

    assert channels() == [32, 32, 16, 12, 8]
    assert channels(widening=8) == [64, 32, 16, 12, 8]
    assert channels(widening=1) == [8, 8, 8, 8, 8]


@pytest.mark.parametrize("cross", [True, False])
def test_what_is_mixed_at_full_resolution_fills_half_the_width(cross):
    """19 channels instead of 16 cost a third more: processors multiply blocks of 8 or 16."""
    last = _unet(width=32, cross=cross).levels[-1]
    assert last.mix[0][0].in_channels == 16
    assert _unet(width=32, cross=cross, finest=16).levels[-1].mix[0][0].in_channels == (19 if cross else 16)
    assert _unet(width=4, cross=cross).levels[-1].mix[0][0].in_channels == (4 if cross else 2)


def test_a_config_lacking_a_key_is_refused():
    config = _unet().config
    del config["norm"]
    with pytest.raises(RunError, match="expected the keys"):
        UNet.from_config(config)


class _Quarter(nn.Module):
    """A body of one's own: maps at strides 4 and 8."""

    in_channels, channels, strides = 3, (6, 10), (4, 8)

    def __init__(self):
        super().__init__()
        self.fine = nn.Conv2d(3, 6, 7, stride=4, padding=3)
        self.coarse = nn.Conv2d(6, 10, 3, stride=2, padding=1)

    def forward(self, x):
        fine = self.fine(x)
        return [fine, self.coarse(fine)]


class _Shallow(nn.Module):
    """A body that looks no further than its strides."""

    in_channels, channels, strides = 3, (8, 16, 32, 64, 128), (2, 4, 8, 16, 32)

    def __init__(self):
        super().__init__()
        widths = (3, *self.channels)
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in itertools.pairwise(widths))

    def forward(self, x):
        maps = [x]
        for layer in self.layers:
            maps.append(layer(maps[-1]))
        return maps[1:]


class _Sum:
    """A head of one's own."""

    def build(self, in_channels):
        return nn.Conv2d(in_channels, 1, 1)


def test_bodies_and_heads_of_ones_own():
    for bottleneck in (False, True):
        unet = UNet(_Quarter(), _Sum(), width=4, bottleneck=bottleneck)
        assert _paint(unet, torch.zeros(1, 3, 13, 22)).shape == (1, 1, 13, 22)
        with pytest.raises(RunError, match="_Quarter"):
            UNet.from_config(unet.config)
        rebuilt = UNet.from_config(unet.config, body=_Quarter(), head=_Sum())
        rebuilt.load_state_dict(unet.state_dict())
    convs = [part.weight.shape for part in unet.bottleneck.modules() if isinstance(part, nn.Conv2d)]
    assert convs == [(32, 10, 3, 3), (16, 32, 3, 3)], "as wide as its stride of 8 says"


def test_it_learns_a_picture_by_heart():
    torch.manual_seed(0)
    unet = UNet(_Quarter(), ImageHead(3), width=8).train()
    sketch = torch.rand(2, 3, 32, 32) * 2 - 1
    target = nn.functional.interpolate(torch.rand(2, 3, 4, 4) * 1.6 - 0.8, scale_factor=8, mode="bilinear")
    optimizer = torch.optim.Adam(unet.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        loss = (unet(sketch) - target).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 3


def test_bodies_with_strides_that_do_not_divide_are_refused():
    body = _Quarter()
    body.strides = (4, 6)
    with pytest.raises(UserError, match=r"not \(4, 6\)"):
        UNet(body, ImageHead(3))


def test_tiles_exactly_only_where_no_layer_sees_the_whole_picture():
    assert _unet().tiles_exactly
    assert _unet(norm="none", blur=True).tiles_exactly
    assert _unet(norm="skips", bottleneck=True).tiles_exactly
    assert not _unet(norm="instance").tiles_exactly
    assert not _unet(attention=True).tiles_exactly


@pytest.mark.parametrize(("options", "exact"), [({"blur": True}, True), ({"norm": "instance"}, False)])
def test_tiles_exactly_is_true_of_the_answers(options, exact):
    """A far corner changes: only a network that sees the whole picture notices at the other end."""
    torch.manual_seed(0)
    # The receptive field of a ResNet-18 spans hundreds of pixels: a body of few layers shows the decoder's part.
    unet = UNet(_Shallow(), ImageHead(3), width=8, **options).eval()
    x = torch.rand(1, 3, 32, 512) * 2 - 1
    changed = x.clone()
    changed[..., :16] = 0
    same = torch.equal(_paint(unet, x)[..., -32:], _paint(unet, changed)[..., -32:])
    assert same is exact is unet.tiles_exactly


def test_skips_alone_are_normalised():
    """Maps of the body a thousand times as large change nothing."""
    torch.manual_seed(0)
    unet = _unet(ImageHead(3, None), norm="skips").train()
    norms = {name.split(".")[0] for name, part in unet.named_modules() if isinstance(part, nn.BatchNorm2d)}
    own = [name for name, part in unet.levels.named_modules() if isinstance(part, nn.BatchNorm2d)]
    assert norms == {"body", "levels"}
    assert own == [f"{k}.admit.0" for k in range(4)]  # the fifth joins the picture, which is left as it is
    level, finer, coarser = (
        unet.levels[1],
        torch.randn(4, 128, 6, 6),
        torch.randn(4, unet.levels[0].out_channels, 3, 3),
    )
    torch.testing.assert_close(level(coarser, finer), level(coarser, 1000 * finer), rtol=1e-3, atol=1e-3)


def test_a_bottleneck_learns_from_the_coarsest_map_however_large_and_is_no_part_of_the_body():
    torch.manual_seed(0)
    unet = _unet(ImageHead(3, None), norm="skips", bottleneck=True).train()
    coarsest = torch.randn(4, 512, 3, 3)
    answer = unet.bottleneck(coarsest)
    assert answer.shape == (4, 16 * 8, 3, 3)
    torch.testing.assert_close(answer, unet.bottleneck(1000 * coarsest), rtol=1e-3, atol=1e-3)
    weights = [*unet.bottleneck.parameters()]
    assert {id(weight) for weight in weights} <= {id(weight) for weight in layer_groups(unet)[-1]}
    unet.body.freeze()
    unet(torch.randn(2, 3, 64, 64)).square().mean().backward()
    assert sum(weight.numel() for weight in weights) > 9 * (512 * 256 + 256 * 128)
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in weights)


def test_a_bottleneck_mixes_places_of_the_coarsest_map():
    """Two 3x3 convolutions reach two places of that map, 64 pixels, further than the way up alone."""
    torch.manual_seed(0)
    x = torch.rand(1, 3, 32, 512) * 2 - 1
    changed = x.clone()
    changed[..., :16] = 0
    reach = []
    for bottleneck in (False, True):
        unet = UNet(_Shallow(), ImageHead(3), width=8, bottleneck=bottleneck).eval()
        differs = (_paint(unet, x) != _paint(unet, changed)).any(dim=(0, 1, 2)).nonzero()
        reach.append(int(differs.max()))
    assert reach[1] == reach[0] + 2 * 32


def test_frozen_parts_stay_still_within_a_unet():
    unet = _unet()
    unet.body.freeze()
    freeze(unet.levels[0])
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    unet.train()
    optimizer = torch.optim.AdamW(unet.parameters(), lr=0.1, weight_decay=0.1)
    unet(torch.randn(2, 3, 33, 33)).square().mean().backward()
    optimizer.step()
    moved = {name for name, value in unet.state_dict().items() if not torch.equal(value, before[name])}
    assert {name[:8] for name in moved} == {"levels.1", "levels.2", "levels.3", "levels.4", "head.0.w", "head.0.b"}


@pytest.mark.slow
def test_onnx_with_open_sizes_answers_alike(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    unet = _unet(attention=True, blur=True).eval()
    nn.init.ones_(unet.levels[1].mix[-1].gamma)
    free = torch.export.Dim.DYNAMIC
    program = torch.onnx.export(
        unet, (torch.zeros(2, 3, 67, 45),), dynamo=True, dynamic_shapes=({0: free, 2: free, 3: free},)
    )
    program.save(tmp_path / "unet.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "unet.onnx")
    for shape in [(2, 3, 67, 45), (1, 3, 64, 64), (3, 3, 31, 130), (1, 3, 1, 1)]:
        x = torch.rand(shape) * 2 - 1
        (out,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        np.testing.assert_allclose(out, _paint(unet, x).numpy(), atol=1e-4)
