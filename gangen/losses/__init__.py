"""Losses: functions and small modules that take tensors and give a tensor."""

from gangen.losses.adversarial import (
    Adversarial,
    accuracy,
    bce,
    hinge,
    judge,
    judge_all,
    least_squares,
    relativistic,
    wasserstein,
)
from gangen.losses.colour import chroma, chroma_gap, saturation_moment
from gangen.losses.critic import critic_terms
from gangen.losses.diffaugment import diff_augment
from gangen.losses.labels import check_labels, cross_entropy, dice, focal, label_maps, lovasz, tversky
from gangen.losses.penalties import due, gradient_penalty, mix, r1
from gangen.losses.perceptual import Perceptual, Restyle
from gangen.losses.pixel import charbonnier, l1, l2, total_variation
from gangen.losses.vgg import VGG, gram

__all__ = [
    "VGG",
    "Adversarial",
    "Perceptual",
    "Restyle",
    "accuracy",
    "bce",
    "charbonnier",
    "check_labels",
    "chroma",
    "chroma_gap",
    "critic_terms",
    "cross_entropy",
    "dice",
    "diff_augment",
    "due",
    "focal",
    "gradient_penalty",
    "gram",
    "hinge",
    "judge",
    "judge_all",
    "l1",
    "l2",
    "label_maps",
    "least_squares",
    "lovasz",
    "mix",
    "r1",
    "relativistic",
    "saturation_moment",
    "total_variation",
    "tversky",
    "wasserstein",
]
