"""What a network that classifies says, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Answer:
    """What a network says of a picture, or of two.

    Attributes:
        label: the likeliest class.
        probability: how sure it is of that, 0 to 1.
        probabilities: of all classes, by name.
    """

    label: str
    probability: float
    probabilities: Mapping[str, float]


def to_answers(probabilities: Tensor, names: Sequence[str]) -> list[Answer]:
    """Probabilities (N, K) of K classes of these names to N answers."""
    found = []
    for sure in probabilities.cpu():
        best = int(sure.argmax())
        found.append(Answer(names[best], float(sure[best]), dict(zip(names, sure.tolist(), strict=True))))
    return found
