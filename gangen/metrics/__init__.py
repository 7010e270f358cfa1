"""Every number that a picture is judged by, with the protocol it was measured under.

A metric compares outputs with targets, both (N, 3, H, W) in [-1, 1], and gives one value a picture, (N,) float32.
A set metric (FID, KID, diversity) sees each picture as a point and gives one number of the two sets of points.
A metric of counts (accuracy, mean IoU) is of logits and labels, which are counted over the whole set.
Values outside [-1, 1] are clamped first, as they are when a picture is saved; nothing is rounded to 8 bits.
"""

from gangen.metrics.accumulate import STANDARD, AnyMetric, Metrics
from gangen.metrics.colour import (
    COLOUR,
    COLOURFULNESS,
    COLOURFULNESS_GAP,
    COLOURFULNESS_TARGET,
    SATURATION,
    SATURATION_GAP,
    SATURATION_TARGET,
    colourfulness,
    colourfulness_gap,
    colourfulness_target,
    saturation,
    saturation_gap,
    saturation_target,
)
from gangen.metrics.comparison import Comparison, compare
from gangen.metrics.dists import DISTS
from gangen.metrics.features import FeatureNet, classifier, feature_net, inception
from gangen.metrics.judging import judge, judge_sets, versions
from gangen.metrics.labels import (
    Confusion,
    CountMetric,
    TopK,
    accuracy,
    class_ious,
    class_metrics,
    mask_metrics,
    mean_dice,
    mean_iou,
    top_k_accuracy,
)
from gangen.metrics.lpips import LPIPS
from gangen.metrics.pixel import L1, MS_SSIM, PSNR, SSIM, Channel, l1, ms_ssim, pixel_metrics, psnr, ssim
from gangen.metrics.protocol import Better, Measure, Metric, cropped, describe
from gangen.metrics.result import Interval, Result, bootstrap, read_results, write_results
from gangen.metrics.sets import Estimate, SetMetric, diversity, divided, fid, kid

__all__ = [
    "COLOUR",
    "COLOURFULNESS",
    "COLOURFULNESS_GAP",
    "COLOURFULNESS_TARGET",
    "DISTS",
    "L1",
    "LPIPS",
    "MS_SSIM",
    "PSNR",
    "SATURATION",
    "SATURATION_GAP",
    "SATURATION_TARGET",
    "SSIM",
    "STANDARD",
    "AnyMetric",
    "Better",
    "Channel",
    "Comparison",
    "Confusion",
    "CountMetric",
    "Estimate",
    "FeatureNet",
    "Interval",
    "Measure",
    "Metric",
    "Metrics",
    "Result",
    "SetMetric",
    "TopK",
    "accuracy",
    "bootstrap",
    "class_ious",
    "class_metrics",
    "classifier",
    "colourfulness",
    "colourfulness_gap",
    "colourfulness_target",
    "compare",
    "cropped",
    "describe",
    "diversity",
    "divided",
    "feature_net",
    "fid",
    "inception",
    "judge",
    "judge_sets",
    "kid",
    "l1",
    "mask_metrics",
    "mean_dice",
    "mean_iou",
    "ms_ssim",
    "pixel_metrics",
    "psnr",
    "read_results",
    "saturation",
    "saturation_gap",
    "saturation_target",
    "ssim",
    "top_k_accuracy",
    "versions",
    "write_results",
]
