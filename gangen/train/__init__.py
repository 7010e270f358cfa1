"""The loop that plays phases, and what watches it."""

from gangen.train.callback import Callback
from gangen.train.finetune import fine_tune, steps_of
from gangen.train.game import game_phases
from gangen.train.guard import NonFinite
from gangen.train.health import Health
from gangen.train.interrupt import Interrupted
from gangen.train.launch import launch, set_seed
from gangen.train.lr_find import lr_find
from gangen.train.mistakes import Mistake, Mistakes
from gangen.train.nogan import NoGan, OptimizerName, alike, nogan_phases
from gangen.train.phase import Phase, Player
from gangen.train.progress import Progress, Timing
from gangen.train.rates import Rates
from gangen.train.samples import ClassSamples, FromLatents, Grids, MaskSamples, Samples
from gangen.train.seats import Nets
from gangen.train.switcher import Adaptive, Alternate, Switcher, Together
from gangen.train.tracking import Tracking
from gangen.train.trainer import Trainer
from gangen.train.validation import Validation

__all__ = [
    "Adaptive",
    "Alternate",
    "Callback",
    "ClassSamples",
    "FromLatents",
    "Grids",
    "Health",
    "Interrupted",
    "MaskSamples",
    "Mistake",
    "Mistakes",
    "Nets",
    "NoGan",
    "NonFinite",
    "OptimizerName",
    "Phase",
    "Player",
    "Progress",
    "Rates",
    "Samples",
    "Switcher",
    "Timing",
    "Together",
    "Tracking",
    "Trainer",
    "Validation",
    "alike",
    "fine_tune",
    "game_phases",
    "launch",
    "lr_find",
    "nogan_phases",
    "set_seed",
    "steps_of",
]
