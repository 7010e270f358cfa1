"""Degradations: good pictures made bad, as the input of what learns to mend them.

Each is a small callable that takes an "RGB" picture and gives another; those for super-resolution give a smaller
one. All chance comes from torch's global generator, so whoever seeds it before a sample decides the sample;
nothing random happens at construction, and all can be pickled.
"""

from gangen.data.degrade.basic import Bicubic, Blur, Chain, Jpeg, Noise, Resize, Shuffled
from gangen.data.degrade.photographs import Crappify, Fade, OldPhotograph, Scratch
from gangen.data.degrade.practical import Practical

__all__ = [
    "Bicubic",
    "Blur",
    "Chain",
    "Crappify",
    "Fade",
    "Jpeg",
    "Noise",
    "OldPhotograph",
    "Practical",
    "Resize",
    "Scratch",
    "Shuffled",
]
