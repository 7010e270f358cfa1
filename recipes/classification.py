"""Tell what a picture shows: one class for all of it (fastai's `vision_learner`, as a recipe).

A pretrained body, average and maximum pooling, and two linear layers. First the body is held and only the head
learns, then all of it, the first layers more slowly than the last (fastai's `fine_tune`).

With no flags it learns to tell faces from other things, on 200 small grey pictures that ship with scikit-image,
and takes about a minute on two CPU cores. With your own pictures:

    in folders named like their classes    --data FOLDER (or train/ and val/ in it)
    in a table of picture and class        --data FOLDER --table classes.csv

Afterwards

    gangen predict RUN PICTURES --out answers
"""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from gangen import recipe
from gangen.data import Augment, Batch, open_classes
from gangen.losses import cross_entropy
from gangen.metrics import class_metrics
from gangen.nets import ClassHead, Classifier, Norms
from gangen.train import ClassSamples, Nets


@dataclass(kw_only=True)
class Classification(recipe.Drafts, recipe.FineTuneFlags):
    """Flags of classification."""

    size: int = 64
    """Side of the training pictures, in pixels. Larger ones are brought to it when they are classified."""
    table: Path | None = None
    """CSV inside --data, or elsewhere: picture and class on each line."""
    norms: Norms = "adapt"
    """What the body's normalisation layers do while it is held: adapt their statistics alone, which is quick, or
    learn, or hold still, and from then on too."""
    epochs: int | None = None
    """Passes over the data in which all learns; by default 3, and 6 on the embedded faces."""
    smoothing: float = 0.1
    """Share of each label that is spread over all classes."""
    dropout: float = 0.5
    """Share of the features that is dropped before the last layer, half as much before the first."""

    def __post_init__(self) -> None:
        if self.epochs is None:
            self.epochs = 6 if self.data is None else 3


def main(flags: Classification) -> None:
    run = recipe.Run("classification", flags)
    train, held_out = open_classes(
        flags.data,
        labels=flags.table,
        size=flags.size,
        augment=Augment(flags.size, scale=(0.6, 1.0), jitter=flags.jitter, draft=flags.draft),
        validation=flags.validation,
        keep=flags.keep,
    )
    classes = train.classes
    body = run.body()
    network = Classifier(body, ClassHead(len(classes), dropout=flags.dropout))

    def tell(nets: Nets, batch: Batch) -> dict[str, Tensor]:
        loss = cross_entropy(nets.network(batch.input), batch.target, smoothing=flags.smoothing)
        return {"cross_entropy": loss}

    recipe.teach(
        run,
        flags,
        (train, held_out),
        network,
        tell,
        body=body,
        classes=classes,
        metrics=class_metrics(len(classes)),
        samples=ClassSamples,
    )


if __name__ == "__main__":
    recipe.main(main, Classification, __doc__)
