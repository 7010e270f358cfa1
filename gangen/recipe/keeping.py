"""What a training leaves of its network: a pipeline, or the weights alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_model
from torch import nn

from gangen.files import replacing
from gangen.loading import NETWORKS
from gangen.pipeline import Pipeline
from gangen.recipe.flags import plain


def keep(network: nn.Module, folder: Path, player: str, about: Mapping[str, Any]) -> str | None:
    """Write `folder`/pipeline, or the weights alone of a network of one's own, which no pipeline can be made of.

    Args:
        network: that has learned.
        folder: of the run.
        player: what it is called there.
        about: what the pipeline's config.json tells.

    Returns:
        Where the weights are, and how they are loaded again, if there is no pipeline.
    """
    if type(network).__name__ in NETWORKS:
        Pipeline(network, config=plain(about)).save(folder / "pipeline")
        return None
    path = folder / f"{player}.safetensors"
    with replacing(path) as temporary:
        save_model(network, str(temporary))
    return (
        f"{type(network).__name__} is none of gangen's networks, so there is no pipeline. Its weights are in "
        f"{path}: safetensors.torch.load_model(network, {str(path)!r})."
    )
