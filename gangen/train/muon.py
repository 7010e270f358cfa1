"""Muon: the weights of hidden layers move by their momentum made orthogonal, all others as Adam moves them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from gangen.train.optim import OptimizerFactory, decay_groups, fused_where_known

PICTURE_CHANNELS = 4
"""A layer that sees or gives so many channels, or fewer, is no hidden one: those are a picture's."""

LARGEST = 256
"""The smaller side of a matrix that is made orthogonal, at most. The cost grows with its square: for the 512 by
9216 at the foot of a UNet it would be many times that of the layer itself, which sees few places."""

MARK = "orthogonal"
"""Of a group of weights: whether it is Muon's own, rather than Adam's."""

_SLOPES = (3.4445, -4.7750, 2.0315)


def muon(
    network: nn.Module,
    *,
    body: nn.Module | None = None,
    reach: float = 20.0,
    momentum: float = 0.95,
    betas: tuple[float, float] = (0.9, 0.99),
    weight_decay: float = 0.1,
) -> OptimizerFactory:
    """Muon for the hidden layers of `network`, Adam for the rest of it.

    Adam moves each weight by about the rate, whatever the others do, so that most of a step goes the few ways
    that its gradients share. Muon goes all ways of a matrix equally far (Jordan et al. 2024, "Muon: An optimizer
    for hidden layers in neural networks"; Bernstein & Newhouse 2024, arXiv:2409.20325), and a layer's answers move
    by as much however wide it is. New layers learn faster by it. A pretrained body is left to Adam.

    Of several processes each does it for itself, from the same gradients: on machines alike they stay equal.

    Args:
        network: that learns; see `hidden_weights`.
        body: the pretrained part of it, which is left to Adam; None where there is none.
        reach: spectral norm of a step at a rate of 1, of a matrix of no more outputs than inputs; of one of more,
            times the root of their ratio. At 20, Adam's usual 1e-3 means the 0.02 that Jordan et al. use.
        momentum: decay of the mean gradient, from which a step is made after Nesterov.
        betas: Adam's, of the rest.
        weight_decay: of hidden weights, at their own rate, which is `reach` times the group's: in the long run it
            keeps their spectral norm below about 1 / weight_decay. Without it they grow in all ways alike, and
            after thousands of steps pictures have textures that nothing asked for. The rest has none.
    """

    def make(groups: list[dict[str, Any]], lr: float) -> Optimizer:
        hidden = {id(weight) for weight in hidden_weights(network, body)}
        parts = []
        for group in decay_groups(groups, 0.0):
            for mark in (True, False):
                chosen = [weight for weight in group["params"] if (id(weight) in hidden) == mark]
                parts += [{**group, "params": chosen, MARK: mark}] if chosen else []
        return Muon(parts, lr=lr, reach=reach, momentum=momentum, betas=betas, weight_decay=weight_decay)

    return make


def hidden_weights(network: nn.Module, body: nn.Module | None = None) -> list[nn.Parameter]:
    """The weights of `network` that Muon is for: of layers between the `body`, or the picture, and the answer.

    Those are of 2-D convolutions without groups and of linear layers, but for the body's, those that see or give a
    picture, those that are made of others (as with spectral norm), those that are too large (`LARGEST`), and those
    that give the places of an enlarged map side by side, as before a `PixelShuffle` in one `Sequential`: that
    neighbours differ, in a checkerboard, is one of the ways such a matrix has, and should not be gone as far as
    others.
    """
    known = {id(parameter) for parameter in body.parameters()} if body is not None else set()
    for part in network.modules():
        if isinstance(part, nn.Sequential) and any(isinstance(layer, nn.PixelShuffle) for layer in part):
            known |= {id(parameter) for layer in part for parameter in layer.parameters(recurse=False)}
    found = []
    for module in network.modules():
        plain = isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)
        weight = module._parameters.get("weight") if plain else None
        if weight is None or id(weight) in known:
            continue
        if min(weight.shape[:2]) > PICTURE_CHANNELS and min(len(weight), weight[0].numel()) <= LARGEST:
            found.append(weight)
    return found


class Muon(AdamW):
    """See `muon`. Groups marked `"orthogonal": True` hold weights (outputs, inputs, ...); the rest are Adam's.

    Args:
        groups: of parameters.
        lr: the rate of those that have none.
        reach: see `muon`.
        momentum: see `muon`.
        betas: Adam's.
        weight_decay: see `muon`.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        *,
        lr: float,
        reach: float,
        momentum: float,
        betas: tuple[float, float],
        weight_decay: float,
    ) -> None:
        super().__init__(groups, lr=lr, betas=betas, fused=fused_where_known(groups))
        for group in self.param_groups:
            if group[MARK]:
                group |= {"reach": reach, "momentum": momentum, "weight_decay": weight_decay}
        # The fused kernel would look by itself for gradients that overflowed, but not so what is orthogonal
        self._step_supports_amp_scaling = False

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Move all weights that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        groups = self.param_groups
        self.param_groups = [group for group in groups if not group[MARK]]
        try:
            super().step()
        finally:
            self.param_groups = groups
        for group in groups:
            if group[MARK]:
                for weight in group["params"]:
                    if weight.grad is not None:
                        self._move(weight, weight.grad, group)
        return loss

    def _move(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:
            # Adam expects a count of each weight that it has a state of
            state |= {"step": torch.zeros(()), "momentum": torch.zeros_like(weight)}
        state["step"] += 1
        mean = state["momentum"].lerp_(gradient, 1 - group["momentum"])
        way = gradient.lerp(mean, group["momentum"]).flatten(1)
        outputs, inputs = way.shape
        rate = group["lr"] * group["reach"]
        weight.mul_(1 - rate * group["weight_decay"])
        weight.add_(orthogonal(way).view_as(weight), alpha=-rate * max(1.0, outputs / inputs) ** 0.5)


def orthogonal(matrix: Tensor, rounds: int = 5) -> Tensor:
    """The matrix (m, n) with its singular values all brought near 1, to about 0.7 to 1.2.

    By Newton and Schulz's iteration as Jordan et al. made it: X becomes a X + b X X' X + c X X' X X' X, with
    factors chosen for their slope at 0. All of that is X times a polynomial of X X', which has the smaller side:
    the iteration runs on that square alone, and the large matrix is multiplied twice in all. Singular values far
    below the largest come out smaller than that; a matrix of zeros stays one.

    The square is iterated in double precision, where there is any: what rounding makes of its smallest values
    grows twelvefold a round, and by TF32, as GPUs multiply unless told otherwise, would come out far too large.
    """
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonal(matrix.mT, rounds).mT
    a, b, c = _SLOPES
    wide = matrix if matrix.dtype == torch.float64 else matrix.float()
    wide = wide / wide.norm().clamp_min(1e-12)
    square = wide @ wide.mT
    if square.device.type != "mps":
        square = square.double()
    product = torch.eye(len(square), dtype=square.dtype, device=square.device)
    for _ in range(rounds):
        factor = torch.addmm(b * square, square, square, alpha=c)
        factor.diagonal().add_(a)
        product = factor @ product
        square = factor @ square @ factor
    return (product.to(wide.dtype) @ wide).to(matrix.dtype)
