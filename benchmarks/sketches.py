"""Pictures painted from sketches by the sketch recipe, and by fastai's GAN after its course's super-resolution.

    pip install -e ".[peers,samples]"
    python benchmarks/sketches.py --data PAIRS --weights resnet18.safetensors \\
        --lpips-weights alexnet_features.safetensors      # over an hour on two CPU cores

Both begin from one file of weights of a ResNet-18, are shown the same pairs, varied alike by gangen, and take
equal numbers of steps: the generator alone with its body held, the generator alone, the critic alone, then
both, one a step, whoever has the turn. Everything else is each one's own. For gangen it is the recipe as it
stands. For fastai it is the GAN of its course: a UNet with blur, self-attention and weight norm, taught by L1
at rates of up to 1e-3 (which fall to 1e-6 in the first layers); `gan_critic()`, taught on pictures that the
generator painted; then `GANLearner.from_learners` with weights 1 and 50, the critic handing over below 0.65 and
learning five times as fast as the generator's 1e-4, by Adam without momentum. Both are judged on the same
pairs, which are held out, by the same metrics. What is timed are gangen's steps, as its log counts them,
without what it judges and writes after each phase, and the calls that train fastai's, which judge a batch.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from peers import (
    OURS,
    Answers,
    Contestant,
    Runs,
    answers,
    compare,
    fastai_arch,
    in_range,
    on_imagenet_scale,
)
from timing import device
from torch import Tensor, nn
from torch.utils.data import Dataset

from gangen import Pipeline
from gangen.data import Augment, Pairs, open_pairs
from gangen.metrics import L1, LPIPS, PSNR, SATURATION_GAP
from gangen.metrics.accumulate import AnyMetric
from gangen.report.history import read_history
from gangen.train import set_seed

RECIPE = Path(__file__).resolve().parent.parent / "recipes" / "sketch_to_image.py"


@dataclass(kw_only=True)
class Sketches(Runs):
    """What is measured."""

    lpips_weights: Path
    """AlexNet's convolutions, for LPIPS."""
    input_folder: str = "sketch"
    """Folder of the sketches inside the data."""
    target_folder: str = "color"
    """Folder of the pictures inside the data."""
    size: int = 64
    """Side of the pictures, in pixels; 64 or more, which fastai's critic needs."""
    frozen_steps: int = 50
    """Steps of the generator alone, its body held."""
    generator_steps: int = 300
    """Steps of the generator alone."""
    critic_steps: int = 80
    """Steps of the critic alone."""
    game_steps: int = 120
    """Steps of both, whoever has the turn; 0, and none of the critic, to judge the generator before the game."""
    libraries: tuple[Literal["gangen", "fastai"], ...] = ("gangen", "fastai")
    """Which are run."""


def opened(settings: Sketches) -> tuple[Any, Pairs]:
    """The pairs as the recipe opens them."""
    return open_pairs(
        settings.data,
        input_folder=settings.input_folder,
        target_folder=settings.target_folder,
        size=settings.size,
        augment=Augment(settings.size, scale=(0.8, 1.0)),
        keep=512,
    )


def by_gangen(settings: Sketches, seed: int, run: Path) -> tuple[float, Answers]:
    given = {
        "--data": settings.data,
        "--input-folder": settings.input_folder,
        "--target-folder": settings.target_folder,
        "--size": settings.size,
        "--weights": settings.weights,
        "--batch-size": settings.batch_size,
        "--workers": settings.workers,
        "--frozen-steps": settings.frozen_steps,
        "--generator-steps": settings.generator_steps,
        "--critic-steps": settings.critic_steps,
        "--adversarial-steps": settings.game_steps,
        "--seed": seed,
        "--out": run,
    }
    words = [str(word) for pair in given.items() for word in pair]
    subprocess.run([sys.executable, str(RECIPE), *words], check=True)
    generator = Pipeline.from_pretrained(run).network.eval()
    return read_history(run).seconds, answers(generator, opened(settings)[1], device())


def drawn(count: int, seed: int) -> Iterator[int]:
    """Numbers below `count` without end, all of them in a new order before one comes again."""
    orders = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(count, generator=orders).tolist()


class Shown(Dataset[tuple[Tensor, Tensor]]):
    """These pairs of `data`, on ImageNet's scale."""

    def __init__(self, data: Any, indices: list[int]) -> None:
        self.data, self.indices = data, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        pair = self.data[self.indices[index]]
        given, target = on_imagenet_scale(torch.stack([pair.input, pair.target]))
        return given, target


class Judged(Dataset[tuple[Tensor, Tensor]]):
    """Of each pair the picture, which is real (1), and what the generator painted of its sketch (0)."""

    def __init__(self, pairs: Shown, generator: nn.Module) -> None:
        self.pictures: list[tuple[Tensor, Tensor]] = []
        generator.eval()
        with torch.no_grad():
            for given, target in (pairs[index] for index in range(len(pairs))):
                painted = generator(given[None].to(device()))[0].cpu()
                self.pictures += [(target, torch.tensor(1.0)), (painted, torch.tensor(0.0))]

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.pictures[index]


def by_fastai(settings: Sketches, seed: int, run: Path) -> tuple[float, Answers]:
    from fastai.layers import NormType
    from fastai.vision import all as fastai
    from fastai.vision.gan import AdaptiveGANSwitcher, AdaptiveLoss, GANDiscriminativeLR, GANLearner, gan_critic

    fastai.set_seed(seed)
    train, held_out = opened(settings)
    order = drawn(len(train), seed)  # goes on from phase to phase, as gangen's does
    # fastai wants some after each phase; they decide nothing
    examples = Shown(held_out, list(islice(drawn(len(held_out), seed), settings.batch_size)))

    def loaders(training: Dataset[Any], validation: Dataset[Any], size: int) -> Any:
        given = {"bs": size, "num_workers": settings.workers}
        shuffled = fastai.DataLoader(training, shuffle=True, drop_last=True, **given)
        return fastai.DataLoaders(shuffled, fastai.DataLoader(validation, **given), device=device())

    def pairs(steps: int) -> Shown:
        return Shown(train, list(islice(order, steps * settings.batch_size)))

    def shown(steps: int) -> Any:
        return loaders(pairs(steps), examples, settings.batch_size)

    def answered(generator: nn.Module) -> Answers:
        generator.eval()
        return answers(lambda given: in_range(generator(on_imagenet_scale(given))), held_out, device())

    painter = fastai.unet_learner(
        shown(settings.frozen_steps),
        fastai_arch("resnet18", settings.weights),
        normalize=False,  # the pairs are
        n_out=3,
        loss_func=fastai.L1LossFlat(),
        path=run,
        wd=1e-3,
        blur=True,
        self_attention=True,
        norm_type=NormType.Weight,
        y_range=(-3.0, 3.0),
    )
    with painter.no_bar(), painter.no_logging():
        begun = time.perf_counter()
        painter.fit_one_cycle(1, 1e-3, pct_start=0.8)
        painter.dls = shown(settings.generator_steps)
        painter.unfreeze()
        painter.fit_one_cycle(1, slice(1e-6, 1e-3))
        if not settings.game_steps:
            return time.perf_counter() - begun, answered(painter.model)
        seen, few = (Judged(pairs(steps), painter.model) for steps in (settings.critic_steps, 1))
        judge = fastai.Learner(
            loaders(seen, few, 2 * settings.batch_size),
            gan_critic(),
            loss_func=AdaptiveLoss(nn.BCEWithLogitsLoss()),
            path=run,
            wd=1e-3,
        )
        with judge.no_bar(), judge.no_logging():
            judge.fit_one_cycle(1, 1e-3)
        painter.dls = shown(settings.game_steps)
        game = GANLearner.from_learners(
            painter,
            judge,
            weights_gen=(1.0, 50.0),
            show_img=False,
            switcher=AdaptiveGANSwitcher(critic_thresh=0.65),
            opt_func=partial(fastai.Adam, mom=0.0),
            cbs=[GANDiscriminativeLR(mult_lr=5.0)],
            path=run,
        )
        with game.no_bar(), game.no_logging():
            game.fit(1, 1e-4, wd=1e-3)
        seconds = time.perf_counter() - begun
    return seconds, answered(game.model.generator)


BY: dict[str, Callable[[Sketches, int, Path], tuple[float, Answers]]] = {OURS: by_gangen, "fastai": by_fastai}


def judged_by(settings: Sketches) -> list[AnyMetric]:
    return [L1, PSNR, SATURATION_GAP, LPIPS(weights=settings.lpips_weights)]


def main(settings: Sketches) -> None:
    set_seed(0)
    contestants: dict[str, Contestant] = {name: partial(BY[name], settings) for name in settings.libraries}
    about = (
        f"Sketches of {settings.size}x{settings.size}, batches of {settings.batch_size}; steps of the generator "
        f"with its body held {settings.frozen_steps}, of the generator {settings.generator_steps}, of the critic "
        f"{settings.critic_steps}, of both {settings.game_steps}. Lower is better, but for psnr."
    )
    compare(contestants, settings, partial(judged_by, settings), "Sketches", about)


if __name__ == "__main__":
    main(tyro.cli(Sketches, description=__doc__))
