"""Sample grids: always the same pictures, so that progress can be seen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from gangen import images
from gangen.labels import Classes, captioned, draw_mask, overlay, with_legend
from gangen.nets import latents, slerp
from gangen.train.callback import Callback
from gangen.train.feed import Seeded, collate, to_device
from gangen.train.showing import showing

if TYPE_CHECKING:
    from gangen.train.trainer import Trainer


class Grids(Callback, ABC):
    """Writes `samples/step-N.png`: what `grid` draws, which each kind of grid says.

    Args:
        every: steps between grids, besides the one before the training and those at the phases' ends; 0 for none.
        player: whose pictures are shown, from the moving average of its weights.
    """

    def __init__(self, *, every: int = 0, player: str = "generator") -> None:
        self.every, self.player = every, player

    def on_phase_start(self, trainer: Trainer) -> None:
        """The pictures before anything was learned."""
        if trainer.total == 0:
            self.draw(trainer)

    def on_step_end(self, trainer: Trainer) -> None:
        """Draw when it is due."""
        between = self.every and trainer.step % self.every == 0 and trainer.step < trainer.phase.steps
        if between and trainer.has_learned(self.player):
            self.draw(trainer)

    def on_phase_end(self, trainer: Trainer) -> None:
        """The pictures at the end of each phase in which the player has learned."""
        if trainer.has_learned(self.player):
            self.draw(trainer)

    def draw(self, trainer: Trainer) -> None:
        """Draw now."""
        self.write(trainer, "samples", f"samples/step-{trainer.total:08d}.png", self.grid)

    def write(self, trainer: Trainer, event: str, name: str, grid: Callable[[Trainer], Image.Image]) -> None:
        """Save what `grid(trainer)` gives as `name` in the run folder, and log it as `event`."""
        if trainer.run is None:
            return
        if trainer.accelerator.is_main_process:
            images.save(grid(trainer), trainer.run / name)
        trainer.log(event, file=name)

    @abstractmethod
    def grid(self, trainer: Trainer) -> Image.Image:
        """The grid as a picture."""


class Samples(Grids):
    """Rows of input, output and target; a small input in larger pixels, not smoothed.

    `row` and `columns` say what is shown of a sample, for other kinds of answers to say it anew.

    Args:
        data: where the pictures come from, usually the validation set; `count` of them, evenly spread.
        count: rows.
        every: steps between grids, besides the one before the training and those at the phases' ends; 0 for none.
        player: whose pictures are shown, from the moving average of its weights.
    """

    columns: Sequence[str] = ("input", "output", "target")

    def __init__(self, data: Dataset[Any], *, count: int = 8, every: int = 0, player: str = "generator") -> None:
        super().__init__(every=every, player=player)
        self.data, self.count = data, count

    def grid(self, trainer: Trainer) -> Image.Image:
        """The grid as a picture."""
        length = len(self.data)  # type: ignore[arg-type]
        count = min(self.count, length)
        seeded = Seeded(self.data, trainer.seed)
        rows, names = [], []
        with showing(trainer, self.player) as network:
            for i in range(count):
                # One at a time: they may be of different sizes.
                batch = collate([seeded[0, i * length // count]])
                if isinstance(batch, Exception):
                    raise batch
                output = network(to_device(batch.input, trainer.accelerator.device)).float()
                rows.append(self.row(batch.input[0], output[0].cpu(), batch.target[0]))
                names.append(batch.name[0])
        return self.sheet(rows, names)

    def sheet(self, rows: list[list[Image.Image | Tensor]], names: list[str]) -> Image.Image:
        """All rows together, labelled."""
        return images.grid(rows, columns=self.columns, row_labels=names)

    def row(self, given: Tensor, output: Tensor, target: Tensor) -> list[Image.Image | Tensor]:
        """What is shown of a sample: `columns` pictures."""
        return [F.interpolate(given[None], target.shape[1:], mode="nearest")[0], output, target]


class MaskSamples(Samples):
    """Rows of picture, answer and labels, each mask laid over its picture, with a legend of the classes.

    What is ignored is dark. Arguments are those of `Samples`, and:

    Args:
        classes: what is told apart.
    """

    columns = ("picture", "answer", "labels")

    def __init__(
        self, data: Dataset[Any], classes: Classes, *, count: int = 8, every: int = 0, player: str = "network"
    ) -> None:
        super().__init__(data, count=count, every=every, player=player)
        self.classes = classes

    def sheet(self, rows: list[list[Image.Image | Tensor]], names: list[str]) -> Image.Image:
        """All rows together, labelled, with the legend below."""
        return with_legend(super().sheet(rows, names), self.classes)

    def row(self, given: Tensor, output: Tensor, target: Tensor) -> list[Image.Image | Tensor]:
        """The picture, and both masks over it."""
        picture = images.to_picture(given)
        masks = (output.argmax(dim=0), target)
        return [picture, *(overlay(picture, draw_mask(mask, self.classes)) for mask in masks)]


class ClassSamples(Samples):
    """Pictures in rows of four, each with its answer and how sure it is; red, with the truth, where it is wrong.

    Of pairs, both pictures side by side. Arguments are those of `MaskSamples`.
    """

    def __init__(
        self, data: Dataset[Any], classes: Classes, *, count: int = 16, every: int = 0, player: str = "network"
    ) -> None:
        super().__init__(data, count=count, every=every, player=player)
        self.classes = classes

    def sheet(self, rows: list[list[Image.Image | Tensor]], names: list[str]) -> Image.Image:
        """The pictures of all samples, four in a row."""
        cells = [cell for row in rows for cell in row]
        return images.grid([cells[first : first + 4] for first in range(0, len(cells), 4)])

    def row(self, given: Tensor, output: Tensor, target: Tensor) -> list[Image.Image | Tensor]:
        """The picture with its caption."""
        sure, answer = output.softmax(dim=0).max(dim=0)
        said, truth = self.classes.names[int(answer)], self.classes.names[int(target)]
        pictures = [images.to_picture(part) for part in given.split(3)]
        right = said == truth
        caption = f"{said} {100 * float(sure):.0f}%" + ("" if right else f" ({truth})")
        return [captioned(pictures, caption, "black" if right else "red")]


class FromLatents(Grids):
    """Pictures from noise that stays the same; and `samples/between-N.png`, the way from some of them to others.

    Args:
        latent: how many numbers the generator takes.
        side: pictures in a row and in a column.
        ways: rows of the other grid: each leads from one picture of the first grid to another by `slerp`.
        seed: of the noise.
        every: steps between grids, besides the one before the training and those at the phases' ends; 0 for none.
        player: whose pictures are shown, from the moving average of its weights.
    """

    def __init__(
        self,
        latent: int,
        *,
        side: int = 8,
        ways: int = 4,
        seed: int = 0,
        every: int = 0,
        player: str = "generator",
    ) -> None:
        super().__init__(every=every, player=player)
        if side < 2 or not 1 <= 2 * ways <= side**2:
            raise ValueError(f"{side}x{side} pictures do not give {ways} ways from one to another")
        self.side, self.ways = side, ways
        self.noise = latents(side**2, latent, seed)

    def draw(self, trainer: Trainer) -> None:
        """Draw both grids now."""
        super().draw(trainer)
        self.write(trainer, "between", f"samples/between-{trainer.total:08d}.png", self.between)

    def grid(self, trainer: Trainer) -> Image.Image:
        """The pictures of the fixed noise."""
        return self._paint(trainer, self.noise)

    def between(self, trainer: Trainer) -> Image.Image:
        """Rows that lead from one picture to another."""
        pairs = zip(self.noise[: self.ways], self.noise[self.ways :], strict=False)
        return self._paint(trainer, torch.cat([slerp(one, other, self.side) for one, other in pairs]))

    def _paint(self, trainer: Trainer, noise: Tensor) -> Image.Image:
        with showing(trainer, self.player) as network:
            pictures = network(noise.to(trainer.accelerator.device)).float().cpu()
        rows = pictures.split(self.side)
        return images.grid([list(row) for row in rows], cell=max(64, pictures.shape[-1]))
