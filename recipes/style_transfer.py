"""Paint photographs in the style of one picture, in a single pass (Johnson et al. 2016, arXiv:1603.08155).

One player and no critic: the generator learns to keep what VGG-16 sees in the photograph (content) and to have
what it sees everywhere in the style picture (style). VGG-16's weights are needed: they are downloaded (528 MB), or
read from --vgg FILE.

With no flags it learns a window of stained glass, which it draws itself, on photographs that ship with
scikit-image, and takes about 5 minutes on two CPU cores. With your own:

    a painting to learn from        --style FILE
    photographs to learn on         --data FOLDER

Its normalisation looks at the whole picture, so large pictures are not painted in tiles: `gangen predict` takes
those of more than 768x768 pixels with --tile 0, where memory allows.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor
from torchvision.transforms.v2 import functional as F

from gangen import images, recipe
from gangen.data import Augment, Batch, open_pictures, stained_glass
from gangen.errors import UserError
from gangen.losses import Restyle, total_variation
from gangen.metrics import Metric, describe
from gangen.nets import StyleNet
from gangen.train import Nets, Phase, Player, Samples, Validation
from gangen.train.schedule import flat_cosine
from gangen.weights import fingerprint


@dataclass(kw_only=True)
class StyleTransfer(recipe.Drafts, recipe.Common):
    """Flags of style transfer."""

    size: int = 96
    """Side of the training pictures, in pixels. The trained generator paints pictures of any size."""
    batch_size: int = 4
    """Pictures a batch, on each process."""
    style: Path | None = None
    """The picture whose style is learned. Without it, a drawn window of stained glass."""
    style_size: int = 256
    """Shorter side, in pixels, that the style picture is brought to: the larger, the larger its strokes."""
    vgg: Path | None = None
    """VGG-16's convolutions (torchvision's names, .safetensors or .pth). Without it they are downloaded."""
    validation: float = 0.1
    """Share of the photographs held out for validation, where there is no folder val/ beside train/."""
    generator_steps: int | None = None
    """Steps of the generator; by default 2000, and 500 on the embedded photographs."""
    lr: float = 2e-3
    """Learning rate of the generator; it fades over the last quarter."""
    content_weight: float = 1.0
    """Weight of the content: 1 is lost when nothing of the photograph is to be seen."""
    style_weight: float = 3.0
    """Weight of the style: 1 is lost when nothing of the style is to be seen."""
    smoothness: float = 0.1
    """Weight of the total variation, the mean difference of neighbouring pixels."""
    width: int = 16
    """Channels of the generator's first layer; 32 in the paper."""
    validate_every: int = 0
    """Steps between validations; 0 for the end only."""

    def __post_init__(self) -> None:
        if self.generator_steps is None:
            self.generator_steps = 500 if self.data is None else 2000


def style_picture(flags: StyleTransfer) -> Tensor:
    """The style picture, (1, 3, H, W), its shorter side as the flags say."""
    if flags.style_size < 8:
        raise UserError(f"--style-size {flags.style_size}: expected 8 pixels or more, like 256.")
    picture = images.read(flags.style) if flags.style else stained_glass(flags.style_size)
    tensor = F.resize(images.to_tensor(picture)[None], [flags.style_size], F.InterpolationMode.BICUBIC)
    return tensor.clamp(-1, 1)


def main(flags: StyleTransfer) -> None:
    run = recipe.Run("style_transfer", flags)
    train, held_out = open_pictures(
        flags.data,
        size=flags.size,
        validation=flags.validation,
        augment=Augment(flags.size, scale=(0.6, 1.0), draft=flags.draft) if flags.data else None,
        keep=flags.keep,
    )
    restyle = Restyle(style_picture(flags), flags.vgg or "imagenet")
    generator = StyleNet(flags.width)
    run.record(
        data=train.fingerprint(),
        held_out=held_out.fingerprint(),
        style=fingerprint(flags.style) if flags.style else "stained glass",
        vgg=fingerprint(flags.vgg) if flags.vgg else "imagenet",
    )

    def paint(nets: Nets, batch: Batch) -> dict[str, Tensor]:
        painted = nets.generator(batch.input)
        terms = restyle(painted, batch.input)
        return {
            "content": flags.content_weight * terms["content"],
            "style": flags.style_weight * terms["style"],
            "smoothness": flags.smoothness * total_variation(painted),
        }

    def far(term: str, output: Tensor, target: Tensor) -> Tensor:
        return restyle.each(output, target)[term]

    def untouched(output: Tensor, target: Tensor) -> Tensor:
        return restyle.each(target, target)["style"]

    def total(output: Tensor, target: Tensor) -> Tensor:
        terms = restyle.each(output, target)
        return flags.content_weight * terms["content"] + flags.style_weight * terms["style"]

    protocol = describe(
        network="vgg16", content=restyle.content, styles=restyle.styles, style_size=flags.style_size
    )
    weighed = {**protocol, "content_weight": flags.content_weight, "style_weight": flags.style_weight}
    metrics = [
        Metric("content", partial(far, "content"), "lower", protocol),
        Metric("style", partial(far, "style"), "lower", protocol),
        Metric("style_target", untouched, None, protocol),
        Metric("total", total, "lower", weighed),
    ]
    painter = Player("generator", generator, paint, lr=flags.lr, schedule=flat_cosine(0.75), clip=1.0, ema=0.99)
    trainer = run.trainer(
        train,
        callbacks=[
            Validation(held_out, metrics, every=flags.validate_every, best="total"),
            Samples(held_out, every=200),
        ],
    )
    run.fit(
        trainer,
        [Phase("generator", [painter], flags.generator_steps or 0)],
        task="style-transfer",
        input="photograph",
        trained_size=flags.size,
    )


if __name__ == "__main__":
    recipe.main(main, StyleTransfer, __doc__)
