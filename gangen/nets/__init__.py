"""Networks: bodies, the UNet that generates, upscalers, critics, and a classifier."""

from gangen.nets.body import Body
from gangen.nets.classifier import Classifier, Siamese
from gangen.nets.colorizer import Colorizer, chroma_unet
from gangen.nets.critic import PatchCritic, WholeCritic
from gangen.nets.cut import classifiers
from gangen.nets.dcgan import NoiseCritic, NoiseGenerator, latents, slerp
from gangen.nets.freezing import (
    Norms,
    free_parameters,
    freeze,
    hold_statistics,
    is_frozen,
    set_training,
    unfreeze,
)
from gangen.nets.groups import freeze_to, layer_groups
from gangen.nets.heads import ClassHead, ImageHead, MaskHead
from gangen.nets.stylenet import StyleNet
from gangen.nets.unet import UNet
from gangen.nets.upscaler import SCALES, Residual, Upscaler, enlarge

__all__ = [
    "SCALES",
    "Body",
    "ClassHead",
    "Classifier",
    "Colorizer",
    "ImageHead",
    "MaskHead",
    "NoiseCritic",
    "NoiseGenerator",
    "Norms",
    "PatchCritic",
    "Residual",
    "Siamese",
    "StyleNet",
    "UNet",
    "Upscaler",
    "WholeCritic",
    "chroma_unet",
    "classifiers",
    "enlarge",
    "free_parameters",
    "freeze",
    "freeze_to",
    "hold_statistics",
    "is_frozen",
    "latents",
    "layer_groups",
    "set_training",
    "slerp",
    "unfreeze",
]
