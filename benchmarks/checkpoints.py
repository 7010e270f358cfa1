"""What checkpoints cost: written while the training waits, or by a thread while it goes on.

    python benchmarks/checkpoints.py            # some minutes on two CPU cores

A generator and a critic learn, and a checkpoint of everything (weights, averages, optimizers) is saved every few
steps, in stretches that take turns: without checkpoints; as gangen's trainer writes them, waiting until the
file is on the disk; and copied in memory, the copy being written by a thread that is waited for before the next
one. What a stretch takes longer than one without checkpoints, by its number of checkpoints, is what one costs.
"""

from __future__ import annotations

import copy
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from ready import Ready
from reporting import Found, Table, tell
from torch import Tensor

from gangen.data import Batch
from gangen.losses import critic_terms, hinge, l1
from gangen.nets import Body, ImageHead, PatchCritic, UNet
from gangen.train import Callback, Phase, Player, Together, Trainer, checkpoint, launch


@dataclass(kw_only=True)
class Settings:
    """What is measured."""

    body: str = "resnet34"
    """The generator's body."""
    size: int = 64
    """Side of the pictures, in pixels."""
    batch_size: int = 8
    """Pictures a batch."""
    every: int = 5
    """Steps between checkpoints."""
    saves: int = 3
    """Checkpoints a stretch."""
    rounds: int = 5
    """Stretches of each kind."""
    out: Path | None = None
    """JSON file for the result."""


class Writer:
    """Writes copies of the state by a thread."""

    def __init__(self) -> None:
        self.thread: threading.Thread | None = None

    def save(self, trainer: Trainer) -> None:
        """Copy the state, once the last copy is written, and begin to write it."""
        self.wait()
        assert trainer.checkpoints is not None
        state = copy.deepcopy(checkpoint.snapshot(trainer))
        self.thread = threading.Thread(target=trainer.checkpoints.save, args=(state, trainer.total))
        self.thread.start()

    def wait(self) -> None:
        """Until the last copy is written."""
        if self.thread is not None:
            self.thread.join()
            self.thread = None


class Stretches(Callback):
    """Takes the time of stretches, each with its own way to save."""

    def __init__(self, settings: Settings) -> None:
        self.writer = Writer()
        self.ways: dict[str, Callable[[Trainer], Any]] = {
            "none": lambda trainer: None,
            "waiting": lambda trainer: trainer.save(),
            "by a thread": self.writer.save,
        }
        self.every, self.length = settings.every, settings.every * settings.saves
        self.seconds: dict[str, list[float]] = {name: [] for name in self.ways}
        self.begun = 0.0

    def on_step_end(self, trainer: Trainer) -> None:
        """Save as the stretch at hand does, and end it where it ends."""
        stretch, step = divmod(trainer.step - 1, self.length)
        name = list(self.ways)[stretch % len(self.ways)]
        if (step + 1) % self.every == 0:
            self.ways[name](trainer)
        if step + 1 == self.length:
            self.writer.wait()
            if stretch >= len(self.ways):  # the first of each kind warms up
                self.seconds[name].append(time.perf_counter() - self.begun)
            self.begun = time.perf_counter()


def main(settings: Settings) -> None:
    accelerator = launch()
    torch.manual_seed(0)
    generator, critic = UNet(Body(settings.body), ImageHead(3)), PatchCritic(3)

    def persuade(nets: Any, batch: Batch) -> dict[str, Tensor]:
        fake = nets.generator(batch.input)
        return {"pixel": l1(fake, batch.target), "adversarial": 0.03 * hinge.generator(nets.critic(fake))}

    def judge(nets: Any, batch: Batch) -> dict[str, Tensor]:
        return critic_terms(nets.critic, batch.target, nets.generator(batch.input), hinge)

    players = [Player("critic", critic, judge), Player("generator", generator, persuade, ema=0.99)]
    watch = Stretches(settings)
    steps = watch.length * len(watch.ways) * (settings.rounds + 1)
    with tempfile.TemporaryDirectory(dir=".") as folder:
        trainer = Trainer(
            Path(folder) / "run",
            Ready(64, settings.size),
            batch_size=settings.batch_size,
            callbacks=[watch],
            accelerator=accelerator,
            save_every=0,
            log_every=0,
        )
        trainer.fit([Phase("play", players, steps, switcher=Together())])
        size = max(path.stat().st_size for path in (Path(folder) / "run" / "checkpoints").glob("*.pt"))
    plain = statistics.median(watch.seconds["none"])
    medians = {name: statistics.median(each) for name, each in watch.seconds.items() if name != "none"}
    costs = {name: (median - plain) / settings.saves for name, median in medians.items()}
    step = plain / watch.length
    rows = [[name, f"{cost:.2f}", f"{cost / (200 * step + cost):.2%}"] for name, cost in costs.items()]
    heads = ["written", "seconds that one costs", "of a training that saves every 200 steps"]
    about = f"A checkpoint of {size / 2**20:.0f} MiB; a step takes {step:.2f} s; {settings.rounds} rounds."
    values = {"MiB": size / 2**20, "step": step, "seconds": watch.seconds, "costs": costs}
    tell(Found("Checkpoints", [Table(heads, rows, about)], values), settings.out)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
