"""Tell whether two pictures show the same: the same person, thing or place (the Siamese tutorial of fastai).

Both pictures pass through one pretrained body, and a head looks at how their features differ and agree. First the
body is held and only the head learns, then all of it, the first layers more slowly than the last.

With no flags it learns to tell whether two crops are of one photograph, with those that ship with scikit-image,
and takes about a minute on two CPU cores. With your own pictures, in a folder for each person or thing:

    --data FOLDER

Some of the folders are held out as a whole: it is validated on persons or things that it has never seen. In
Python, `Pipeline.from_pretrained(RUN).compare([("one.jpg", "other.jpg")])` tells of other pictures.
"""

from dataclasses import dataclass

from torch import Tensor

from gangen import recipe
from gangen.data import SAME, Augment, Batch, open_same
from gangen.losses import cross_entropy
from gangen.metrics import accuracy
from gangen.nets import ClassHead, Norms, Siamese
from gangen.train import ClassSamples, Nets


@dataclass(kw_only=True)
class SiameseFlags(recipe.Drafts, recipe.FineTuneFlags):
    """Flags of the comparison of two pictures."""

    size: int = 64
    """Side of the training pictures, in pixels."""
    validation: float = 0.25
    """Share of the classes held out for validation, where there is no folder val/ beside train/."""
    norms: Norms = "hold"
    """What the body's normalisation layers do while it is held: learn, or adapt their statistics alone, or hold
    still, and from then on too. Pictures of one kind, such as faces, are too alike to learn from."""
    batch_size: int = 16
    """Pairs a batch, on each process."""
    frozen_epochs: int = 3
    """Passes over the data with the body held; skipped when the body's weights are random."""
    epochs: int | None = None
    """Passes over the data in which all learns; by default 8, and 4 on the embedded photographs."""
    lr: float = 1e-3
    """Peak learning rate of the head while the body is held; half of it afterwards, and a hundredth of that in the
    first layers."""
    ema: float = 0.98
    """Decay of the moving average of the weights; 0 for none."""
    rounds: int = 4
    """Pairs of each validation picture."""
    dropout: float = 0.5
    """Share of the features that is dropped before the last layer, half as much before the first."""

    def __post_init__(self) -> None:
        if self.epochs is None:
            self.epochs = 4 if self.data is None else 8


def main(flags: SiameseFlags) -> None:
    run = recipe.Run("siamese", flags)
    # The embedded photographs are cut smaller, or all crops of one would be nearly the same.
    scale = (0.7, 1.0) if flags.data else (0.3, 0.6)
    train, held_out = open_same(
        flags.data,
        size=flags.size,
        augment=Augment(flags.size, scale=scale, jitter=flags.jitter, draft=flags.draft),
        validation=flags.validation,
        rounds=flags.rounds,
        keep=flags.keep,
    )
    body = run.body()
    network = Siamese(body, ClassHead(len(SAME), dropout=flags.dropout))

    def tell(nets: Nets, batch: Batch) -> dict[str, Tensor]:
        return {"cross_entropy": cross_entropy(nets.network(batch.input), batch.target)}

    recipe.teach(
        run,
        flags,
        (train, held_out),
        network,
        tell,
        body=body,
        classes=SAME,
        metrics=[accuracy(len(SAME))],
        samples=ClassSamples,
    )


if __name__ == "__main__":
    recipe.main(main, SiameseFlags, __doc__)
