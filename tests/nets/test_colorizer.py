import copy

import pytest
import torch

from gangen import colour, images
from gangen.errors import RunError, UserError
from gangen.nets import Body, Colorizer, ImageHead, UNet, chroma_unet
from gangen.pipeline import Pipeline


@pytest.fixture(scope="module")
def vivid():
    """A colorizer with random weights that paints in strong colours."""
    torch.manual_seed(0)
    network = Colorizer(chroma_unet(Body("resnet18", in_channels=1), width=4), view=32).eval()
    network.unet.head[0].weight.data *= 20
    return network


def picture(width, height, seed=0):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, height // 8 + 2, width // 8 + 2, generator=generator) * 2 - 1
    large = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return images.to_picture((large[0] + 0.1 * torch.randn(3, height, width, generator=generator)).clamp(-1, 1))


@pytest.mark.parametrize("size", [(31, 17), (1, 1), (1, 40), (33, 32), (200, 130)])
def test_the_lightness_of_the_picture_is_that_of_the_input_at_every_pixel(vivid, size):
    given = picture(*size)
    painted = Pipeline(vivid)(given)
    assert painted.size == size
    light = [colour.lightness(images.to_tensor(p)[None]) for p in (given, painted)]
    assert (light[0] - light[1]).abs().max() * 2.55 <= 1
    if min(size) > 1:
        assert colour.saturation(images.to_tensor(painted)[None]).item() > 0.1


@pytest.mark.slow
def test_a_photograph_of_six_megapixels_is_painted_whole_and_keeps_its_lightness(vivid):
    given = picture(3000, 2000)
    seen = []
    hook = vivid.unet.register_forward_hook(lambda _, x, out: seen.append(tuple(x[0].shape)))
    painted = Pipeline(vivid)(given)
    hook.remove()
    assert seen == [(1, 1, 32, 48)]
    assert painted.size == (3000, 2000)
    light = [colour.lightness(images.to_tensor(p)[None]) for p in (given, painted)]
    assert (light[0] - light[1]).abs().max() * 2.55 <= 1


def test_large_pictures_are_seen_small_and_painted_whole(vivid):
    given = picture(120, 100)
    seen = []
    hook = vivid.unet.register_forward_hook(lambda _, x, out: seen.append(tuple(x[0].shape)))
    Pipeline(vivid)(given, tile=64, overlap=0)  # larger than a tile
    Pipeline(vivid)(picture(40, 20), tile=64, overlap=0)
    hook.remove()
    assert seen == [(1, 1, 32, 38), (1, 1, 20, 40)]


def test_grey_and_coloured_pictures_of_one_lightness_are_painted_alike(vivid):
    given = images.to_tensor(picture(24, 20))[None]
    light = colour.lightness(given)
    grey = colour.from_lab(light, torch.zeros(1, 2, 20, 24))
    with torch.no_grad():
        coloured, from_three, from_one = (vivid(x) for x in (given, grey, grey[:, :1]))
    torch.testing.assert_close(coloured, from_three, atol=2e-3, rtol=0)
    torch.testing.assert_close(from_one, from_three, atol=2e-3, rtol=0)


def test_it_learns_colours():
    """A few steps on one picture bring the chroma towards that picture's."""
    torch.manual_seed(0)
    network = Colorizer(chroma_unet(Body("resnet18", in_channels=1), width=4))
    target = images.to_tensor(picture(32, 32))[None].expand(2, -1, -1, -1)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3, fused=True)
    losses = []
    for _ in range(4):
        loss = (colour.to_lab(network(target)) - colour.to_lab(target)).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_saved_loaded_and_copied_it_paints_the_same(vivid, tmp_path):
    given = picture(50, 41)
    painted = Pipeline(vivid)(given).tobytes()
    Pipeline(vivid).save(tmp_path)
    loaded = Pipeline.from_pretrained(tmp_path, device="cpu")
    assert loaded.network.view == 32
    assert loaded(given).tobytes() == painted
    assert Pipeline(copy.deepcopy(vivid))(given).tobytes() == painted


def test_what_does_not_fit_is_told():
    body = Body("resnet18", in_channels=1)
    with pytest.raises(UserError, match="1 channel to 2"):
        Colorizer(UNet(body, ImageHead(3), width=4))
    with pytest.raises(UserError, match="1 channel to 2"):
        Colorizer(chroma_unet(Body("resnet18"), width=4))
    with pytest.raises(UserError, match="view of 0"):
        Colorizer(chroma_unet(body, width=4), view=0)
    with pytest.raises(RunError, match="does not describe a Colorizer"):
        Colorizer.from_config({"unet": {}})
    with pytest.raises(RunError, match="expected a UNet's config"):
        Colorizer.from_config({"unet": "mine", "view": None})
