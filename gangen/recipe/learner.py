"""A network, its data and a folder: for those who write a few lines of Python rather than launch a recipe."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list
from PIL import Image
from torch import Tensor, nn

from gangen.answers import Answer
from gangen.data import Batch, ClassSet, Masks, SamePairs
from gangen.data.same import SAME
from gangen.errors import RunError, UserError
from gangen.files import Claim
from gangen.labels import Classes
from gangen.losses import cross_entropy
from gangen.metrics import AnyMetric, accuracy, class_ious, mean_iou
from gangen.nets.groups import body_of
from gangen.painting import Picture
from gangen.pipeline import Pipeline
from gangen.recipe.folder import free_folder, newest_folder
from gangen.recipe.keeping import keep
from gangen.report import write_report
from gangen.train import (
    Callback,
    ClassSamples,
    MaskSamples,
    Mistake,
    Mistakes,
    Nets,
    Player,
    Rates,
    Samples,
    Trainer,
    Validation,
    fine_tune,
    launch,
    lr_find,
    steps_of,
)
from gangen.train.finetune import NAME
from gangen.train.showing import shown
from gangen.views import Views

LabelSet = Masks | ClassSet | SamePairs


class Learner:
    """Teaches a pretrained network to answer with labels, as fastai's learners do.

        data = open_masks("camvid", size=(180, 240))
        learner = Learner(data, UNet(Body("resnet34", "imagenet"), MaskHead(11)))
        learner.fine_tune(8)
        learner.predict("street.jpg").save("mask.png")
        learner.show_results().save("results.png")

    What a recipe's run folder holds is in `run`: the log, checkpoints, sample grids, the pipeline and the report,
    but no config.json.

    Args:
        data: for training and for validation, as `open_masks`, `open_classes` or `open_same` give them.
        network: with a `body`: a `UNet` with a `MaskHead`, a `Classifier`, or `Siamese`.
        run: the run folder; when None a free one in runs/, chosen anew each time that training begins.
        loss: logits and labels to a scalar; `cross_entropy` when None.
        metrics: the best weights are chosen by the first; when None mean IoU and accuracy for masks, else
            accuracy.
        batch_size: samples a batch and process.
        seed: of everything random in `fine_tune` and `lr_find`.
        workers: processes that read data.
        callbacks: called after validation and sample grids.

    Raises:
        UserError: the network does not answer with as many classes as the data have.
    """

    def __init__(
        self,
        data: tuple[LabelSet, LabelSet],
        network: nn.Module,
        *,
        run: str | Path | None = None,
        loss: Callable[[Tensor, Tensor], Tensor] | None = None,
        metrics: Sequence[AnyMetric] | None = None,
        batch_size: int = 8,
        seed: int = 0,
        workers: int = 0,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self.train, self.held_out = data
        self.network = network
        self.classes: Classes = SAME if isinstance(self.train, SamePairs) else self.train.classes
        head = getattr(network, "config", {}).get("head", {})
        count = head.get("classes", head.get("outputs")) if isinstance(head, dict) else None
        if count is not None and count != len(self.classes):
            raise UserError(
                f"the network answers with {count} classes, and the data have {len(self.classes)}: "
                f"{', '.join(self.classes.names[:6])}, ... Make its head with {len(self.classes)}."
            )
        if batch_size < 2:
            raise UserError(f"batch_size={batch_size}: the head's BatchNorm needs two samples or more.")
        self.run = Path(run) if run is not None else None
        self._chosen = run is None
        self._claim: Claim | None = None
        self.loss = loss or cross_entropy
        self.metrics = list(metrics) if metrics is not None else self._usual_metrics()
        self.batch_size, self.seed, self.workers, self.callbacks = batch_size, seed, workers, list(callbacks)
        self.accelerator = launch()
        self._trainer: Trainer | None = None
        self._mistakes = Mistakes(self._grid(), self.classes, self.loss)
        self._name = type(network).__name__.lower()

    def lr_find(self, **options: Any) -> Rates:
        """Find a learning rate with the body held, and leave everything as it was; see `gangen.train.lr_find`."""
        body = body_of(self.network)
        frozen = [body] if body is not None else []
        player = Player(NAME, self.network, self._terms, frozen=frozen, norms="learn")
        settings = {"batch_size": self.batch_size, "seed": self.seed, "workers": self.workers} | options
        return lr_find(player, self.train, accelerator=self.accelerator, **settings)

    def fine_tune(self, epochs: int, *, lr: float = 2e-3, resume: bool = False, **options: Any) -> None:
        """Teach the head for a pass over the data, then the whole network for `epochs`.

        Interrupted, the same call with `resume=True` goes on to the same bits: in `run`, or where none was given
        in the newest folder of such a learner in runs/. Called again without, it begins a new training, in a new
        folder, from the weights that the network has.

        Args:
            epochs: passes over the data in which all learns.
            lr: peak learning rate of the head; see `lr_find`.
            resume: go on from the last checkpoint in `run`.
            options: of `gangen.train.fine_tune`, such as `frozen_epochs`.

        Raises:
            RunError: `run` already holds a training that is not to be resumed, or there is none to be resumed.
            UserError: data, disk or checkpoint are at fault.
        """
        self.run = folder = self._folder(resume)
        epoch = steps_of(len(self.train), self.batch_size, self.accelerator.num_processes)
        best = self.metrics[0].name if self.metrics else None
        watch = Validation(
            self.held_out, self.metrics, every=epoch, best=best, player=NAME, witness=self._mistakes
        )
        trainer = Trainer(
            folder,
            self.train,
            batch_size=self.batch_size,
            seed=self.seed,
            workers=self.workers,
            callbacks=[watch, self._grid(every=epoch), *self.callbacks],
            accelerator=self.accelerator,
        )
        phases = fine_tune(self.network, self._terms, epochs=epochs, epoch=epoch, lr=lr, **options)
        try:
            trainer.fit(phases, resume=resume)
        finally:
            self._claim = None
        self._trainer = trainer
        if self.accelerator.is_main_process:
            told = keep(shown(trainer, NAME), folder, NAME, self._about)
            if told is not None:
                warnings.warn(told, stacklevel=2)
            write_report(folder)
        self.accelerator.wait_for_everyone()

    @property
    def pipeline(self) -> Pipeline:
        """What was learned, with its pre- and post-processing."""
        network = shown(self._trainer, NAME) if self._trainer else self.network
        return Pipeline(network, config=self._about)

    @property
    def _about(self) -> dict[str, Any]:
        """What a pipeline tells of its network."""
        size = getattr(getattr(self.held_out, "transform", None), "size", None)
        return {"classes": asdict(self.classes), "trained_size": size}

    def predict(self, picture: Picture, views: Views | None = None) -> Image.Image | Answer:
        """The mask of a picture of any size, or its class; with `views` the average of several looks at it."""
        pipeline = self.pipeline
        return pipeline.classify([picture], views=views)[0] if pipeline.answers else pipeline(picture, views=views)

    def show_results(self, count: int = 8) -> Image.Image:
        """A sheet of validation pictures with the network's answers beside the truth.

        Raises:
            UserError: nothing was learned yet.
        """
        if self._trainer is None:
            raise UserError("nothing was learned yet: call fine_tune first.")
        return self._grid(count).grid(self._trainer)

    def top_losses(self) -> list[Mistake]:
        """The validation samples that were answered worst when training ended, the worst first.

        `RUN/top_losses.png` shows them, and `RUN/confusion.png` which classes are taken for which.
        """
        return self._mistakes.worst

    def _terms(self, nets: Nets, batch: Batch) -> dict[str, Tensor]:
        name = getattr(self.loss, "__name__", "loss")
        return {name: self.loss(nets.network(batch.input), batch.target)}

    def _grid(self, count: int = 8, every: int = 0) -> Samples:
        kind = MaskSamples if isinstance(self.train, Masks) else ClassSamples
        return kind(self.held_out, self.classes, count=count, every=every)

    def _folder(self, resume: bool) -> Path:
        """The run folder, which the main process chooses for all."""
        if self.run is not None and (resume or not self._chosen):
            return self.run
        folder: Path | UserError | None = None
        if self.accelerator.is_main_process:
            try:
                folder = newest_folder(self._name)
                if not resume:
                    folder, self._claim = free_folder(self._name)
            except UserError as error:
                folder = error
        (folder,) = broadcast_object_list([folder])
        if isinstance(folder, UserError):
            raise folder
        if folder is None:
            raise RunError(f"resume=True: there is no training in runs/{self._name}*. Name its folder with run=.")
        return Path(folder)

    def _usual_metrics(self) -> list[AnyMetric]:
        count = len(self.classes)
        if isinstance(self.train, Masks):
            return [mean_iou(count), accuracy(count, "pixel_accuracy"), *class_ious(self.classes.names)]
        return [accuracy(count)]
