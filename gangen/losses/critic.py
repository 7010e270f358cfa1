"""The critic's whole loss: telling real from fake, and the penalties that keep the game stable."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor

from gangen.losses.adversarial import Adversarial, Critic, hinge, judge_all
from gangen.losses.penalties import due, gradient_penalty, mix, r1


def critic_terms(
    critic: Critic,
    real: Tensor,
    fake: Tensor,
    loss: Adversarial = hinge,
    condition: Tensor | None = None,
    r1_weight: float = 0.0,
    r1_every: int = 16,
    step: int = 0,
    penalty: float = 0.0,
) -> dict[str, Tensor]:
    """What a critic minimises, from one forward for all of it. The generator gets no gradient.

    Args:
        critic: bare or wrapped by DistributedDataParallel.
        real: (N, C, H, W) in [-1, 1].
        fake: (N, C, H, W) in [-1, 1].
        loss: the game.
        condition: (N, K, H, W), what both were made from, for a conditional critic.
        r1_weight: of the slope at real pictures; 0 leaves it out.
        r1_every: steps between two computations of that slope.
        step: the critic's steps so far, for `r1_every`.
        penalty: weight of the gradient penalty of WGAN-GP; 0 leaves it out.

    Returns:
        "adversarial", with `r1_weight` also "r1", which is zero on the steps between, and with `penalty` also
        "gradient_penalty".
    """
    real, fake = real.detach(), fake.detach()
    if r1_weight and due(step, r1_every):
        real.requires_grad_()
    mixed = [mix(real, fake)] if penalty else []
    # A slope's own slope does not fit into half precision: such a step is taken in single.
    single = real.requires_grad or bool(mixed)
    with torch.autocast(real.device.type, enabled=False) if single else nullcontext():
        shown = [_widened(picture) if single else picture for picture in (real, fake, *mixed)]
        given = _widened(condition) if single and condition is not None else condition
        real_logits, fake_logits, *mixed_logits = judge_all(critic, shown, given)
        terms = {"adversarial": loss.critic(real_logits, fake_logits)}
        if r1_weight:
            terms["r1"] = r1(real_logits, real, r1_weight, step=step, every=r1_every)
        if penalty:
            terms["gradient_penalty"] = gradient_penalty(mixed_logits[0], mixed[0], penalty)
    return terms


def _widened(pictures: Tensor) -> Tensor:
    """Half precision as single; wider ones as they are."""
    return pictures.float() if pictures.dtype in (torch.float16, torch.bfloat16) else pictures
