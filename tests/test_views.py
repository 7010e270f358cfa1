"""Pictures looked at in several ways: views undone on what is answered, and averaged."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from gangen import Pipeline, Views, colour, images
from gangen.data import embedded_photographs
from gangen.errors import UserError
from gangen.nets import (
    Body,
    ClassHead,
    Classifier,
    Colorizer,
    ImageHead,
    MaskHead,
    Siamese,
    StyleNet,
    UNet,
    Upscaler,
)
from gangen.nets.colorizer import chroma_unet
from gangen.views import in_views
from tests.networks import opinionated

SEVERAL = Views(scales=(0.75, 1.0, 1.25))


class Ramp(nn.Module):
    """Answers by position: adds to what it makes of the picture what grows from left to right."""

    tiles_exactly = True

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.mix = nn.Conv2d(3, 3, 3, padding=1)
        self.seen = []

    def forward(self, x):
        self.seen.append(tuple(x.shape))
        ramp = torch.linspace(-1, 1, x.shape[3])
        return self.mix(x) + ramp * torch.tensor([0.5, 1, 2]).view(3, 1, 1)


class Told(nn.Module):
    """Answers each look at a picture with the next of some logits."""

    def __init__(self, *answers):
        super().__init__()
        self.answers = [torch.tensor([answer]) for answer in answers]

    def forward(self, x):
        return self.answers.pop(0).expand(len(x), -1)


def noise(height, width, count=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, height, width, generator=generator) * 2 - 1


def masks(width=4):
    torch.manual_seed(0)
    return UNet(Body("resnet18"), MaskHead(5), width=width).eval()


def test_a_network_that_answers_alike_everywhere_paints_the_same_mirrored():
    picture = noise(37, 50)[0]
    pointwise = nn.Conv2d(3, 3, 1)
    once, twice = Pipeline(pointwise)(picture), Pipeline(pointwise)(picture, views=Views())
    assert twice.tobytes() == once.tobytes()
    x = noise(21, 34, 2)
    with torch.no_grad():
        painted = in_views(pointwise, x, Views(), labels=False)
        torch.testing.assert_close(painted, pointwise(x).clamp(-1, 1))


@pytest.mark.parametrize("views", [Views(), SEVERAL])
@pytest.mark.parametrize("labels", [True, False])
def test_the_answer_to_the_mirror_image_is_the_mirrored_answer(views, labels):
    network, x = Ramp(), noise(33, 46, 2)
    with torch.no_grad():
        once = network(x)
        assert not torch.allclose(network(x.flip(3)).flip(3), once, atol=0.1), "the network tells left from right"
        answer = in_views(network, x, views, labels=labels)
        mirrored = in_views(network, x.flip(3), views, labels=labels)
        one_way = in_views(network, x, Views(flip=False), labels=labels)
    assert torch.equal(mirrored, answer.flip(3))
    expected = once.softmax(1) if labels else once.clamp(-1, 1)
    assert torch.equal(one_way, expected)
    assert not torch.allclose(answer, one_way, atol=0.05)


def test_a_smaller_view_is_put_back_where_it_was():
    x = torch.full((1, 3, 64, 96), -1.0)
    x[:, :, 40:60, 10:30] = 1
    for scale in (0.5, 0.75, 1.25, 0.4):
        seen = in_views(nn.Identity(), x, Views(scales=(scale,)), labels=False)
        assert seen.shape == x.shape
        assert seen.abs().max() <= 1
        assert (seen - x).abs().mean() < 0.05
        assert (seen[:, :, 44:56, 14:26] > 0.9).all(), "the middle of the square"


def test_probabilities_are_averaged_and_not_logits():
    """Logits of 9 against 1 would outweigh the other look, whose answer is as sure as one can be."""
    network, x = Told([0.0, 9.0, -50.0], [2.0, 0.0, -50.0]), noise(8, 8)
    sure = in_views(network, x, Views(), labels=True)
    expected = (torch.tensor([0.0, 9.0, -50.0]).softmax(0) + torch.tensor([2.0, 0.0, -50.0]).softmax(0)) / 2
    torch.testing.assert_close(sure[0], expected)
    many = [[0.0, 1.0], [3.0, 0.0], [0.5, 0.0], [0.0, 0.1], [0.2, 0.0], [1.0, 2.0]]
    sure = in_views(Told(*many), x, SEVERAL, labels=True)
    torch.testing.assert_close(sure[0], torch.tensor(many).softmax(1).mean(0))


def test_pictures_are_averaged_as_they_are_seen():
    class Loud(nn.Module):
        def forward(self, x):
            return torch.where(x.mean(dim=(1, 2, 3), keepdim=True) > 0, 5.0, -0.5) * torch.ones_like(x)

    left = torch.full((1, 3, 8, 8), 0.5)
    assert in_views(Loud(), left, Views(), labels=False).eq(1).all(), "white is white, however far beyond"


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (33, 7), (45, 62)])
def test_odd_and_tiny_pictures_keep_their_size(size):
    torch.manual_seed(0)
    views, picture = Views(scales=(0.3, 1.0, 1.37)), noise(*size)[0]
    painter = UNet(Body("resnet18"), ImageHead(3), width=4)
    for network, scale in (
        (masks(), 1),
        (painter, 1),
        (StyleNet(width=2, blocks=1), 1),
        (Upscaler(3, width=2, blocks=1), 3),
    ):
        answer = Pipeline(network)(picture, views=views)
        assert answer.size == (scale * size[1], scale * size[0])
    (answer,) = Pipeline(opinionated(Classifier(Body("resnet18"), ClassHead(3)))).classify([picture], views=views)
    assert sum(answer.probabilities.values()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("scale", [1, 2])
def test_large_pictures_are_looked_at_in_tiles_of_bounded_size(scale):
    torch.manual_seed(0)
    network: nn.Module = Ramp() if scale == 1 else Upscaler(2, width=2, blocks=1)
    seen = []
    network.register_forward_pre_hook(lambda _, shown: seen.append(tuple(shown[0].shape)))
    picture = noise(130, 171)[0]
    painted = Pipeline(network)(picture, views=SEVERAL, tile=96, overlap=32)
    assert painted.size == (171 * scale, 130 * scale)
    assert all(count * height * width <= 96 * 96 for count, _, height, width in seen)
    assert len({shape[2:] for shape in seen}) > 3
    mirrored = Pipeline(network)(picture.flip(2), views=SEVERAL, tile=96, overlap=32)
    assert mirrored.transpose(Image.Transpose.FLIP_LEFT_RIGHT).tobytes() == painted.tobytes()


def test_a_batch_seen_larger_has_no_more_pixels_than_a_tile():
    network = Ramp()
    Pipeline(network)(list(noise(64, 64, 4)), views=Views(flip=False, scales=(0.75, 1.25)), batch_size=4, tile=128)
    assert network.seen == [(2, 3, 48, 48), (2, 3, 80, 80)] * 2


def test_tiles_of_views_make_the_whole_picture():
    class Blur(nn.Conv2d):
        tiles_exactly = True

    torch.manual_seed(0)
    network, picture = Blur(3, 3, 5, padding=2, padding_mode="replicate"), noise(130, 171)[0]
    whole = images.to_tensor(Pipeline(network)(picture, views=SEVERAL, tile=None))
    tiled = images.to_tensor(Pipeline(network)(picture, views=SEVERAL, tile=96, overlap=32))
    assert (whole - tiled).abs().max() < 0.03


def test_masks_are_of_the_mean_of_probabilities():
    network, picture = masks(), noise(45, 62)[0]
    pipeline = Pipeline(network)
    with torch.no_grad():
        one, other = (network(x).softmax(1) for x in (picture[None], picture[None].flip(3)))
    expected = (one + other.flip(3))[0].argmax(0)
    found = pipeline(picture, views=Views())
    assert found.mode == "P"
    assert np.array_equal(np.asarray(found), expected)
    assert found.tobytes() != pipeline(picture).tobytes()
    assert (
        pipeline(picture.flip(2), views=Views()).transpose(Image.Transpose.FLIP_LEFT_RIGHT).tobytes()
        == found.tobytes()
    )


@pytest.mark.parametrize("kind", [Classifier, Siamese])
def test_classes_are_of_the_mean_of_probabilities_and_pairs_turn_alike(kind):
    torch.manual_seed(0)
    network = opinionated(kind(Body("resnet18"), ClassHead(3, hidden=0))).eval()
    pipeline = Pipeline(network)
    pictures = list(noise(45, 62, 2))
    given = pictures if kind is Classifier else [tuple(pictures), tuple(pictures[::-1])]
    ask = pipeline.classify if kind is Classifier else pipeline.compare
    x = torch.stack([one if kind is Classifier else torch.cat(one) for one in given])
    x = torch.stack([images.to_tensor(images.to_picture(part)) for part in x.reshape(-1, 3, 45, 62)]).view(x.shape)
    with torch.no_grad():
        expected = (network(x).softmax(1) + network(x.flip(3)).softmax(1)) / 2
    found = torch.tensor([list(answer.probabilities.values()) for answer in ask(given, views=Views())])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    once = torch.tensor([list(answer.probabilities.values()) for answer in ask(given)])
    assert (found - once).abs().max() > 1e-3


def test_a_coloured_picture_keeps_its_lightness_in_every_view():
    torch.manual_seed(0)
    picture = embedded_photographs()[0][1].resize((75, 50))
    network = Colorizer(chroma_unet(Body("resnet18", in_channels=1), width=4))
    painted = Pipeline(network)(picture, views=SEVERAL)
    light, found = (colour.lightness(images.to_tensor(each)[None]) for each in (picture, painted))
    assert (light - found).abs().max() < 0.6
    assert colour.saturation(images.to_tensor(painted)[None]) > 0.02
    assert painted.tobytes() != Pipeline(network)(picture).tobytes()


@pytest.mark.parametrize(
    "scales", [(), (0.0,), (1.0, -0.5), (float("nan"),), (float("inf"),), (True,), ("1",), 0.75]
)
def test_impossible_scales_are_refused(scales):
    with pytest.raises(UserError, match="scale"):
        Views(scales=scales)
