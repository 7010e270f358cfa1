"""Networks: bodies, the UNet that generates, critics, and a classifier."""

from gangen.nets.body import Body
from gangen.nets.classifier import Classifier
from gangen.nets.colorizer import Colorizer, chroma_unet
from gangen.nets.critic import PatchCritic, WholeCritic
from gangen.nets.dcgan import NoiseCritic, NoiseGenerator, latents, slerp
from gangen.nets.freezing import free_parameters, freeze, hold_statistics, is_frozen, set_training, unfreeze
from gangen.nets.heads import ImageHead
from gangen.nets.stylenet import StyleNet
from gangen.nets.unet import UNet

__all__ = [
    "Body",
    "Classifier",
    "Colorizer",
    "ImageHead",
    "NoiseCritic",
    "NoiseGenerator",
    "PatchCritic",
    "StyleNet",
    "UNet",
    "WholeCritic",
    "chroma_unet",
    "free_parameters",
    "freeze",
    "hold_statistics",
    "is_frozen",
    "latents",
    "set_training",
    "slerp",
    "unfreeze",
]
