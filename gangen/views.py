"""Show a network a picture in several ways and average what it answers: test-time augmentation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from gangen.errors import UserError


@dataclass(frozen=True)
class Views:
    """In which ways a picture is looked at: at each scale, and there mirrored too.

    By default mirrored only, which costs twice the time. Other scales may help a network whose objects come near
    and far: with `Views(scales=(0.75, 1.0, 1.25))` it costs 6.25 times the time. One that paints loses fine detail
    by them.

    Attributes:
        flip: look at the picture's mirror image too, left to right. Leave it out where left and right are what the
            network tells apart, as with text.
        scales: sides of what is looked at, as shares of the picture's; each above 0. Time grows with the sum of
            their squares.

    Raises:
        UserError: there is no scale, or one is no number above 0.
    """

    flip: bool = True
    scales: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if isinstance(self.scales, int | float | str) or not self.scales:
            raise UserError(f"views of scales {self.scales!r} show nothing. Give one or more, like (1.0,).")
        object.__setattr__(self, "scales", tuple(self.scales))
        for scale in self.scales:
            if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale < math.inf:
                raise UserError(f"a view of scale {scale!r} is impossible. Give a number above 0, like 0.75.")


def in_views(
    network: Callable[[Tensor], Tensor], batch: Tensor, views: Views, *, labels: bool, scale: int = 1
) -> Tensor:
    """Show a network a batch in every view, undo the view on what it answers, and average.

    Labels are averaged as probabilities, in which a view that is sure counts more than one that guesses, and none
    counts for more than it knows, as with logits it may. Pictures are averaged as they are seen, in [-1, 1].

    Args:
        network: maps (N, C, h, w) in [-1, 1], of any h and w from one pixel up, to maps
            (N, K, scale * h, scale * w), or to a vector for each picture, (N, K), which no view moves.
        batch: (N, C, H, W). Where the channels are those of several pictures, all are looked at alike.
        views: in which ways.
        labels: whether the answers are logits of K classes; else they are pictures.
        scale: by how much the answers are larger.

    Returns:
        (N, K, scale * H, scale * W) or (N, K): probabilities, whose sum over K is 1, or pictures in [-1, 1].
    """
    height, width = batch.shape[2:]
    answered = (scale * height, scale * width)

    def answer(pictures: Tensor, share: float) -> Tensor:
        seen = (max(1, round(share * height)), max(1, round(share * width)))
        found = network(_resized(pictures, seen, bounded=True)).float()
        found = found.softmax(dim=1) if labels else found.clamp(-1, 1)
        return _resized(found, answered, bounded=not labels) if found.ndim == 4 else found

    total: Tensor | None = None
    for share in views.scales:
        found = answer(batch, share)
        if views.flip:
            # Added two by two, the picture and its mirror image sum up to the same bits, whichever is given.
            found = found + _mirrored(answer(_mirrored(batch), share))
        total = found if total is None else total + found
    assert total is not None
    return total / (len(views.scales) * (2 if views.flip else 1))


def _mirrored(answer: Tensor) -> Tensor:
    return answer.flip(3) if answer.ndim == 4 else answer


def _resized(maps: Tensor, size: tuple[int, int], bounded: bool) -> Tensor:
    """Pictures, bounded to [-1, 1] since the bicubic filter overshoots; or probabilities, which stay such."""
    if tuple(maps.shape[2:]) == size:
        return maps
    if bounded:
        return F.interpolate(maps, size, mode="bicubic", antialias=True).clamp(-1, 1)
    return F.interpolate(maps, size, mode="bilinear", antialias=True)
