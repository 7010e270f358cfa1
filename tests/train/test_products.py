"""Convolutions as products: the same but for rounding, and only where they pay."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from gangen.data import Batch
from gangen.losses import l1, r1
from gangen.nets import Body, ImageHead, UNet
from gangen.train import Phase, Player, Trainer, products, set_seed
from gangen.train.optim import sgd
from gangen.train.products import SmallMaps
from tests.train.toys import Toys


@pytest.fixture(autouse=True)
def as_on_cpus_without_avx512(monkeypatch: pytest.MonkeyPatch) -> None:
    """What pays differs from CPU to CPU; what a product answers does not."""
    monkeypatch.setattr(products, "WEIGHTS_A_PLACE", 8192)


def both(layer: nn.Module, pictures: Tensor) -> tuple[Any, Any]:
    """What it answers, and the gradients of pictures and weights, as a convolution and within the block."""

    def found() -> tuple[str, list[Tensor]]:
        given = pictures.clone().requires_grad_()
        answer = layer(given)
        shape = torch.linspace(-1, 1, answer.numel()).view_as(answer)
        gradients = torch.autograd.grad((answer * shape).sum(), [given, *layer.parameters()])
        assert answer.is_contiguous()  # so that it can be viewed in another shape
        return type(answer.grad_fn).__name__, [answer, *gradients]

    plain = found()
    with SmallMaps():
        return plain, found()


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(256, 512, 3, padding=1), (2, 256, 3, 5)),
        (nn.Conv2d(256, 512, 4, 2, 1, bias=False), (2, 256, 7, 4)),
        (nn.Conv2d(512, 512, (3, 1), (2, 1), (1, 0)), (3, 512, 4, 4)),
        (nn.ConvTranspose2d(512, 256, 4, 2, 1), (2, 512, 3, 2)),
        (nn.ConvTranspose2d(512, 256, 3, 2, 1, output_padding=1, bias=False), (1, 512, 2, 5)),
    ],
    ids=str,
)
def test_a_product_answers_as_the_convolution(layer: nn.Module, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    plain, product = both(layer, torch.randn(shape))
    assert plain[0] == "ConvolutionBackward0"
    assert product[0] != "ConvolutionBackward0"
    for ours, theirs in zip(product[1], plain[1], strict=True):
        assert ours.shape == theirs.shape
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(64, 64, 3, padding=1), (2, 64, 32, 32)),  # many places
        (nn.Conv2d(512, 512, 3, padding=1, groups=2), (1, 512, 2, 2)),
        (nn.Conv2d(512, 512, 3, padding=2, dilation=2), (1, 512, 2, 2)),
        (nn.Conv2d(512, 512, 3, padding="same"), (1, 512, 2, 2)),
        (nn.Conv2d(512, 512, 3, padding=1).double(), (1, 512, 2, 2)),
        (nn.ConvTranspose2d(512, 512, 3, groups=2), (1, 512, 2, 2)),
    ],
    ids=str,
)
def test_what_would_not_pay_or_fit_is_left_alone(layer: nn.Module, shape: tuple[int, ...]) -> None:
    dtype = next(layer.parameters()).dtype
    plain, kept = both(layer, torch.randn(shape, dtype=dtype))
    assert kept[0] == "ConvolutionBackward0"
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(kept[1], plain[1], strict=True))


def test_bfloat16_is_left_alone() -> None:
    layer, pictures = nn.Conv2d(512, 512, 3, padding=1), torch.randn(1, 512, 2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        plain = layer(pictures)
        with SmallMaps():
            assert torch.equal(layer(pictures), plain)
    assert plain.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (nn.Conv2d(256, 512, 3), (1, 128, 3, 3), "channels"),
        (nn.Conv2d(512, 512, 3), (1, 512, 2, 2), "[Kk]ernel size"),
        (nn.ConvTranspose2d(512, 256, 3), (1, 256, 2, 2), "channels"),
    ],
)
def test_what_torch_refuses_it_refuses_itself(layer: nn.Module, shape: tuple[int, ...], message: str) -> None:
    with SmallMaps(), pytest.raises(RuntimeError, match=message):
        layer(torch.zeros(shape))


def test_nothing_comes_of_nothing() -> None:
    layer = nn.ConvTranspose2d(512, 256, 4, 2, 1)
    with SmallMaps():
        assert layer(torch.zeros(0, 512, 2, 2)).shape == (0, 256, 4, 4)


@pytest.mark.parametrize("reentrant", [False, True])
def test_what_is_computed_again_in_the_backward_pass_is_computed_alike(reentrant: bool) -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 512, 3, 2, 1), nn.ReLU(), nn.Conv2d(512, 512, 3, 2, 1), nn.Conv2d(512, 3, 1)
    )

    def imitate(nets: Any, batch: Batch) -> dict[str, Tensor]:
        given = batch.input.requires_grad_()
        return {"pixel": checkpoint(nets.generator, given, use_reentrant=reentrant).square().mean()}

    trainer = Trainer(None, Toys(8), batch_size=2)
    trainer.fit([Phase("alone", [Player("generator", network, imitate)], 2)])
    assert trainer.total == 2


def test_a_slope_has_a_slope_itself() -> None:
    """As the R1 penalty of a critic needs it."""
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Conv2d(3, 512, 3, 2, 1), nn.Softplus(), nn.Conv2d(512, 512, 4, 2, 1), nn.Softplus())

    def slopes() -> list[Tensor]:
        real = torch.linspace(-1, 1, 192).view(1, 3, 8, 8).requires_grad_()
        penalty = r1(critic(real).mean(dim=1), real, 1.0, step=0, every=1)
        return list(torch.autograd.grad(penalty, [part.weight for part in critic if isinstance(part, nn.Conv2d)]))

    plain = slopes()
    with SmallMaps():
        product = slopes()
    assert not all(map(torch.equal, product, plain))  # it was at work
    for ours, theirs in zip(product, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-8)


@pytest.mark.slow
def test_a_training_goes_the_same_way_but_for_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    def losses() -> list[float]:
        set_seed(0)
        network = UNet(Body("resnet18"), ImageHead(3))
        seen: list[float] = []

        def imitate(nets: Any, batch: Batch) -> dict[str, Tensor]:
            loss = l1(F.interpolate(nets.generator(F.interpolate(batch.input, (64, 64))), (8, 8)), batch.target)
            seen.append(float(loss.detach()))
            return {"pixel": loss}

        # Adam divides small gradients by themselves, and so makes much of their rounding.
        player = Player("generator", network, imitate, lr=1e-5, optimizer=sgd())
        Trainer(None, Toys(8), batch_size=2).fit([Phase("alone", [player], 4)])
        return seen

    product = losses()
    monkeypatch.setattr(products, "WEIGHTS_A_PLACE", float("inf"))
    plain = losses()
    assert product != plain  # it was at work
    assert product == pytest.approx(plain, rel=1e-4)
