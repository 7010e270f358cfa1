"""What a probe of a game's players may show, and what that means: numbers to sentences with a remedy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Reading = Mapping[str, float]
"""Numbers of one probe by name: those of `measure` and `separation`; "critic_loss", of its adversarial term;
"adversarial_share", the critic's part of the gradient at the generated pictures; "terms", of the generator's loss;
and "NAME_gradient", the norm of a player's gradient. What could not be measured is missing."""

_CELLS = 8
"""Side of the squares, in pixels, over which a grid of the generator's making is averaged."""


@dataclass(frozen=True)
class Symptom:
    """One thing that goes wrong in games.

    Attributes:
        name: short, for logs.
        shows: whether a reading has it, seen beside the first reading of the phase.
        says: what is said of a reading that has it, with a remedy.
    """

    name: str
    shows: Callable[[Reading, Reading], bool]
    says: Callable[[Reading, Reading], str]


def measure(fake: Tensor, real: Tensor, inputs: Tensor) -> dict[str, float]:
    """Numbers of generated pictures beside real ones.

    Args:
        fake: (N, C, H, W) in [-1, 1], what the generator made of `inputs`.
        real: (N, C, H, W) in [-1, 1].
        inputs: N first.

    Returns:
        "colour_drift": largest distance of a channel's mean from that of the real pictures, in units of [-1, 1];
        "grid": energy of the patterns of period 2 that are the same all over a square of 8 pixels, beside that of
        the real pictures, which is how a transposed convolution's checkerboard shows (Odena et al. 2016,
        "Deconvolution and checkerboard artifacts", distill.00003); "variety": mean distance of the pictures from
        one another, beside that of the real ones; missing where the inputs are all alike.
    """
    drift = (fake.mean(dim=(0, 2, 3)) - real.mean(dim=(0, 2, 3))).abs().max()
    found = {"colour_drift": float(drift)}
    theirs = _grid_energy(real)
    if theirs is not None:
        found["grid"] = float(_grid_energy(fake)) / max(float(theirs), 1e-5)  # type: ignore[arg-type]
    apart = _apart(real)
    if len(fake) > 1 and apart > 1e-3 and _apart(inputs) > 1e-3:
        found["variety"] = _apart(fake) / apart
    return found


def separation(real_logits: Tensor, fake_logits: Tensor) -> dict[str, float]:
    """How well a critic tells real from fake, whatever game it plays.

    Returns:
        "critic_accuracy": share of all pairs in which the real logit is above the fake one, 0.5 for guessing;
        "logit_gap": distance of the two means; "logit_spread": standard deviation of all logits.
    """
    real, fake = real_logits.flatten().float(), fake_logits.flatten().float()
    right = torch.searchsorted(fake.sort().values, real).float().mean() / len(fake)
    every = torch.cat([real, fake])
    gap, deviation = real.mean() - fake.mean(), every.std()
    return {"critic_accuracy": float(right), "logit_gap": float(gap), "logit_spread": float(deviation)}


def _gradients(reading: Reading) -> dict[str, float]:
    return {key: value for key, value in reading.items() if key.endswith("_gradient")}


def _grown(now: Reading, first: Reading) -> dict[str, float]:
    return {key: value for key, value in _gradients(now).items() if value > 100 * max(first.get(key, value), 1e-3)}


def _gone(now: Reading) -> dict[str, float]:
    return {key: value for key, value in _gradients(now).items() if value < 1e-7}


def _whose(gradients: Reading) -> str:
    return " and ".join(f"the {key.removesuffix('_gradient')}'s ({value:.2g})" for key, value in gradients.items())


SYMPTOMS: Sequence[Symptom] = (
    Symptom(
        "critic_won",
        # Telling all apart is usual. It has won when it has nothing left to learn: its loss, which is never below
        # 0 in the games that have such an end, is as good as gone.
        lambda now, first: now.get("critic_accuracy", 0.5) > 0.995 and 0 <= now.get("critic_loss", 1.0) < 0.02,
        lambda now, first: (
            f"the critic has won: it tells {100 * now['critic_accuracy']:.1f}% of all pairs apart, with a loss of "
            f"{now['critic_loss']:.2g}, so the generator learns little from it but to follow its whims; lower the "
            "critic's learning rate, give the generator more steps a turn, or weigh R1 more"
        ),
    ),
    Symptom(
        "critic_silent",
        lambda now, first: now.get("logit_spread", 1.0) < 1e-3,
        lambda now, first: (
            f"the critic says the same of every picture (its logits vary by {now['logit_spread']:.1g}), so the "
            "generator learns nothing from it; raise its learning rate, weigh R1 less, or begin it anew"
        ),
    ),
    Symptom(
        "critic_ignored",
        lambda now, first: now.get("adversarial_share", 1.0) < 0.005,
        lambda now, first: (
            f"the critic is not heard: {100 * now['adversarial_share']:.2g}% of the gradient at the generated "
            "pictures is its; weigh its opinion more (--fool), or leave the game out"
        ),
    ),
    Symptom(
        "critic_alone",
        lambda now, first: now.get("adversarial_share", 0.0) > 0.98 and now.get("terms", 1.0) > 1,
        lambda now, first: (
            f"the critic alone is heard: {100 * now['adversarial_share']:.1f}% of the gradient at the generated "
            "pictures is its, and what they are to look like has no say; weigh its opinion less (--fool)"
        ),
    ),
    Symptom(
        "gradient_grows",
        lambda now, first: bool(_grown(now, first)),
        lambda now, first: (
            f"gradients grow: {_whose(_grown(now, first))} has a hundred times the norm that it had at first; "
            "lower the learning rate or clip it (Player(clip=1.0))"
        ),
    ),
    Symptom(
        "gradient_gone",
        lambda now, first: bool(_gone(now)),
        lambda now, first: (
            f"no gradient is left: {_whose(_gone(now))}, so nothing is learned; look for a saturated output, a "
            "loss that is constant, or a picture that was detached"
        ),
    ),
    Symptom(
        "colour_drift",
        lambda now, first: now.get("colour_drift", 0.0) > 0.25,
        lambda now, first: (
            f"colours drift: a channel's mean is {now['colour_drift']:.2f} away from the real pictures', on a "
            "scale of 2; weigh the pixels more, or the critic's opinion less (--fool)"
        ),
    ),
    Symptom(
        "grid",
        lambda now, first: now.get("grid", 0.0) > 16,
        lambda now, first: (
            f"a grid shows: patterns that repeat every second pixel are {now['grid']:.0f} times as strong as in "
            "real pictures; enlarge by pixel shuffle with ICNR and blur, or by interpolation, and keep strided "
            "kernels divisible by their stride"
        ),
    ),
    Symptom(
        "repeats",
        lambda now, first: now.get("variety", 1.0) < 0.05,
        lambda now, first: (
            f"outputs repeat: they are {100 * now['variety']:.1f}% as far from one another as real pictures are; "
            "lower the generator's learning rate, enlarge the batch, or weigh R1 more"
        ),
    ),
)
"""In the order in which they are looked for."""


def _grid_energy(pictures: Tensor) -> Tensor | None:
    """Mean square, over squares of `_CELLS` pixels, of the three patterns of period 2; None below that size."""
    squares = min(pictures.shape[2:]) // _CELLS
    if squares < 1:
        return None
    height, width = (size // _CELLS * _CELLS for size in pictures.shape[2:])
    phases = pictures[..., :height, :width].unfold(2, _CELLS, _CELLS).unfold(3, _CELLS, _CELLS)
    corners = [phases[..., y::2, x::2].mean(dim=(-2, -1)) for y in (0, 1) for x in (0, 1)]
    return torch.stack(corners).var(dim=0, unbiased=False).mean()


def _apart(pictures: Tensor) -> float:
    """Mean distance between two of them, as the root of the mean square over the elements."""
    flat = pictures.flatten(1).float()
    return float(torch.pdist(flat).mean()) / flat.shape[1] ** 0.5 if len(flat) > 1 else 0.0
