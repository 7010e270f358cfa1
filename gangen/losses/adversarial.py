"""Adversarial losses in pairs, one for each player, on logits that are high for real pictures.

A critic's whole loss is `critic_terms`, and a variant of it is a few lines of `judge`, a pair and a penalty:

    real_logits, fake_logits = judge(nets.critic, batch.target, fake.detach())
    return {"adversarial": hinge.critic(real_logits, fake_logits)}
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from gangen.errors import UserError

Critic = Callable[..., Tensor]
"""Called with pictures (N, C, H, W), and their condition if it has one; gives logits, N first."""


class GeneratorLoss(Protocol):
    """The generator's half of a pair."""

    def __call__(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """A scalar that falls as the critic takes fake pictures for real; most pairs ignore the real logits."""
        ...


@dataclass(frozen=True)
class Adversarial:
    """One game's two losses, both to be minimised.

    Attributes:
        name: for logs and configs.
        critic: (real_logits, fake_logits) to a scalar.
        generator: (fake_logits, real_logits=None) to a scalar.
    """

    name: str
    critic: Callable[[Tensor, Tensor], Tensor]
    generator: GeneratorLoss


def bce(smoothing: float = 0.0) -> Adversarial:
    """The non-saturating game (Goodfellow et al. 2014, arXiv:1406.2661, section 3), computed from logits.

    Args:
        smoothing: real pictures are taught as 1 - smoothing, from 0 up to below 0.5 (one-sided label
            smoothing, Salimans et al. 2016, arXiv:1606.03498, section 3.4).
    """
    _check_smoothing(smoothing)

    def critic(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        # -(1 - s) log D - s log(1 - D) = softplus(-x) + s x, for D = sigmoid(x)
        return (F.softplus(-real_logits) + smoothing * real_logits).mean() + F.softplus(fake_logits).mean()

    def generator(fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        return F.softplus(-fake_logits).mean()

    return Adversarial("bce", critic, generator)


def least_squares(smoothing: float = 0.0) -> Adversarial:
    """The least-squares game (Mao et al. 2017, arXiv:1611.04076, equation 9: 0 for fake, 1 for real).

    Args:
        smoothing: real pictures are taught as 1 - smoothing, from 0 up to below 0.5.
    """
    _check_smoothing(smoothing)

    def critic(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return ((real_logits - (1 - smoothing)).square().mean() + fake_logits.square().mean()) / 2

    def generator(fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        return (fake_logits - 1).square().mean() / 2

    return Adversarial("least_squares", critic, generator)


def _hinge_critic(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    return F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean()


def _wasserstein_critic(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    return fake_logits.mean() - real_logits.mean()


def _raise_fake(fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
    return -fake_logits.mean()


def _relativistic_critic(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    real_over_fake = real_logits - fake_logits.mean()
    fake_over_real = fake_logits - real_logits.mean()
    return F.softplus(-real_over_fake).mean() + F.softplus(fake_over_real).mean()


def _relativistic_generator(fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
    if real_logits is None:
        raise TypeError(
            "the relativistic generator loss compares with real pictures: call generator(fake_logits, real_logits)"
        )
    return _relativistic_critic(fake_logits, real_logits)


hinge = Adversarial("hinge", _hinge_critic, _raise_fake)
"""The hinge game (Lim & Ye 2017, arXiv:1705.02894; Miyato et al. 2018, arXiv:1802.05957, equations 16 and 17)."""

wasserstein = Adversarial("wasserstein", _wasserstein_critic, _raise_fake)
"""The Wasserstein game (Arjovsky et al. 2017, arXiv:1701.07875); wants a `gradient_penalty` or spectral norm."""

relativistic = Adversarial("relativistic", _relativistic_critic, _relativistic_generator)
"""The relativistic average game (Jolicoeur-Martineau 2018, arXiv:1807.00734, section 4.2)."""


def judge(critic: Critic, real: Tensor, fake: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Real and fake pictures through the critic in one forward; gives (real_logits, fake_logits).

    Args:
        critic: bare or wrapped by DistributedDataParallel, which allows but one forward before a backward.
        real: (N, C, H, W) in [-1, 1].
        fake: (N, C, H, W) in [-1, 1]. Detach it when the critic is to learn and the generator is not.
        condition: (N, K, H, W), what both were made from.
    """
    real_logits, fake_logits = judge_all(critic, [real, fake], condition)
    return real_logits, fake_logits


def judge_all(critic: Critic, pictures: list[Tensor], condition: Tensor | None = None) -> list[Tensor]:
    """As `judge`, for any number of batches that share one condition; gives the logits of each."""
    joined = torch.cat(pictures)
    logits = critic(joined) if condition is None else critic(joined, torch.cat([condition] * len(pictures)))
    # Half precision is for the networks: a loss rounded to 8 bits would hide what a switcher looks for
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return list(logits.split([len(part) for part in pictures]))


def accuracy(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Share of the logits, real and fake weighed alike, on the right side of zero: 0 to 1, stays on its device."""
    right_real = (real_logits > 0).float().mean()
    right_fake = (fake_logits < 0).float().mean()
    return (right_real + right_fake) / 2


def _check_smoothing(smoothing: float) -> None:
    if not 0 <= smoothing < 0.5:
        raise UserError(f"a label smoothing of {smoothing} is out of range; give 0 up to below 0.5.")
