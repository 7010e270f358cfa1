"""Every number that a picture is judged by, with the protocol it was measured under.

A metric compares outputs with targets, both (N, 3, H, W) in [-1, 1], and gives one value a picture, (N,) float32.
Values outside [-1, 1] are clamped first, as they are when a picture is saved; nothing is rounded to 8 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torchvision.models import alexnet, vgg16

from gangen import images, weights

Better = Literal["lower", "higher"] | None


class Measure(Protocol):
    """What a metric must offer: `Metric` and `LPIPS` do."""

    @property
    def name(self) -> str:
        """What it is logged as."""
        ...

    @property
    def better(self) -> Better:
        """Which way is better; None for a number that only describes."""
        ...

    @property
    def protocol(self) -> Mapping[str, Any]:
        """How it is computed: two numbers with unlike protocols cannot be compared."""
        ...

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """(N, 3, H, W) twice, in [-1, 1], to (N,)."""
        ...


@dataclass(frozen=True)
class Metric:
    """A metric that is a plain function. The name "X_target" is for what X comes to on the targets."""

    name: str
    function: Callable[[Tensor, Tensor], Tensor]
    better: Better
    protocol: Mapping[str, Any] = field(hash=False)

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """(N, 3, H, W) twice, in [-1, 1], to (N,)."""
        return self.function(output, target)


def l1(output: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference over pixels and channels, on a scale of 0..1."""
    output, target = _unit(output, target)
    return (output - target).abs().mean(dim=(1, 2, 3))


def psnr(output: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of RGB on a scale of 0..1, no border cropped, at most 100 dB.

    The limit stands for equal pictures, whose infinite value would spoil a mean.
    """
    # torchmetrics brings scipy along, seconds that most programs would wait for nothing.
    from torchmetrics.functional.image import peak_signal_noise_ratio

    output, target = _unit(output, target)
    values = peak_signal_noise_ratio(output, target, data_range=1.0, reduction="none", dim=(1, 2, 3))
    return values.clamp(max=100.0)


def ssim(output: Tensor, target: Tensor) -> Tensor:
    """Structural similarity of RGB on a scale of 0..1 (Wang et al. 2004, "Image quality assessment").

    torchmetrics' protocol: an 11x11 Gaussian window of sigma 1.5, k1 = 0.01, k2 = 0.03, the mean over channels.
    Other libraries' values differ in the second decimal.

    Raises:
        ValueError: a side is below 6 pixels, half the window.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    output, target = _unit(output, target)
    if min(output.shape[2:]) < 6:
        raise ValueError(f"SSIM needs pictures of at least 6x6 pixels, these are {_size(output)}")
    values = structural_similarity_index_measure(output, target, data_range=1.0, reduction="none")
    assert isinstance(values, Tensor)
    return values


def saturation(output: Tensor, target: Tensor) -> Tensor:
    """HSV saturation of the output, 0 for grey to 1; see `gangen.images.saturation`."""
    return images.saturation(output.float())


def saturation_target(output: Tensor, target: Tensor) -> Tensor:
    """HSV saturation of the target: what the output's should come to."""
    return images.saturation(target.float())


def saturation_gap(output: Tensor, target: Tensor) -> Tensor:
    """How far the output's saturation is from its own target's, either way, 0 to 1."""
    return (saturation(output, target) - saturation_target(output, target)).abs()


def _protocol(**more: Any) -> dict[str, Any]:
    return {"colour": "RGB", "range": "0..1, clamped, not rounded", "crop": 0, **more}


_HSV = _protocol(value="mean over pixels of (max - min) / max, 0 where black")
L1 = Metric("l1", l1, "lower", _protocol())
PSNR = Metric("psnr", psnr, "higher", _protocol(unit="dB", limit=100.0))
SSIM = Metric("ssim", ssim, "higher", _protocol(library="torchmetrics", window="gaussian 11x11, sigma 1.5"))
SATURATION = Metric("saturation", saturation, None, _HSV)
SATURATION_TARGET = Metric("saturation_target", saturation_target, None, _HSV)
SATURATION_GAP = Metric("saturation_gap", saturation_gap, "lower", _HSV)

STANDARD: tuple[Measure, ...] = (L1, PSNR, SSIM, SATURATION, SATURATION_TARGET, SATURATION_GAP)
"""What costs next to nothing and needs no weights."""


@dataclass(frozen=True)
class _Backbone:
    """Where LPIPS looks into a classifier: after these layers of `features`, of these widths."""

    build: Callable[..., nn.Module]
    taps: tuple[int, ...]
    widths: tuple[int, ...]
    least: int  # side in pixels that the last tap needs


_BACKBONES = {
    "alex": _Backbone(alexnet, (1, 4, 7, 9, 11), (64, 192, 384, 256, 256), 31),
    "vgg": _Backbone(vgg16, (3, 8, 15, 22, 29), (64, 128, 256, 512, 512), 16),
}


class LPIPS:
    """Learned perceptual distance, version 0.1 (Zhang et al. 2018, arXiv:1801.03924, eq. 1); lower is closer.

    Nothing is downloaded. It follows the pictures to whatever device they are on.

    Args:
        net: "alex", the usual choice for judging, or "vgg".
        weights: file of torchvision's AlexNet or VGG-16 (`features.N...`; half precision will do).
        head: file of the linear layers (`linN.model.1.weight`); those of version 0.1, which come with
            torchmetrics, when None.

    Raises:
        WeightsError: a file cannot be read or belongs to another network.
    """

    name = "lpips"
    better: Better = "lower"

    def __init__(
        self, net: Literal["alex", "vgg"] = "alex", *, weights: str | Path, head: str | Path | None = None
    ) -> None:
        head = head or str(resources.files("torchmetrics") / f"functional/image/lpips_models/{net}.pth")
        self._least = _BACKBONES[net].least
        self._network = _Distance(_BACKBONES[net], Path(weights), Path(head)).eval().requires_grad_(False)
        self.protocol: dict[str, Any] = {
            **_protocol(range="-1..1, clamped, not rounded"),
            "network": net,
            "version": "0.1",
            "weights": _hash(weights),
            "head": _hash(head),
        }

    @torch.no_grad()
    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """(N, 3, H, W) twice, in [-1, 1], to (N,).

        Raises:
            ValueError: the shapes differ, or a side is too short for the network (31 for "alex", 16 for "vgg").
        """
        output, target = _unit(output, target)
        if min(output.shape[2:]) < self._least:
            raise ValueError(f"LPIPS needs pictures of {self._least} px or more, these are {_size(output)}")
        values: Tensor = self._network.to(output.device)(output * 2 - 1, target * 2 - 1)
        return values


class _Distance(nn.Module):
    """LPIPS's network: pictures in [-1, 1] to one distance each."""

    shift: Tensor
    scale: Tensor

    def __init__(self, backbone: _Backbone, features: Path, head: Path) -> None:
        super().__init__()
        # Without memory first: the classifier's millions of weights would be drawn at random and thrown away.
        with torch.device("meta"):
            network = backbone.build(weights=None)
        layers = list(network.get_submodule("features").children())[: backbone.taps[-1] + 1]
        self.features = nn.Sequential(*layers).to_empty(device="cpu")
        prefix = "features."
        state = {n.removeprefix(prefix): v for n, v in weights.read(features).items() if n.startswith(prefix)}
        weights.load_into(self.features, state, features)
        self.taps = backbone.taps
        self.head = nn.ModuleDict(
            {f"lin{i}": nn.Conv2d(width, 1, 1, bias=False) for i, width in enumerate(backbone.widths)}
        )
        plain = {name.replace(".model.1.", "."): value for name, value in weights.read(head).items()}
        weights.load_into(self.head, plain, head)
        # LPIPS's own normalisation: ImageNet's mean and deviation, said of [-1, 1].
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1))

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        x = (torch.cat([output, target]) - self.shift) / self.scale
        distance = output.new_zeros(len(output))
        heads = iter(self.head.values())
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.taps:
                length = x.square().sum(dim=1, keepdim=True).sqrt()
                ours, theirs = (x / (length + 1e-10)).chunk(2)
                distance = distance + next(heads)((ours - theirs).square()).mean(dim=(1, 2, 3))
        return distance


class Metrics:
    """Means of metrics over a validation set, accumulated where the pictures are, with no wait for the device.

    Over several processes, add up their `totals` and give the sum to `compute`.
    """

    totals: Tensor
    """(number of metrics + 1,): the sum of each metric's values, then the count of pictures"""

    def __init__(self, metrics: Sequence[Measure] = STANDARD) -> None:
        names = [metric.name for metric in metrics]
        if len(set(names)) < len(names):
            raise ValueError(f"metrics need names of their own: {names}")
        self.metrics = tuple(metrics)
        self.reset()

    def reset(self) -> None:
        """Forget all pictures."""
        self.totals = torch.zeros(len(self.metrics) + 1, dtype=torch.float64)

    @torch.no_grad()
    def update(self, output: Tensor, target: Tensor, counted: Tensor | None = None) -> None:
        """Measure a batch, (N, 3, H, W) twice, in [-1, 1].

        Args:
            output: the network's pictures.
            target: what they should be.
            counted: (N,) bool, False for pictures that do not count, such as those that fill up a last batch.
        """
        values = torch.stack([metric(output, target).detach() for metric in self.metrics])
        values = torch.cat([values, torch.ones_like(values[:1])])
        if counted is not None:
            values = values.where(counted.to(values.device), 0)
        # Apple's devices have no float64
        exact = torch.float32 if values.device.type == "mps" else torch.float64
        self.totals = self.totals.to(values.device, exact) + values.sum(dim=1, dtype=exact)

    def compute(self, totals: Tensor | None = None) -> dict[str, float]:
        """Give each metric's mean by its name; NaN when no picture was counted. Waits for the device.

        Args:
            totals: the sum of several processes' `totals`; this one's own when None.
        """
        *sums, count = (self.totals if totals is None else totals).tolist()
        means = [total / count if count else float("nan") for total in sums]
        return {metric.name: mean for metric, mean in zip(self.metrics, means, strict=True)}

    @property
    def protocols(self) -> dict[str, dict[str, Any]]:
        """Each metric's protocol by its name, for a run's config."""
        return {metric.name: dict(metric.protocol) for metric in self.metrics}


def _unit(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Check the shapes; give both as float32 in [0, 1]."""
    if output.shape != target.shape or output.ndim != 4:
        raise ValueError(
            f"outputs {tuple(output.shape)} and targets {tuple(target.shape)} must both be (N, C, H, W)"
        )
    return (output.float().clamp(-1, 1) + 1) / 2, (target.float().clamp(-1, 1) + 1) / 2


def _size(pictures: Tensor) -> str:
    return f"{pictures.shape[3]}x{pictures.shape[2]}"


def _hash(path: str | Path) -> str:
    """The beginning of a file's hash, long enough to tell weights apart."""
    return weights.fingerprint(path)[:16]
