"""Networks: bodies, the UNet that generates, upscalers, critics, and a classifier."""

from gangen.nets.body import Body
from gangen.nets.classifier import Classifier
from gangen.nets.colorizer import Colorizer, chroma_unet
from gangen.nets.critic import PatchCritic, WholeCritic
from gangen.nets.dcgan import NoiseCritic, NoiseGenerator, latents, slerp
from gangen.nets.freezing import free_parameters, freeze, hold_statistics, is_frozen, set_training, unfreeze
from gangen.nets.heads import ImageHead
from gangen.nets.stylenet import StyleNet
from gangen.nets.unet import UNet
from gangen.nets.upscaler import SCALES, Residual, Upscaler, enlarge

__all__ = [
    "SCALES",
    "Body",
    "Classifier",
    "Colorizer",
    "ImageHead",
    "NoiseCritic",
    "NoiseGenerator",
    "PatchCritic",
    "Residual",
    "StyleNet",
    "UNet",
    "Upscaler",
    "WholeCritic",
    "chroma_unet",
    "enlarge",
    "free_parameters",
    "freeze",
    "hold_statistics",
    "is_frozen",
    "latents",
    "set_training",
    "slerp",
    "unfreeze",
]
