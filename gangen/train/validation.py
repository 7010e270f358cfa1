"""Validation: metrics of the averaged generator on pictures that it does not learn from."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from accelerate.utils import gather_object
from safetensors.torch import save
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from gangen.errors import UserError
from gangen.files import replacing, write_json
from gangen.metrics import AnyMetric, Metrics, versions
from gangen.train.callback import Callback
from gangen.train.feed import Seeded, collate, follower, to_device
from gangen.train.showing import showing, shown

if TYPE_CHECKING:
    from gangen.train.trainer import Trainer


class Witness(Protocol):
    """Sees a validation's samples and what the network makes of them, so that they need not be computed again."""

    def wants(self, trainer: Trainer) -> bool:
        """Whether it will look at the validation that begins now."""

    def see(self, trainer: Trainer, batch: Any, indices: Sequence[int], output: Tensor) -> None:
        """Look at a batch of this process, its samples' places in the data, and the network's output."""

    def conclude(self, trainer: Trainer) -> None:
        """All was seen, by all processes."""


class Validation(Callback):
    """Measures, logs, and keeps the best weights.

    Each process judges its own part of the data and every sample counts once, so the numbers do not depend on
    the number of processes nor on the batch size. Nor does a sample that cannot be read: where data say that
    another took its place (`data.replaced(index)`, as `Pairs` do), it is left out.

    `protocols.json` in the run folder tells how they are measured.

    Args:
        data: the validation set.
        metrics: see `gangen.metrics`.
        every: steps between validations; 0 for the end of each phase only.
        best: name of the metric by which `checkpoints/best.safetensors` is chosen; None keeps no best.
        batch_size: samples a batch and process.
        player: whose network is judged, by the moving average of its weights.
        baseline: inputs (N, 3, H, W) to outputs; what any generator should be better than, such as the inputs
            themselves; or "untrained", for the player's network as it is before the first step. It is judged once,
            before that step, and logged as "baseline".
        witness: looks on.

    Attributes:
        latest: the newest numbers, by metric.
        base: those of the baseline.
    """

    def __init__(
        self,
        data: Dataset[Any],
        metrics: Sequence[AnyMetric],
        *,
        every: int = 0,
        best: str | None = None,
        batch_size: int = 32,
        player: str = "generator",
        baseline: Callable[[Tensor], Tensor] | Literal["untrained"] | None = None,
        witness: Witness | None = None,
    ) -> None:
        self.data, self.metrics, self.every = data, list(metrics), every
        self.batch_size, self.player, self.best = batch_size, player, best
        self.baseline, self.witness = baseline, witness
        self.latest: dict[str, float] = {}
        self.base: dict[str, float] = {}
        self._record: float | None = None
        if best is not None and best not in [metric.name for metric in self.metrics]:
            raise ValueError(f"best={best!r} is none of the metrics: {[m.name for m in self.metrics]}")

    def on_fit_start(self, trainer: Trainer) -> None:
        """Write how the numbers will be measured."""
        if trainer.run is not None and trainer.accelerator.is_main_process:
            fingerprint = getattr(self.data, "fingerprint", None)
            about = {
                "network": f"{self.player}, by the moving average of its weights where there is one",
                "pictures": len(self.data),  # type: ignore[arg-type]
                "counted": "each that can be read, once",
                "data": fingerprint() if fingerprint else type(self.data).__name__,
                "best": self.best,
                "versions": versions(),
                "metrics": Metrics(self.metrics).protocols,
            }
            write_json(trainer.run / "protocols.json", about)

    def on_phase_start(self, trainer: Trainer) -> None:
        """Judge the baseline before anything was learned."""
        if self.baseline is None or trainer.total > 0:
            return
        if self.baseline == "untrained":
            with showing(trainer, self.player) as network:
                self.base = self._measure(trainer, network)
        else:
            self.base = self._measure(trainer, self.baseline)
        trainer.log("baseline", **self.base)

    def on_step_end(self, trainer: Trainer) -> None:
        """Validate when it is due."""
        between = self.every and trainer.step % self.every == 0 and trainer.step < trainer.phase.steps
        if between and trainer.has_learned(self.player):
            self.validate(trainer)

    def on_phase_end(self, trainer: Trainer) -> None:
        """Validate at the end of each phase in which the player has learned."""
        if trainer.has_learned(self.player):
            self.validate(trainer)

    def validate(self, trainer: Trainer) -> dict[str, float]:
        """Measure now; log, and keep the weights if they are the best so far."""
        witness = self.witness if self.witness is not None and self.witness.wants(trainer) else None
        with showing(trainer, self.player) as network:
            self.latest = self._measure(trainer, network, witness)
        if witness is not None:
            witness.conclude(trainer)
        record: dict[str, Any] = dict(self.latest)
        best = self.best is not None and self._is_record(self.latest[self.best])
        if best and _is_finite(shown(trainer, self.player)):
            self._record = self.latest[str(self.best)]
            record["best"] = True
            self._keep(trainer)
        trainer.log("validation", **record)
        return self.latest

    def _measure(
        self, trainer: Trainer, paint: Callable[[Tensor], Tensor], witness: Witness | None = None
    ) -> dict[str, float]:
        accelerator = trainer.accelerator
        length = len(self.data)  # type: ignore[arg-type]
        mine = [(0, i) for i in range(accelerator.process_index, length, accelerator.num_processes)]
        loader = DataLoader(
            Subset(_Own(self.data, trainer.seed), mine),  # type: ignore[arg-type]
            batch_size=self.batch_size,
            collate_fn=_collate_own,
            num_workers=trainer.workers,
            worker_init_fn=follower(),
            generator=torch.Generator(),
        )
        metrics = Metrics(self.metrics)
        for read in loader:
            if read is None:
                continue
            if isinstance(read, UserError):
                raise read
            indices, samples = read
            batch = to_device(samples, accelerator.device)
            output = paint(batch.input).float()
            metrics.update(output, batch.target)
            if witness is not None:
                witness.see(trainer, batch, indices.tolist(), output)
        return metrics.compute(gather_object([metrics.state()]))

    def _is_record(self, value: float) -> bool:
        if self._record is None:
            return value == value  # not nan
        better = next(metric.better for metric in self.metrics if metric.name == self.best)
        return value < self._record if better == "lower" else value > self._record

    def _keep(self, trainer: Trainer) -> None:
        if trainer.run is None or not trainer.accelerator.is_main_process:
            return
        about = {
            "phase": trainer.phase.name,
            "step": trainer.step,
            "total": trainer.total,
            **self.latest,
        }
        # Copies, since safetensors takes no tensors that share memory, as tied weights do
        states = shown(trainer, self.player).state_dict()
        weights = {name: tensor.to("cpu", copy=True).contiguous() for name, tensor in states.items()}
        with replacing(trainer.run / "checkpoints" / "best.safetensors") as path:
            path.write_bytes(save(weights, metadata={"gangen": json.dumps(about)}))

    def state_dict(self) -> dict[str, Any]:
        """The best value so far, the newest ones, and those of the baseline."""
        return {"record": self._record, "latest": dict(self.latest), "base": dict(self.base)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take them back. Best weights that this training has kept since then stay the best."""
        self.latest, self.base = dict(state["latest"]), dict(state.get("base", {}))
        if self._record is None or (state["record"] is not None and self._is_record(state["record"])):
            self._record = state["record"]


def _is_finite(network: nn.Module) -> bool:
    """Whether all weights and statistics are numbers: a broken network is never the best, whatever it scores."""
    return all(bool(t.isfinite().all()) for t in network.state_dict().values() if t.is_floating_point())


class _Own(Seeded):
    """As `Seeded`, with the number; and None where another sample was given in place of the one asked for."""

    def __getitem__(self, key: tuple[int, int]) -> Any:
        sample = super().__getitem__(key)
        if isinstance(sample, UserError):
            return sample
        replaced = getattr(self.data, "replaced", None)
        return None if replaced is not None and replaced(key[1]) else (key[1], sample)


def _collate_own(samples: list[Any]) -> Any:
    read = [sample for sample in samples if sample is not None]
    return collate(read) if read else None
