"""Weights on disk: reading them without executing anything, naming them, and fitting them into a network."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from http.client import HTTPException
from pathlib import Path
from urllib.request import Request, urlopen

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from gangen.errors import WeightsError

SUFFIXES = (".safetensors", ".pth", ".pt")
# Mean and deviation per colour of pictures in [0, 1], as torchvision's ImageNet classifiers were trained with.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# But for these, which were trained on pictures in [-1, 1]; torchvision converts inside the first two, if asked to.
_TRAINED_ON_SIGNED = ("googlenet", "inception_v3", "efficientnet_v2_l")

_SECONDS_TO_ANSWER = 20
_HALVES = (torch.float16, torch.bfloat16)


def normalisation(arch: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation per colour, in [0, 1], of the pictures that torchvision's classifiers were trained on."""
    return ((0.5,) * 3, (0.5,) * 3) if arch in _TRAINED_ON_SIGNED else (IMAGENET_MEAN, IMAGENET_STD)


def read(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict onto the CPU; half precision becomes float32.

    `.pth` and `.pt` files pass torch's weights-only reader, so nothing in them is executed. A state dict that
    lies under a single key "state_dict" is taken out of it.

    Raises:
        WeightsError: the file is absent, damaged, something else than weights, or wants to execute code.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise WeightsError(f"{path}: expected a file of weights, one of {', '.join(SUFFIXES)}.")
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such file of weights. Check the path.")
    try:
        content = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except Exception as error:  # a damaged file can fail anywhere within either reader
        raise WeightsError(
            f"{path}: cannot be read as plain weights ({_first_line(error)}). It is damaged, not a file of "
            "weights, or holds objects that would have to be executed, which is refused. Fetch it again, or save "
            "only its state dict, best as .safetensors."
        ) from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise WeightsError(
            f"{path}: expected a state dict (names and tensors), found {type(content).__name__} with other "
            "things. Save only the network's state_dict()."
        )
    return {name: value.float() if value.dtype in _HALVES else value for name, value in content.items()}


def fingerprint(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    try:
        with Path(path).open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}). Check the path.") from error
    return digest.hexdigest()


def download(url: str) -> Path:
    """Fetch a published file of weights into torch's cache, or find it there; gives its path.

    The file takes its place in the cache only when complete and when its hash agrees with its name.

    Raises:
        WeightsError: there is no way to the file; names the address and what was tried.
    """
    name = url.rsplit("/", 1)[-1]
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if path.is_file():
        return path
    expected = re.search(r"-([0-9a-f]{8,})\.", name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A network that swallows packets would hold the download itself for ever: ask first, with a limit.
        with urlopen(Request(url, method="HEAD"), timeout=_SECONDS_TO_ANSWER):
            pass
        torch.hub.download_url_to_file(url, str(path), hash_prefix=expected[1] if expected else None)
    except (OSError, HTTPException, RuntimeError) as error:
        raise WeightsError(
            f"{url}: cannot be downloaded to {path} ({_first_line(error)}). Put the file there by hand, name a "
            "local file of weights, or go on without."
        ) from error
    return path


def load_into(
    module: nn.Module,
    state: Mapping[str, Tensor],
    source: str | Path,
    may_lack: Iterable[str] = (),
    may_have: Iterable[str] = (),
) -> None:
    """Load `state` into `module`, or leave the module as it was and say what does not fit.

    Args:
        module: the network.
        state: its parameters and buffers by name.
        source: where they come from, for the error.
        may_lack: beginnings of names that the state need not have.
        may_have: beginnings of names that the state may have beyond the module's.

    BatchNorm's `num_batches_tracked`, which older files lack, may always be missing.

    Raises:
        WeightsError: names are missing or unexpected, or shapes differ.
    """
    may_lack, may_have = tuple(may_lack), tuple(may_have)
    own = module.state_dict()
    missing = [
        name
        for name in own
        if name not in state and not name.startswith(may_lack) and not name.endswith(".num_batches_tracked")
    ]
    unexpected = [name for name in state if name not in own and not name.startswith(may_have)]
    unlike = [
        f"{name} is {_shape(own[name])} here and {_shape(state[name])} there"
        for name in own
        if name in state and own[name].shape != state[name].shape
    ]
    troubles = [
        f"{title}: {_few(names)}"
        for title, names in (("missing", missing), ("unexpected", unexpected), ("of other shape", unlike))
        if names
    ]
    if troubles:
        raise WeightsError(
            f"{source}: these weights were made for another network than {type(module).__name__}; "
            f"{'; '.join(troubles)}. Give the file that belongs to this network, or build the network that "
            "belongs to this file."
        )
    module.load_state_dict({name: value for name, value in state.items() if name in own}, strict=False)


def load_part(module: nn.Module, path: str | Path, prefix: str) -> None:
    """Load what a file has under names that begin with `prefix`, such as "features.", into `module`.

    Raises:
        WeightsError: see `read` and `load_into`.
    """
    state = {n.removeprefix(prefix): value for n, value in read(path).items() if n.startswith(prefix)}
    load_into(module, state, path)


def _few(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown


def _shape(tensor: Tensor) -> str:
    return "x".join(str(size) for size in tensor.shape) or "a single number"


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
