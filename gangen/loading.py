"""The folder of a pipeline: found, read and made into a network again. Nothing that is read is executed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from gangen import __version__
from gangen.errors import RunError, UserError
from gangen.nets import Classifier, Colorizer, NoiseGenerator, Residual, Siamese, StyleNet, UNet, Upscaler

FORMAT = 1
NETWORKS: dict[str, Callable[[dict[str, Any]], nn.Module]] = {
    "Classifier": Classifier.from_config,
    "Colorizer": Colorizer.from_config,
    "NoiseGenerator": NoiseGenerator.from_config,
    "Residual": Residual.from_config,
    "Siamese": Siamese.from_config,
    "StyleNet": StyleNet.from_config,
    "UNet": UNet.from_config,
    "Upscaler": Upscaler.from_config,
}
"""The networks that a pipeline's folder may name. Nothing else is built, whatever the folder says."""


def find_pipeline(source: str | Path) -> Path:
    """Find the folder with config.json and model.safetensors; from the hub only these two files are fetched.

    Raises:
        RunError: the folder holds no pipeline.
        UserError: the hub's repository cannot be had.
    """
    folder = Path(source)
    if folder.is_dir():
        for place in (folder / "pipeline", folder):
            if (place / "model.safetensors").is_file():
                return place
        raise RunError(
            f"{folder} holds no pipeline: expected a run folder, or a folder with config.json and "
            "model.safetensors. A recipe writes RUN/pipeline when it ends or is asked to stop (Ctrl-C)."
        )
    if folder.exists() or isinstance(source, Path) or source.count("/") != 1 or source.startswith((".", "~", "/")):
        raise RunError(f"there is no folder {source}. Give a run folder, or the hub's name of a repository.")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(source, allow_patterns=["config.json", "model.safetensors"]))
    except (HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"there is no folder {source}, and the Hugging Face hub did not give a repository of that name: "
            f"{reason} Check the name and the connection, or give the run folder of a training."
        ) from error


def read_config(path: Path) -> dict[str, Any]:
    """Read a pipeline's config.json.

    Raises:
        RunError: it cannot be read, or is of another format.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(
            f"cannot read {path}: {error}. Copy the pipeline's folder again, or save it anew."
        ) from error
    found = config.get("format") if isinstance(config, dict) else None
    if found != FORMAT or not isinstance(config.get("network"), dict):
        raise RunError(
            f"{path} is of format {found!r}; this gangen ({__version__}) reads format {FORMAT}. Expected the "
            "pipeline/ folder of a run; if a newer gangen wrote it, upgrade: pip install -U gangen."
        )
    return config


def answer_count(described: Mapping[str, Any]) -> int | None:
    """How many classes a network of this config tells apart; None for one that paints."""
    head = described.get("head")
    return head.get("classes", head.get("outputs")) if isinstance(head, Mapping) else None


def build(described: dict[str, Any], folder: Path) -> nn.Module:
    """The network that a config describes, with random weights.

    Raises:
        RunError: it describes none that is known; `folder` is told as where it was read.
    """
    kind = described.get("kind")
    if kind not in NETWORKS:
        raise RunError(
            f"{folder / 'config.json'} names a network of kind {kind!r}; this gangen ({__version__}) knows "
            f"{', '.join(NETWORKS)}. If a newer gangen wrote it, upgrade: pip install -U gangen."
        )
    try:
        return NETWORKS[kind]({key: value for key, value in described.items() if key != "kind"})
    except (TypeError, KeyError, ValueError) as error:
        raise RunError(
            f"{folder / 'config.json'} does not describe a {kind}: {error}. Save the pipeline anew."
        ) from error
