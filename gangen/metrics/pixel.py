"""Metrics that compare pixel with pixel, or window with window: l1, PSNR, SSIM and MS-SSIM, of RGB or of luma."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

from torch import Tensor

from gangen import colour
from gangen.errors import UserError
from gangen.metrics.protocol import Metric, describe, require_side, unit

Channel = Literal["rgb", "y"]
"""What is compared: all three channels, or the luma of `gangen.colour.studio_luma`."""

_WINDOW = 11  # pixels; what torchmetrics makes of sigma 1.5
_SIGMA = 1.5
_SCALES = 5
_LEAST = {"SSIM": _WINDOW, "MS-SSIM": _WINDOW * 2 ** (_SCALES - 1)}
_COLOURS = {"rgb": "RGB", "y": "Y of BT.601, 16..235 of 255"}


def l1(output: Tensor, target: Tensor, *, channel: Channel = "rgb") -> Tensor:
    """Mean absolute difference over pixels and channels, on a scale of 0..1."""
    output, target = _view(output, target, channel)
    return (output - target).abs().mean(dim=(1, 2, 3))


def psnr(output: Tensor, target: Tensor, *, channel: Channel = "rgb", data_range: float = 255.0) -> Tensor:
    """Peak signal-to-noise ratio in dB, at most 100 dB.

    The limit stands for equal pictures, whose infinite value would spoil a mean.

    Args:
        output: (N, 3, H, W) in [-1, 1].
        target: the same.
        channel: the mean squared error is over "rgb", or over "y" alone.
        data_range: the peak, in levels of 8 bits: 255 by custom, also for a luma that has 16..235 only.
    """
    # torchmetrics brings scipy along, seconds that most programs would wait for nothing.
    from torchmetrics.functional.image import peak_signal_noise_ratio

    output, target = _view(output, target, channel)
    values = peak_signal_noise_ratio(output, target, data_range=data_range / 255, reduction="none", dim=(1, 2, 3))
    return values.clamp(max=100.0)


def ssim(output: Tensor, target: Tensor, *, channel: Channel = "rgb", data_range: float = 255.0) -> Tensor:
    """Structural similarity (Wang et al. 2004, "Image quality assessment: from error visibility ...").

    An 11x11 Gaussian window of sigma 1.5, k1 = 0.01, k2 = 0.03; the mean over channels and over the positions
    where the window lies wholly inside the picture, as in the authors' program and in scikit-image with
    `gaussian_weights=True, sigma=1.5, use_sample_covariance=False`. Libraries that go on over the border (which
    torchmetrics does when left to itself) differ in the second or third decimal.

    Args:
        output: (N, 3, H, W) in [-1, 1].
        target: the same.
        channel: see `psnr`.
        data_range: see `psnr`.

    Raises:
        UserError: a side is below 11 pixels, the window's.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    output, target = _exact(*_view(output, target, channel))
    require_side("SSIM", output, _LEAST["SSIM"])
    _, everywhere = structural_similarity_index_measure(
        output, target, sigma=_SIGMA, data_range=data_range / 255, reduction="none", return_full_image=True
    )
    border = _WINDOW // 2
    return everywhere[..., border:-border, border:-border].mean(dim=(1, 2, 3)).float()


def ms_ssim(output: Tensor, target: Tensor, *, channel: Channel = "rgb", data_range: float = 255.0) -> Tensor:
    """SSIM over five scales, each half of the one before (Wang et al. 2003, "Multi-scale structural similarity").

    torchmetrics' protocol: the window of `ssim` at each scale and the paper's weights; contrast below 0 counts
    as 0; at the coarsest scale the picture is reflected at its border.

    Args:
        output: (N, 3, H, W) in [-1, 1].
        target: the same.
        channel: see `psnr`.
        data_range: see `psnr`.

    Raises:
        UserError: a side is below 176 pixels, of which the coarsest scale keeps the window's 11.
    """
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

    output, target = _exact(*_view(output, target, channel))
    require_side("MS-SSIM", output, _LEAST["MS-SSIM"])
    values = multiscale_structural_similarity_index_measure(
        output, target, sigma=_SIGMA, data_range=data_range / 255, reduction="none", normalize="relu"
    )
    return values.float()


def pixel_metrics(channel: Channel = "rgb", data_range: float = 255.0) -> tuple[Metric, Metric, Metric, Metric]:
    """`l1`, `psnr`, `ssim` and `ms_ssim` of a channel, with their protocols.

    Raises:
        UserError: there is no such channel, or the range is not above 0.
    """
    if channel not in _COLOURS:
        raise UserError(f'channel={channel!r}: expected "rgb" or "y".')
    if not data_range > 0:
        raise UserError(f"data_range={data_range}: expected a range above 0 in levels of 8 bits, by custom 255.")

    def protocol(**more: Any) -> dict[str, Any]:
        return describe(colour=_COLOURS[channel], **more)

    peak = {"data_range": data_range / 255, "library": "torchmetrics"}
    window = f"gaussian {_WINDOW}x{_WINDOW}, sigma {_SIGMA}"
    similar = {**peak, "window": window, "k1": 0.01, "k2": 0.03}
    chosen: dict[str, Any] = {"channel": channel, "data_range": data_range}
    return (
        Metric("l1", partial(l1, channel=channel), "lower", protocol()),
        Metric("psnr", partial(psnr, **chosen), "higher", protocol(**peak, unit="dB", limit=100.0)),
        Metric("ssim", partial(ssim, **chosen), "higher", protocol(**similar, border="valid positions only")),
        Metric(
            "ms_ssim",
            partial(ms_ssim, **chosen),
            "higher",
            protocol(**similar, border="valid positions; reflected at the coarsest scale", scales=_SCALES),
        ),
    )


L1, PSNR, SSIM, MS_SSIM = pixel_metrics()


def _exact(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float64, where the device has it.

    A variance as the difference of two means of squares needs more digits than the TF32 of a GPU's convolutions.
    """
    if output.device.type == "mps":
        return output, target
    return output.double(), target.double()


def _view(output: Tensor, target: Tensor, channel: Channel) -> tuple[Tensor, Tensor]:
    """Both pictures on a scale of 0..1: (N, 3, H, W), or (N, 1, H, W) of luma, which has 16/255..235/255."""
    if channel == "y":
        output, target = (colour.studio_luma(p.float().clamp(-1, 1)) for p in (output, target))
    return unit(output, target)
