"""Tell apart what is where in a picture: a class for every pixel (CamVid, lesson 3 of fastai's course of 2019).

A UNet on a pretrained body. First the body is held and only the decoder learns, then all of it, the first layers
more slowly than the last (fastai's `fine_tune`). With `--adversarial-epochs` a critic of label maps has its say at
the end, which sees more than single pixels (Luc et al. 2016, arXiv:1611.08408).

With no flags it learns to find four shapes in drawn scenes, whose labels are exact, and takes 3 to 4 minutes on
two CPU cores. With your own pictures and label pictures:

    --data FOLDER with images/, labels/ and codes.txt, or train/images, train/labels, val/images, val/labels

A label picture has the name of its picture, and its levels count the lines of codes.txt. What is called Void there
is neither learned nor judged. Afterwards

    gangen predict RUN PICTURES --out masks
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

from gangen import recipe
from gangen.data import VOID, Augment, Batch, open_masks, wide_size
from gangen.errors import UserError
from gangen.losses import cross_entropy, dice, focal, label_maps, lovasz, tversky
from gangen.metrics import mask_metrics
from gangen.nets import MaskHead, PatchCritic, UNet
from gangen.train import MaskSamples, Nets, Together, game_phases

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": cross_entropy,
    "focal": focal,
    "dice": dice,
    "tversky": tversky,
    "lovasz": lovasz,
}


@dataclass(kw_only=True)
class Segmentation(recipe.FineTuneFlags):
    """Flags of segmentation."""

    size: int = 96
    """Shorter side of the training pictures, in pixels. The trained network labels pictures of any size."""
    wide: float = 1.0
    """Width of the training pictures by their height: 1 for squares, 1.333 for 4:3. What has other proportions is
    cropped."""
    pictures: Path = Path("images")
    """Folder of the pictures inside --data, or inside its train/ and val/."""
    labels: Path = Path("labels")
    """Folder of the label pictures, likewise; equal names belong together."""
    codes: Path = Path("codes.txt")
    """Text file inside --data, or elsewhere: on each line the name of a class, or a level and a name."""
    ignored: tuple[str, ...] = VOID
    """Names among the codes of what is neither learned nor judged, in any case."""
    epochs: int | None = None
    """Passes over the data in which all learns; by default 10, and 6 on the drawn scenes."""
    lr: float = 4e-3
    """Peak learning rate of the head while the body is held; half of it afterwards, and a hundredth of that in a
    pretrained body's first layers. At 0.002 the drawn triangles still pass for squares in the end."""
    loss: Literal["cross_entropy", "focal", "dice", "tversky", "lovasz"] = "cross_entropy"
    """What is minimised; see gangen/losses/labels.py."""
    overlap: float = 0.0
    """Weight of the Dice loss besides it, for small things that pixels alone would not count for."""
    width: int = 32
    """Channels of the UNet at full resolution."""
    adversarial_epochs: int = 0
    """Passes over the data afterwards in which the network plays against a critic that tells its masks from the
    labels, at a tenth of its rate; before them comes one of the critic alone. 0 for no critic."""
    fool: float = 0.1
    """Weight of the critic's opinion in the network's loss."""

    def __post_init__(self) -> None:
        if self.epochs is None:
            self.epochs = 6 if self.data is None else 10


def main(flags: Segmentation) -> None:
    if not 0.1 <= flags.wide <= 10:
        raise UserError(f"--wide {flags.wide}: expected width by height, from 0.1 to 10, like 1.333.")
    run = recipe.Run("segmentation", flags)
    size = wide_size(flags.size, flags.wide)
    train, held_out = open_masks(
        flags.data,
        pictures=flags.pictures,
        labels=flags.labels,
        codes=flags.codes,
        ignored=flags.ignored,
        size=size,
        augment=Augment(size, scale=(0.5, 1.0), jitter=flags.jitter),
        validation=flags.validation,
        keep=flags.keep,
    )
    classes = train.classes
    body = run.body()
    network = UNet(body, MaskHead(len(classes)), width=flags.width)
    compare = LOSSES[flags.loss]

    def likeness(logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        terms = {flags.loss: compare(logits, batch.target)}
        return terms | ({"overlap": flags.overlap * dice(logits, batch.target)} if flags.overlap else {})

    def label(nets: Nets, batch: Batch) -> dict[str, Tensor]:
        return likeness(nets.network(batch.input), batch)

    epoch = run.epoch(train)
    game = game_phases(
        network,
        # Patches of 34 pixels: it sees parts of shapes, which no loss of single pixels does
        PatchCritic(len(classes), condition_channels=3, width=32, layers=2),
        likeness,
        steps=(epoch if flags.adversarial_epochs else 0, flags.adversarial_epochs * epoch),
        lr=(flags.lr / 20 / flags.ratio(body), flags.lr / 20),
        fool=flags.fool,
        switcher=Together(),
        judged=lambda logits, batch: label_maps(logits, batch.target),
        condition=lambda batch: batch.input,
        ema=flags.ema,
        name="network",
    )

    recipe.teach(
        run,
        flags,
        (train, held_out),
        network,
        label,
        body=body,
        classes=classes,
        metrics=mask_metrics(classes.names),
        samples=MaskSamples,
        size=size,
        then=game,
    )


if __name__ == "__main__":
    recipe.main(main, Segmentation, __doc__)
