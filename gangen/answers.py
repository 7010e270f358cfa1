"""What a network that classifies says, in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn

from gangen.errors import UserError
from gangen.views import Views, in_views


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


def answer(
    network: nn.Module,
    inputs: Iterable[Tensor],
    names: Sequence[str],
    batch_size: int,
    views: Views | None,
    device: torch.device,
) -> list[Answer]:
    """What a network at rest says of pictures (C, H, W) of one size, which are read a batch at a time.

    Args:
        network: gives logits (N, K).
        inputs: the pictures.
        names: of the K classes.
        batch_size: how many to look at together.
        views: in which each is looked at; None for as it is.
        device: of the network.

    Raises:
        UserError: the pictures are of several sizes.
    """
    found: list[Answer] = []
    sizes: set[torch.Size] = set()
    remaining = iter(inputs)
    while group := list(islice(remaining, batch_size)):
        sizes |= {picture.shape for picture in group}
        if len(sizes) > 1:
            raise UserError(
                "the pictures are of several sizes, and the pipeline does not tell what to bring them to. Build "
                'it with config={"trained_size": PIXELS}.'
            )
        batch = torch.stack(group).to(device)
        if views is None:
            sure = network(batch).float().softmax(dim=1)
        else:
            sure = in_views(network, batch, views, labels=True)
        found += to_answers(sure, names)
    return found


def to_answers(probabilities: Tensor, names: Sequence[str]) -> list[Answer]:
    """Probabilities (N, K) of K classes of these names to N answers."""
    found = []
    for sure in probabilities.cpu():
        best = int(sure.argmax())
        found.append(Answer(names[best], float(sure[best]), dict(zip(names, sure.tolist(), strict=True))))
    return found
