"""Networks: bodies, the UNet that generates, critics, and a classifier."""

from gangen.nets.body import Body
from gangen.nets.classifier import Classifier
from gangen.nets.critic import PatchCritic, WholeCritic
from gangen.nets.freezing import free_parameters, freeze, hold_statistics, is_frozen, set_training, unfreeze
from gangen.nets.heads import ImageHead
from gangen.nets.unet import UNet

__all__ = [
    "Body",
    "Classifier",
    "ImageHead",
    "PatchCritic",
    "UNet",
    "WholeCritic",
    "free_parameters",
    "freeze",
    "hold_statistics",
    "is_frozen",
    "set_training",
    "unfreeze",
]
