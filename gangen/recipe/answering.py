"""The part that recipes share whose network answers with labels: watched by epochs, judged, and looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from torch import nn

from gangen.labels import Classes
from gangen.metrics import AnyMetric
from gangen.nets import Body
from gangen.recipe.flags import FineTuneFlags
from gangen.recipe.run import Run
from gangen.train import ClassSamples, MaskSamples, Mistakes, Phase, Validation
from gangen.train.finetune import NAME
from gangen.train.phase import Loss


def teach(
    run: Run,
    flags: FineTuneFlags,
    data: tuple[Any, Any],
    network: nn.Module,
    loss: Loss,
    *,
    body: Body,
    classes: Classes,
    metrics: Sequence[AnyMetric],
    samples: type[ClassSamples] | type[MaskSamples],
    size: tuple[int, int] | None = None,
    then: Sequence[Phase] = (),
) -> None:
    """Fine-tune a network, with validation and sample grids after each pass over the data, and finish the run.

    Args:
        run: see `Run`; its recipe's name is the pipeline's task.
        flags: the recipe's.
        data: for training and for validation.
        network: stands on `body`; the player is named "network".
        loss: what it minimises.
        body: with its weights.
        classes: what is told apart.
        metrics: the best weights are chosen by the first.
        samples: how answers are shown.
        size: height and width that pictures are judged at; the flags' size both when None.
        then: further phases, such as a game against a critic.
    """
    train, held_out = data
    run.record(data=train.fingerprint(), held_out=held_out.fingerprint(), body=body.initial, classes=classes.names)
    epoch = run.epoch(train)
    grids = samples(held_out, classes, every=epoch)
    mistakes = Mistakes(grids, classes)
    judge = Validation(held_out, metrics, every=epoch, best=metrics[0].name, player=NAME, witness=mistakes)
    trainer = run.trainer(train, callbacks=[judge, grids])
    phases = [*flags.phases(network, loss, body, epoch), *then]
    run.fit(trainer, phases, NAME, task=run.recipe, trained_size=size or flags.size, classes=asdict(classes))
