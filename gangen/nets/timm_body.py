"""Networks of timm (pytorch-image-models) that offer features: pip install "gangen[timm]"."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gangen.errors import UserError, WeightsError
from gangen.nets.cut import EARLY, Cut

TIMM = "timm/"
_SIZE = 128
_ODD = 161  # halves to odd numbers again and again, which networks that join their maps may not take


def cut_timm(arch: str) -> tuple[nn.Module, Cut, tuple[float, ...], tuple[float, ...]]:
    """Make timm's network "timm/NAME" with random weights, in the form that gives features.

    Returns:
        The network, what its maps are, and mean and deviation of the pictures, in [0, 1], that it was trained on.

    Raises:
        UserError: timm is not installed, or knows no such network, or it has no maps of several resolutions.
    """
    timm, name = _timm(arch), arch.removeprefix(TIMM)
    try:
        network = timm.create_model(name, pretrained=False, features_only=True)
    except (RuntimeError, AttributeError) as error:  # unknown to timm, or one that tells nothing of its features
        near = ", ".join(timm.list_models(f"*{name[:6]}*")[:5])
        hint = f" Near it: {near}." if near else ""
        raise UserError(
            f"body {arch!r} cannot be had from timm {timm.__version__}: {error}.{hint} All: timm.list_models()."
        ) from error
    strides = tuple(int(stride) for stride in network.feature_info.reduction())
    if len(strides) < 2 or any(fine >= coarse for fine, coarse in pairwise(strides)):
        raise UserError(f"body {arch!r} has no feature maps of several resolutions ({strides}). Choose another.")
    channels = tuple(network.feature_info.channels())
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            maps = network.eval()(torch.zeros(1, 3, _SIZE, _SIZE))
    except Exception as error:  # what a network cannot do with a size it may say in any way
        raise UserError(f"body {arch!r} takes pictures of one size only. Choose another.") from error
    places = tuple(1 if found.shape[1] == count else 3 for found, count in zip(maps, channels, strict=True))
    heights = [2 if place == 1 else 1 for place in places]
    exact = _exact(network, list(zip(strides, heights, strict=True)))
    about = network.pretrained_cfg if hasattr(network, "pretrained_cfg") else network.default_cfg
    # Some gather from all places in plain functions, which no look at the modules finds.
    found = Cut((), channels, strides, places, exact, 1 if exact else strides[-1], _early(network), local=False)
    return network.train(), found, tuple(about["mean"]), tuple(about["std"])


def _exact(network: nn.Module, maps: list[tuple[int, int]]) -> bool:
    """Whether odd sizes do, and give maps, by stride and axis of the height, of the sizes asked for."""
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            found = network(torch.zeros(1, 3, _ODD, _ODD))
    except Exception:
        return False
    return all(part.shape[axis] == -(-_ODD // stride) for part, (stride, axis) in zip(found, maps, strict=True))


def _early(network: Any) -> frozenset[str]:
    """Paths of the layers up to the map of stride 8; where timm does not tell them, the first half of all."""
    info = network.feature_info
    ends = [m for m, stride in zip(info.module_name(), info.reduction(), strict=True) if stride <= EARLY]
    children = [name for name, _ in network.named_children()]
    last = ends[-1].replace(".", "_") if ends else ""
    names = [name for name, _ in network.named_parameters()]
    if last in children:
        kept = set(children[: children.index(last) + 1])
        early = [name for name in names if name.split(".")[0] in kept]
    else:
        early = names[: len(names) // 2]
    return frozenset(name.rpartition(".")[0] for name in early)


def timm_state(network: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A classifier's weights under the names of the form that gives features, without the classifier's end."""
    own = {name.replace(".", "_"): name for name in network.state_dict()}
    return {own[key]: value for name, value in state.items() if (key := name.replace(".", "_")) in own}


def timm_weights(arch: str) -> Path:
    """Download a network's own pretrained weights from the Hugging Face hub, or find them in its cache.

    Raises:
        WeightsError: there are none, or they cannot be downloaded.
    """
    from huggingface_hub import hf_hub_download

    about = _timm(arch).get_pretrained_cfg(arch.removeprefix(TIMM))
    if about is None or not about.hf_hub_id:
        raise WeightsError(f"timm has no pretrained weights for {arch}.")
    try:
        return Path(hf_hub_download(about.hf_hub_id, "model.safetensors"))
    except Exception as error:  # of the hub, of the network, of the disk: none of them has the weights
        reason = str(error).strip().splitlines()[0]
        raise WeightsError(f"cannot download {about.hf_hub_id} from the Hugging Face hub: {reason}.") from error


def _timm(arch: str) -> Any:
    try:
        import timm
    except ImportError as error:
        raise UserError(f'body {arch!r} needs timm. Install it with: pip install "gangen[timm]"') from error
    return timm
