"""Muon: hidden layers move all ways equally far, the rest as by Adam, and a cut run goes on to the same bits."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import AdamW
from torch.overrides import TorchFunctionMode

from gangen.data import Batch
from gangen.errors import RunError, UserError
from gangen.nets import Body, ImageHead, UNet, Upscaler
from gangen.nets.freezing import freeze
from gangen.train import Callback, NoGan, Phase, Player, Trainer, alike, lr_find, nogan_phases
from gangen.train.muon import Muon, hidden_weights, muon, orthogonal
from gangen.train.optim import adam, parameter_groups
from gangen.train.schedule import one_cycle
from tests.train.toys import Cut, Toys, bits, differences, imitate, toy_trainer

RATE = 1e-3


class Deep(nn.Module):
    """A generator with one hidden layer between two that see or give a picture."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 3, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def answer(nets: Any, batch: Batch) -> dict[str, Tensor]:
    return {"size": nets.generator(batch.input.repeat(1, 3, 1, 1)[:, :8]).square().mean()}


def deep() -> Deep:
    torch.manual_seed(0)
    return Deep()


def phase(net: nn.Module, steps: int = 6, **options: Any) -> Phase:
    player = Player("generator", net, imitate, **{"lr": RATE, "optimizer": muon(net), "ema": 0.9} | options)
    return Phase("imitate", [player], steps)


@pytest.mark.parametrize("shape", [(48, 432), (432, 48), (64, 64), (1, 9)])
def test_an_orthogonal_matrix_goes_all_ways_that_it_had_about_equally_far(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    spread = torch.linspace(1, 0.05, shape[0])[:, None]  # some ways are twenty times as long as others
    values = torch.linalg.svdvals(orthogonal(spread * torch.randn(shape)))
    # The least of a square's are near nothing before, too
    assert 0.6 < values.median() < 1.3
    assert values.max() < 1.3
    if shape[0] != shape[1]:
        assert values.min() > 0.6


def test_a_matrix_keeps_its_ways_and_one_of_zeros_stays_one() -> None:
    torch.manual_seed(0)
    ways, inputs = (torch.linalg.qr(torch.randn(side, 8))[0] for side in (64, 24))
    made = orthogonal(ways * torch.linspace(3, 1, 8) @ inputs.mT)
    shares = torch.diagonal(ways.mT @ made @ inputs)
    assert 0.6 < shares.min() <= shares.max() < 1.3
    torch.testing.assert_close(ways * shares @ inputs.mT, made, atol=1e-3, rtol=0)
    assert torch.equal(orthogonal(torch.zeros(8, 24)), torch.zeros(8, 24))


class Short(TorchFunctionMode):
    """Multiplies matrices of single precision as GPUs do by TF32, with ten binary digits."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        products = (torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.addmm)
        return func(*(map(shortened, args) if func in products else args), **(kwargs or {}))


def shortened(value: Any) -> Any:
    if not isinstance(value, Tensor) or value.dtype != torch.float32:
        return value
    digits, powers = torch.frexp(value)
    return torch.ldexp((digits * 2**11).round() / 2**11, powers)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_small_ways_come_out_no_longer_than_others_in_low_precision(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    ways, inputs = (torch.linalg.qr(torch.randn(side, 128))[0] for side in (128, 512))
    matrix = (ways * torch.logspace(0, -4, 128) @ inputs.mT).to(dtype)
    with Short():
        made = orthogonal(matrix)
        assert torch.equal(orthogonal(torch.zeros_like(matrix)), torch.zeros_like(matrix))
    assert made.dtype == dtype
    values = torch.linalg.svdvals(made.float())
    assert values[0] < 1.3
    assert values[20] > 0.6


def test_hidden_are_the_layers_between_a_body_and_the_answer() -> None:
    unet = UNet(Body("resnet18"), ImageHead(3), bottleneck=True)
    names = {id(parameter): name for name, parameter in unet.named_parameters()}
    found = [names[id(weight)] for weight in hidden_weights(unet, unet.body)]
    assert "levels.1.mix.0.0.weight" in found
    assert "levels.4.mix.0.0.weight" in found
    left = ("body.", "head.", "bottleneck.")  # the last has 512 and 1024 outputs
    assert [name for name in found if name.startswith(left) or "enlarge" in name or name.endswith("bias")] == []
    net = nn.ModuleList(
        [
            nn.Conv2d(3, 32, 3),
            nn.Conv2d(32, 32, 3, groups=4),
            nn.utils.parametrizations.spectral_norm(nn.Conv2d(32, 32, 3)),
            nn.Linear(32, 10),
            nn.Linear(32, 3),
        ]
    )
    assert [id(weight) for weight in hidden_weights(net)] == [id(net[3].weight)]


def test_a_body_that_is_not_named_is_new_as_an_upscalers_is() -> None:
    upscaler = Upscaler(width=16, blocks=2)
    names = {id(parameter): name for name, parameter in upscaler.named_parameters()}
    assert any(names[id(weight)].startswith("body.") for weight in hidden_weights(upscaler))
    settings = NoGan(generator_steps=1, adversarial_steps=1, optimizer="muon")
    phases = nogan_phases(settings, generator=upscaler, critic=nn.Conv2d(3, 1, 1), likeness=alike())
    optimizer = phases[0].players[0].optimizer(parameter_groups(upscaler, 1e-3), 1e-3)
    assert any(group["orthogonal"] for group in optimizer.param_groups)


@pytest.mark.parametrize(
    ("optimizer", "pretrained", "kind"),
    [("auto", True, Muon), ("auto", False, AdamW), ("muon", False, Muon), ("adam", True, AdamW)],
)
def test_by_default_new_layers_are_muons_on_a_pretrained_body_alone(
    optimizer: Any, pretrained: bool, kind: type
) -> None:
    body = Body("resnet18")
    body.initial = {**body.initial, "kind": "file" if pretrained else "none"}
    unet = UNet(body, ImageHead(3), width=16)
    settings = NoGan(generator_steps=1, adversarial_steps=1, optimizer=optimizer)
    phases = nogan_phases(settings, generator=unet, critic=nn.Conv2d(3, 1, 1), likeness=alike(), body=body)
    made = {each.name: each.players[-1] for each in phases}
    alone = [made["generator, body frozen"], made["generator"]]
    assert {type(player.optimizer(parameter_groups(unet, 1e-3), 1e-3)) for player in alone} == {kind}


@pytest.mark.parametrize("held", [False, True])
def test_in_nogan_new_layers_move_by_muon_and_all_else_by_adam(tmp_path: Path, held: bool) -> None:
    torch.manual_seed(0)
    body = Body("resnet18")
    body.initial = {**body.initial, "kind": "file" if held else "none"}
    unet = UNet(body, ImageHead(3), width=16)
    before = copy.deepcopy(unet.state_dict())
    steps = {"frozen_steps": int(held), "generator_steps": int(not held), "critic_steps": 0}
    settings = NoGan(**steps, adversarial_steps=0, lr=RATE, optimizer="muon")
    phases = nogan_phases(settings, generator=unet, critic=nn.Conv2d(3, 1, 1), likeness=alike(), body=body)
    pairs = [Batch(torch.rand(3, 32, 32), torch.rand(3, 32, 32), str(n)) for n in range(4)]
    Trainer(tmp_path, pairs, batch_size=4).fit(phases)

    def moved(name: str) -> Tensor:
        return unet.state_dict()[name] - before[name]

    rate = RATE * (1 if held else one_cycle()(0.0))  # a first step of Adam's is as long as the rate
    assert float(moved("head.0.weight").abs().max()) == pytest.approx(rate, rel=1e-3)
    assert float(moved("head.0.bias").abs().max()) == pytest.approx(rate, rel=1e-3)
    assert float(moved("body.net.conv1.weight").abs().max()) == pytest.approx(0 if held else rate, rel=1e-3)
    for name in ("levels.1.mix.0.0.weight", "levels.4.mix.0.0.weight"):
        way = moved(name).flatten(1)
        assert 0.6 < float(torch.linalg.matrix_norm(way, ord=2)) / (20 * rate) < 1.3


def test_a_matrix_of_more_outputs_than_inputs_moves_further() -> None:
    torch.manual_seed(0)
    net = nn.Linear(8, 72, bias=False)
    before = net.weight.detach().clone()
    net(torch.randn(16, 8)).square().mean().backward()
    muon(net)(parameter_groups(net, RATE), RATE).step()
    assert 0.6 < float(torch.linalg.matrix_norm(net.weight - before, ord=2)) / (20 * RATE * 3) < 1.3


def test_what_is_held_is_left_alone() -> None:
    net = deep()
    freeze(net.layers[2])
    before = bits(net)
    toy_trainer().fit([phase(net)])
    assert set(differences(before, bits(net))) == {
        f"layers.{layer}.{kind}" for layer in (0, 4) for kind in ("weight", "bias")
    }


def test_in_nogans_game_all_is_adams() -> None:
    unet = UNet(Body("resnet18"), ImageHead(3), width=16)
    settings = NoGan(generator_steps=1, adversarial_steps=1, optimizer="muon")
    phases = nogan_phases(settings, generator=unet, critic=nn.Conv2d(3, 1, 1), likeness=alike())
    game = [player for each in phases if each.name != "generator" for player in each.players]
    assert len(game) == 4
    made = {type(player.optimizer(parameter_groups(player.network, 1e-3), 1e-3)) for player in game}
    assert made == {AdamW}


@pytest.mark.parametrize(("before", "after"), [("adam", "muon"), ("muon", "adam")])
def test_what_learned_by_another_optimizer_is_refused(tmp_path: Path, before: str, after: str) -> None:
    def run(kind: str, **options: Any) -> None:
        torch.manual_seed(0)
        net = nn.Conv2d(8, 8, 1, bias=False)  # whose weights make one group by either
        player = Player("generator", net, answer, optimizer={"adam": adam(), "muon": muon(net)}[kind])
        toy_trainer(tmp_path).fit([Phase("alone", [player], 6)], **options)

    run(before)
    newest = sorted((tmp_path / "checkpoints").glob("step-*.pt"))[-1]
    newest.unlink()  # so that there is something to go on with
    with pytest.raises(RunError, match=r"learned by Muon.*--optimizer"):
        run(after, resume=True)


def test_an_optimizer_of_no_name_is_refused() -> None:
    settings = NoGan(generator_steps=1, optimizer="sgd")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="optimizer 'sgd' is unknown; choose one of adam, muon, auto"):
        nogan_phases(settings, generator=deep(), critic=nn.Conv2d(3, 1, 1), likeness=alike())


def test_a_cut_run_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    whole, cut = deep(), deep()
    toy_trainer(tmp_path / "whole", Callback()).fit([phase(whole)])
    with pytest.raises(ConnectionError):
        toy_trainer(tmp_path / "cut", Cut(4)).fit([phase(cut)])  # a step after a checkpoint
    cut = deep()
    toy_trainer(tmp_path / "cut", Callback()).fit([phase(cut)], resume=True)
    assert differences(bits(whole), bits(cut)) == []


def test_hidden_weights_decay_and_no_others() -> None:
    plain, decayed = deep(), deep()
    for net, decay in ((plain, 0.0), (decayed, 0.1)):
        for parameter in net.parameters():
            parameter.grad = torch.zeros_like(parameter)
        muon(net, weight_decay=decay)(parameter_groups(net, RATE), RATE).step()
    assert differences(bits(plain), bits(deep())) == []
    for name, tensor in bits(decayed).items():
        share = 1 - 0.1 * 20 * RATE if name == "layers.2.weight" else 1.0
        torch.testing.assert_close(tensor, share * bits(plain)[name])


def test_a_gradient_that_overflows_moves_nothing() -> None:
    net = deep()
    optimizer = muon(net)(parameter_groups(net, RATE), RATE)
    scaler = GradScaler("cpu", init_scale=2.0**16)
    before = bits(net)
    scaler.scale(net(torch.full((1, 3, 8, 8), torch.inf)).sum()).backward()
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    assert differences(before, bits(net)) == []


def test_the_range_test_takes_it() -> None:
    net = deep()
    before = bits(net)
    found = lr_find(phase(net).players[0], Toys(), batch_size=4, steps=10)
    assert len(found.rates) > 3
    assert differences(before, bits(net)) == []


def test_it_learns_what_is_to_be_learned() -> None:
    torch.manual_seed(0)
    net, given = nn.Linear(16, 32, bias=False), torch.randn(64, 16)
    aim = given @ torch.randn(16, 32)
    optimizer = muon(net)(parameter_groups(net, 2e-2), 2e-2)
    losses = []
    for step in range(60):
        for group in optimizer.param_groups:
            group["lr"] = 2e-2 * (1 - step / 60)
        loss = (net(given) - aim).square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 1e-2 * losses[0]
