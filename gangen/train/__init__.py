"""The loop that plays phases, and what watches it."""

from gangen.train.callback import Callback
from gangen.train.interrupt import Interrupted
from gangen.train.launch import launch, set_seed
from gangen.train.nogan import NoGan, alike, nogan_phases
from gangen.train.phase import Phase, Player
from gangen.train.progress import Progress, Timing
from gangen.train.samples import FromLatents, Grids, Samples
from gangen.train.seats import Nets
from gangen.train.switcher import Adaptive, Alternate, Switcher, Together
from gangen.train.tracking import Tracking
from gangen.train.trainer import Trainer
from gangen.train.validation import Validation

__all__ = [
    "Adaptive",
    "Alternate",
    "Callback",
    "FromLatents",
    "Grids",
    "Interrupted",
    "Nets",
    "NoGan",
    "Phase",
    "Player",
    "Progress",
    "Samples",
    "Switcher",
    "Timing",
    "Together",
    "Tracking",
    "Trainer",
    "Validation",
    "alike",
    "launch",
    "nogan_phases",
    "set_seed",
]
