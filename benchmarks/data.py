"""What data cost: decoding, degradations, augmentation, and how long a recipe's training waits for them.

    python benchmarks/data.py                                # about 15 minutes on two CPU cores
    python benchmarks/data.py --recipes super_resolution     # a minute or two

The first table has pictures a second of one core of the CPU, by the time that the process itself has used, for a
picture of 128 px. In its second column the same is done by torch to a joined batch, as it could be on the device
of the training (on a GPU, that device's time). What has no such column differs in size within a batch, or has no
such implementation.

The second table is the share of a training step that is spent waiting for the next batch, for each recipe as it
stands, with random weights, on embedded data, cut short.
"""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import tyro
from PIL import Image
from reporting import Found, Table, tell
from torch import Tensor
from torch.nn import functional as F
from torchvision.io import decode_jpeg, encode_jpeg

from gangen import images
from gangen.data import Augment, Crop, embedded_photographs, sketch
from gangen.data.degrade import Bicubic, Blur, Crappify, Jpeg, Noise, OldPhotograph, Practical, Resize

RECIPES = Path(__file__).resolve().parent.parent / "recipes"
_GAME = "--weights none --generator-steps {steps} --critic-steps 1 --adversarial-steps {steps}"
SHORT = {
    **dict.fromkeys(("sketch_to_image", "colorization", "super_resolution", "restoration"), _GAME),
    "vanilla_gan": "--steps {steps}",
    **dict.fromkeys(("segmentation", "classification", "siamese"), "--weights none --frozen-epochs 0 --epochs 1"),
}
"""Flags that shorten each recipe and leave the rest as it is by default. That of style transfer wants weights."""
SIGMA = 2.0
"""Of the blurs, in pixels, so that both ways do the same work."""


@dataclass
class Settings:
    """What is measured."""

    size: int = 128
    """Side of the pictures, in pixels; a multiple of 4."""
    batch_size: int = 16
    """Pictures in the joined batch."""
    seconds: float = 1.0
    """How long each step is repeated."""
    recipes: tuple[str, ...] = tuple(SHORT)
    """Recipes in recipes/ whose waiting is measured."""
    flags: str = ""
    """Further flags for the recipes, in one text."""
    steps: int = 40
    """Steps of a phase, in those recipes."""
    out: Path | None = None
    """JSON file for the result."""


def speed(work: Callable[[], Any], pictures: int, seconds: float) -> float:
    """Pictures a second of one core, or of the GPU where there is one."""
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time

    def now() -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return clock()

    work()
    begun, rounds = now(), 0
    while now() - begun < seconds or rounds < 3:
        work()
        rounds += 1
    return pictures * rounds / (now() - begun)


def encoded(picture: Image.Image, kind: str) -> Callable[[], Image.Image]:
    """What decodes the picture from memory."""
    file = io.BytesIO()
    picture.save(file, kind, **({"quality": 95} if kind == "JPEG" else {}))
    return lambda: images.decode(file.getvalue(), kind)


def drafted(decode: Callable[[], Image.Image], augment: Augment) -> Callable[[], Image.Image]:
    """The same, at the part of its size that suffices."""

    def work() -> Image.Image:
        with images.reduced(replace(augment, draft=True).enough):
            return decode()

    return work


def in_workers(settings: Settings) -> dict[str, Callable[[], Any]]:
    """Each step on one picture, as a worker does it."""
    _, photograph = embedded_photographs()[0]
    size = settings.size
    whole = photograph.crop((0, 0, 480, 320))
    picture = photograph.crop((100, 50, 100 + size, 50 + size))
    augment, crop = Augment(size), Crop(size)
    large = encoded(whole.resize((3840, 2560), Image.Resampling.BICUBIC), "JPEG")
    steps: dict[str, Callable[[Image.Image], Any]] = {
        "reduce, bicubic /4": Bicubic(4),
        "blur, round": Blur((SIGMA, SIGMA), oval=0.0),
        "blur, oval": Blur((SIGMA, SIGMA), oval=1.0),
        "noise, Gaussian": Noise(share_of_poisson=0.0),
        "noise, Poisson": Noise(share_of_poisson=1.0),
        "JPEG": Jpeg(),
        "resize": Resize(smaller=(0.6, 0.6), chances=(0, 1, 0)),
        "practical, whole, /4": Practical(4),
        "crappify": Crappify(),
        "old photograph": OldPhotograph(),
        "sketch": sketch,
        "to tensor": images.to_tensor,
    }
    return {
        "decode JPEG, 480x320": encoded(whole, "JPEG"),
        "decode JPEG, 3840x2560": large,
        "decode JPEG, 3840x2560, by --draft, crops from 0.6": drafted(large, replace(augment, scale=(0.6, 1.0))),
        "decode PNG, 480x320": encoded(whole, "PNG"),
        "crop, turn, mirror": lambda: crop(whole),
        "augment (crop, resize, mirror)": lambda: augment(whole),
        **{name: partial(step, picture) for name, step in steps.items()},
    }


def on_the_device(settings: Settings) -> dict[str, Callable[[], Any]]:
    """The same by torch on a joined batch, each picture with its own kernel or strength."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    count, size = settings.batch_size, settings.size
    batch = torch.rand(count, 3, size, size, device=device) * 255
    reach = math.ceil(3 * SIGMA)
    steps = torch.arange(-reach, reach + 1.0, device=device)
    line = torch.exp(-0.5 * (steps / SIGMA) ** 2)
    lines = (line / line.sum()).view(1, 1, 1, -1).repeat(3 * count, 1, 1, 1)
    ovals = lines * lines.mT

    def blurred(*kernels: Tensor) -> Tensor:
        result = batch.reshape(1, 3 * count, size, size)
        for kernel in kernels:
            down, across = kernel.shape[-2] // 2, kernel.shape[-1] // 2
            padded = F.pad(result, (across, across, down, down), mode="replicate")
            result = F.conv2d(padded, kernel, groups=3 * count)
        return result

    def compressed() -> list[Tensor]:
        files = encode_jpeg(list(batch.to(torch.uint8)), quality=60)
        return decode_jpeg([file.cpu() for file in files], device=device)  # which wants files in main memory

    def resized(side: int) -> Tensor:
        return F.interpolate(batch, (side, side), mode="bicubic", antialias=True)

    return {
        "reduce, bicubic /4": lambda: resized(size // 4),
        "blur, round": lambda: blurred(lines, lines.mT.contiguous()),
        "blur, oval": lambda: blurred(ovals),
        "noise, Gaussian": lambda: batch + 10 * torch.randn_like(batch),
        "noise, Poisson": lambda: batch + batch.sqrt() * torch.randn_like(batch),
        "JPEG": compressed,
        "resize": lambda: resized(round(0.6 * size)),
    }


def waiting(settings: Settings, recipe: str) -> dict[str, float]:
    """For each phase of a short training, the share of its time that was spent waiting, the first steps aside."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, str(RECIPES / f"{recipe}.py"), "--out", f"{folder}/run", "--log-every", "10"]
        words += [word.format(steps=settings.steps) for word in SHORT[recipe].split()]
        subprocess.run([*words, *settings.flags.split()], check=True, capture_output=True)
        lines = (Path(folder) / "run" / "timing.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    shares: dict[str, float] = {}
    for phase in dict.fromkeys(record["phase"] for record in records):
        # The first batches are awaited while the workers start, once a phase.
        own = [(r["seconds"], r["waiting"]) for r in records if r["phase"] == phase]
        spent = [(later - earlier, share) for (earlier, _), (later, share) in pairwise(own)]
        if spent:
            shares[phase] = sum(seconds * share for seconds, share in spent) / sum(seconds for seconds, _ in spent)
    return shares


def main(settings: Settings) -> None:
    cores = torch.get_num_threads()
    torch.set_num_threads(1)
    joined = on_the_device(settings)
    speeds = {
        name: {
            "worker": round(speed(work, 1, settings.seconds)),
            "joined": round(speed(joined[name], settings.batch_size, settings.seconds))
            if name in joined
            else None,
        }
        for name, work in in_workers(settings).items()
    }
    torch.set_num_threads(cores)
    waited = {recipe: waiting(settings, recipe) for recipe in settings.recipes}
    rows = [[name, *("–" if v is None else f"{v:,}" for v in both.values())] for name, both in speeds.items()]
    about = f"Pictures of {settings.size}x{settings.size} a second of one core."
    tables = [Table(["step", "each by itself, as in the workers", "joined batch, torch"], rows, about)]
    if waited:
        rows = [
            [recipe, ", ".join(f"{phase} {share:.1%}" for phase, share in phases.items())]
            for recipe, phases in waited.items()
        ]
        about = (
            "Share of a step that is spent waiting for data, by phase, at each recipe's defaults but for its "
            "length and random weights:"
        )
        tables.append(Table(["recipe", "waiting"], rows, about))
    tell(Found("What data cost", tables, {"speeds": speeds, "waiting": waited}, ("pillow",)), settings.out)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
