"""Sample grids: always the same pictures, so that progress can be seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.nn import functional as F
from torch.utils.data import Dataset

from gangen import images
from gangen.train.callback import Callback
from gangen.train.feed import Seeded, collate, to_device
from gangen.train.showing import showing

if TYPE_CHECKING:
    from gangen.train.trainer import Trainer


class Samples(Callback):
    """Writes `samples/step-N.png`: rows of input, output and target; a small input in larger pixels, not smoothed.

    Args:
        data: where the pictures come from, usually the validation set; `count` of them, evenly spread.
        count: rows.
        every: steps between grids, besides the one before the training and those at the phases' ends; 0 for none.
        player: whose pictures are shown, from the moving average of its weights.
    """

    def __init__(self, data: Dataset[Any], *, count: int = 8, every: int = 0, player: str = "generator") -> None:
        self.data, self.count, self.every, self.player = data, count, every, player

    def on_phase_start(self, trainer: Trainer) -> None:
        """The pictures before anything was learned."""
        if trainer.total == 0:
            self._draw(trainer)

    def on_step_end(self, trainer: Trainer) -> None:
        """Draw when it is due."""
        between = self.every and trainer.step % self.every == 0 and trainer.step < trainer.phase.steps
        if between and trainer.has_learned(self.player):
            self._draw(trainer)

    def on_phase_end(self, trainer: Trainer) -> None:
        """The pictures at the end of each phase in which the player has learned."""
        if trainer.has_learned(self.player):
            self._draw(trainer)

    def _draw(self, trainer: Trainer) -> None:
        if trainer.run is None:
            return
        name = f"samples/step-{trainer.total:08d}.png"
        if trainer.accelerator.is_main_process:
            images.save(self.grid(trainer), trainer.run / name)
        trainer.log("samples", file=name)

    def grid(self, trainer: Trainer) -> Any:
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
                shown = F.interpolate(batch.input, batch.target.shape[2:], mode="nearest")
                rows.append([shown[0], output[0].cpu(), batch.target[0]])
                names.append(batch.name[0])
        return images.grid(rows, columns=["input", "output", "target"], row_labels=names)
