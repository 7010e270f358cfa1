"""What every recipe shares: flags, run folder, resume, a body with its weights, and an orderly end."""

from gangen.recipe.answering import teach
from gangen.recipe.flags import Common, Drafts, FineTuneFlags, Flags, NoGanFlags
from gangen.recipe.learner import Learner
from gangen.recipe.run import Run, main

__all__ = ["Common", "Drafts", "FineTuneFlags", "Flags", "Learner", "NoGanFlags", "Run", "main", "teach"]
