"""Maps with channels last: the same answers and gradients but for rounding, and only where all layers allow it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from gangen import layout
from gangen.nets import Body, ClassHead, ImageHead, Siamese, StyleNet, UNet, Upscaler

PLAIN, LAST = torch.contiguous_format, torch.channels_last


@pytest.fixture(autouse=True)
def as_on_cpus_with_avx512(monkeypatch: pytest.MonkeyPatch) -> None:
    """What pays differs from CPU to CPU; what comes out does not."""
    monkeypatch.setattr(layout, "WEIGHTS_A_PLACE", 512)


def worked_out(network: nn.Module, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """What it answers; and the gradients of pictures and weights, one after the other."""
    network.zero_grad()
    given = pictures.clone().requires_grad_()
    answer = network(given)
    assert answer.is_contiguous()  # so that it can be viewed in another shape
    (answer * torch.linspace(-1, 1, answer.numel()).view_as(answer)).sum().backward()
    assert all(weight.grad is not None and weight.grad.is_contiguous() for weight in network.parameters())
    gradients = [given.grad, *(weight.grad for weight in network.parameters())]
    return answer.detach().double(), torch.cat([part.flatten() for part in gradients if part is not None]).double()


def layouts(network: nn.Module, pictures: Tensor) -> list[torch.memory_format]:
    """How the maps lie that each convolution answers with, in the order of the layers."""
    seen: list[torch.memory_format] = []

    def see(layer: nn.Module, given: Any, answer: Tensor) -> None:
        seen.append(PLAIN if answer.is_contiguous() else LAST)

    hooks = [part.register_forward_hook(see) for part in network.modules() if isinstance(part, nn.Conv2d)]
    network(pictures)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize(
    "make",
    [
        lambda: UNet(Body("resnet18"), ImageHead(1), norm="skips", cross=False),
        lambda: UNet(Body("resnet18"), ImageHead(3), norm="instance", attention=True, blur=True),
        lambda: Siamese(Body("resnet18", in_channels=1), ClassHead(2)),
        lambda: Upscaler(2, width=16, blocks=2),
        lambda: StyleNet(blocks=1),
    ],
)
def test_the_answer_and_its_gradients_are_the_same(
    make: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    network = make().eval()
    for weight in network.parameters():
        if not weight.any():  # begins by changing nothing
            nn.init.normal_(weight, std=0.1)
    pictures = torch.rand(2, 2 if isinstance(network, Siamese) else 3, 48, 40) * 2 - 1
    assert LAST in layouts(network, pictures)  # it was at work
    laid = worked_out(network, pictures)
    monkeypatch.setattr(layout, "WEIGHTS_A_PLACE", 0)
    plain, exact = worked_out(network, pictures), worked_out(network.double(), pictures.double())
    for ours, theirs, truth in zip(laid, plain, exact, strict=True):
        far = (theirs - truth).norm()
        assert 0 < far < 0.01 * truth.norm()
        assert (ours - truth).norm() < 20 * far


def test_layers_of_many_weights_for_few_places_take_their_maps_as_ever() -> None:
    seen = layouts(UNet(Body("resnet18"), ImageHead(3)).eval(), torch.zeros(1, 3, 64, 64))
    assert (seen[0], seen[-1]) == (LAST, LAST)  # of the body and of the head, on large maps
    assert PLAIN in seen


class Flat(nn.Module):
    """A layer that cares how maps lie, as some do."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Scaled(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        return x.view(len(x), -1).view_as(x)


class Scaled(nn.Conv2d):
    """A layer of someone's own that can be parametrized."""


class Picky(nn.Module):
    """A head of someone's own, ending in such a layer."""

    def build(self, in_channels: int) -> nn.Module:
        """The layers."""
        return nn.Sequential(nn.Conv2d(in_channels, 3, 3, padding=1), Flat())


def test_networks_with_parts_of_your_own_are_left_alone() -> None:
    network = UNet(Body("resnet18"), Picky())
    assert set(layouts(network, torch.zeros(2, 3, 64, 64))) == {PLAIN}
    spectral_norm(network.head[1].inner)  # which makes its class one of torch's
    network.head[1] = network.head[1].inner
    assert set(layouts(network, torch.zeros(2, 3, 64, 64))) == {PLAIN}


def test_pictures_with_channels_last_are_left_so() -> None:
    network = Upscaler(2, width=8, blocks=1)
    assert network(torch.zeros(1, 3, 8, 8).contiguous(memory_format=LAST)).is_contiguous(memory_format=LAST)


def test_functions_are_transformed_as_ever() -> None:
    network = Upscaler(2, width=8, blocks=1)
    pictures = torch.rand(4, 1, 3, 8, 8)
    torch.testing.assert_close(torch.func.vmap(network)(pictures), torch.stack([network(one) for one in pictures]))


def test_a_slope_has_a_slope_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """As penalties need it."""
    torch.manual_seed(0)
    network = Upscaler(2, width=8, blocks=1)

    def slopes(weights_a_place: int) -> Tensor:
        monkeypatch.setattr(layout, "WEIGHTS_A_PLACE", weights_a_place)
        given = torch.linspace(-1, 1, 2 * 3 * 16 * 16).view(2, 3, 16, 16).requires_grad_()
        (slope,) = torch.autograd.grad(network(given).square().sum(), given, create_graph=True)
        return torch.autograd.grad(slope.square().sum(), network.first.weight)[0]

    torch.testing.assert_close(slopes(512), slopes(0), rtol=1e-3, atol=1e-3)


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace")
def test_what_is_traced_or_exported_is_as_it_was() -> None:
    network = Upscaler(2, width=8, blocks=1)
    pictures = torch.rand(2, 3, 16, 16)
    traced = torch.jit.trace(network, pictures)
    exported = torch.export.export(network, (pictures,))
    for copied in (str(traced.graph), str(exported.graph)):
        assert "conv" in copied
        assert "contiguous" not in copied
