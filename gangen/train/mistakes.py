"""What a network that answers with labels gets wrong: the worst pictures, and which classes it takes for which."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import gather_object
from PIL import Image
from torch import Tensor

from gangen import images
from gangen.labels import Classes, draw_confusion
from gangen.losses import cross_entropy
from gangen.metrics import Confusion
from gangen.train.feed import Seeded, collate, to_device
from gangen.train.samples import Samples
from gangen.train.showing import showing

if TYPE_CHECKING:
    from gangen.train.trainer import Trainer


@dataclass(frozen=True)
class Mistake:
    """One sample and how badly it was answered.

    Attributes:
        index: its place in the data set.
        name: its name.
        loss: of it alone.
    """

    index: int
    name: str
    loss: float


class Mistakes:
    """The witness of the last validation: looks at the whole validation set, and draws what went wrong.

        mistakes = Mistakes(grid, classes)
        Validation(data, metrics, player="network", witness=mistakes)

    In the run folder, and in the report: `top_losses.png`, the samples with the highest loss in the manner of the
    sample grids, and `confusion.png`, how often each class was answered by which, in shares of the class.

    Args:
        grid: how samples are drawn, and of which data: a `MaskSamples` or `ClassSamples`.
        classes: what is told apart.
        loss: logits and labels of one sample to a scalar.
        count: of the worst samples that are shown.

    Attributes:
        worst: the worst samples, the worst first.
        confusion: (K, K) counts, a row for each label and a column for each answer.
    """

    def __init__(
        self,
        grid: Samples,
        classes: Classes,
        loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
        *,
        count: int = 8,
    ) -> None:
        self.grid, self.classes, self.loss, self.count = grid, classes, loss, count
        self.worst: list[Mistake] = []
        self.confusion = torch.zeros(len(classes), len(classes), dtype=torch.int64)
        self._seen: list[Mistake] = []
        self._counted = torch.zeros_like(self.confusion)

    def wants(self, trainer: Trainer) -> bool:
        """Of all validations the one that ends the last phase."""
        self._seen, self._counted = [], torch.zeros_like(self.confusion)
        return trainer.phase_index == len(trainer.plan.phases) - 1 and trainer.step == trainer.phase.steps

    def see(self, trainer: Trainer, batch: Any, indices: Sequence[int], output: Tensor) -> None:
        """Judge each sample of a batch alone."""
        counts = Confusion(len(self.classes))
        for place, index in enumerate(indices):
            one, label = output[place : place + 1], batch.target[place : place + 1]
            self._seen.append(Mistake(index, batch.name[place], float(self.loss(one, label))))
        self._counted += counts(output, batch.target).cpu()

    def conclude(self, trainer: Trainer) -> None:
        """Find the worst of all processes' samples, and draw."""
        every = [mistake for part in gather_object([self._seen]) for mistake in part]
        # A loss of one's own may be NaN, as of a picture without any label, which is no mistake
        judged = [mistake for mistake in every if not math.isnan(mistake.loss)]
        self.worst = sorted(judged, key=lambda mistake: (-mistake.loss, mistake.index))[: self.count]
        self.confusion = torch.stack(gather_object([self._counted])).sum(dim=0)
        self._draw(trainer)

    def _draw(self, trainer: Trainer) -> None:
        if trainer.run is None:
            return
        if trainer.accelerator.is_main_process:
            if self.worst:
                images.save(self._sheet(trainer), trainer.run / "top_losses.png")
            images.save(draw_confusion(self.confusion, self.classes), trainer.run / "confusion.png")
        if self.worst:
            trainer.log("figure", title="Top losses", file="top_losses.png")
        trainer.log("figure", title="Confusion matrix", file="confusion.png")

    def _sheet(self, trainer: Trainer) -> Image.Image:
        seeded = Seeded(self.grid.data, trainer.seed)
        rows, names = [], []
        with showing(trainer, self.grid.player) as network:
            for mistake in self.worst:
                batch = collate([seeded[0, mistake.index]])
                output = network(to_device(batch.input, trainer.accelerator.device)).float()
                rows.append(self.grid.row(batch.input[0], output[0].cpu(), batch.target[0]))
                names.append(f"{mistake.loss:.3g} {mistake.name}")
        return self.grid.sheet(rows, names)
