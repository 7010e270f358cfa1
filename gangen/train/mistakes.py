"""What a network that answers with labels gets wrong: the worst pictures, and which classes it takes for which."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import gather_object
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from gangen import images
from gangen.errors import UserError
from gangen.labels import Classes, draw_confusion
from gangen.losses import cross_entropy
from gangen.metrics import Confusion
from gangen.train.callback import Callback
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


class Mistakes(Callback):
    """Looks at the whole validation set when training ends, and draws what went wrong.

    In the run folder, and in the report: `top_losses.png`, the samples with the highest loss in the manner of the
    sample grids, and `confusion.png`, how often each class was answered by which, in shares of the class.

    Args:
        grid: how samples are drawn, and of which data: a `MaskSamples` or `ClassSamples`.
        classes: what is told apart.
        loss: logits and labels of one sample to a scalar.
        count: of the worst samples that are shown.
        batch_size: samples that are judged together.

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
        batch_size: int = 16,
    ) -> None:
        self.grid, self.classes, self.loss = grid, classes, loss
        self.count, self.batch_size = count, batch_size
        self.worst: list[Mistake] = []
        self.confusion = torch.zeros(len(classes), len(classes), dtype=torch.int64)

    def on_phase_end(self, trainer: Trainer) -> None:
        """Look, after the last phase."""
        if trainer.phase_index == len(trainer.plan.phases) - 1 and self.grid.player in trainer.plan.networks:
            self.look(trainer)
            self._draw(trainer)

    def look(self, trainer: Trainer) -> None:
        """Judge every sample, each process its share of them."""
        data: Dataset[Any] = self.grid.data
        replaced = getattr(data, "replaced", None)
        seeded, counts = Seeded(data, trainer.seed), Confusion(len(self.classes))
        world, rank = trainer.accelerator.num_processes, trainer.accelerator.process_index
        found: list[Mistake] = []
        table = torch.zeros_like(self.confusion)
        with showing(trainer, self.grid.player) as network:
            mine = range(rank, len(data), world)  # type: ignore[arg-type]
            for indices in (
                mine[first : first + self.batch_size] for first in range(0, len(mine), self.batch_size)
            ):
                read = collate([seeded[0, index] for index in indices])
                if isinstance(read, UserError):
                    raise read
                batch = to_device(read, trainer.accelerator.device)
                logits = network(batch.input).float()
                for place, index in enumerate(indices):
                    if replaced is not None and replaced(index):
                        continue
                    one, label = logits[place : place + 1], batch.target[place : place + 1]
                    found.append(Mistake(index, batch.name[place], float(self.loss(one, label))))
                    table += counts(one, label).cpu()
        every = [mistake for part in gather_object([found]) for mistake in part]
        self.worst = sorted(every, key=lambda mistake: (-mistake.loss, mistake.index))[: self.count]
        self.confusion = torch.stack(gather_object([table])).sum(dim=0)

    def _draw(self, trainer: Trainer) -> None:
        if trainer.run is None:
            return
        if trainer.accelerator.is_main_process:
            images.save(self._sheet(trainer), trainer.run / "top_losses.png")
            images.save(draw_confusion(self.confusion, self.classes), trainer.run / "confusion.png")
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
