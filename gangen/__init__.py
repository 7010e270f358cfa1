"""gangen: train networks that turn one picture into another."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gangen.pipeline import Pipeline as Pipeline
    from gangen.recipe import Learner as Learner
    from gangen.views import Views as Views

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Torch is loaded when it is needed, so that `gangen --help` answers at once.
    if name == "Pipeline":
        from gangen.pipeline import Pipeline

        return Pipeline
    if name == "Learner":
        from gangen.recipe import Learner

        return Learner
    if name == "Views":
        from gangen.views import Views

        return Views
    raise AttributeError(f"module 'gangen' has no attribute {name!r}")
