"""How a network is made to paint: at rest, in batches that fit, whole or in tiles, in one view or in several."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from gangen import images, tiles
from gangen.errors import PictureError, UserError
from gangen.nets import Colorizer
from gangen.views import Views, in_views

Picture = Image.Image | str | Path | Tensor


def as_tensor(picture: Picture) -> Tensor:
    """A picture as a network takes it: float32 (3, H, W) in [-1, 1], on the CPU.

    Raises:
        PictureError: a file cannot be read, or a tensor is no picture.
        UserError: it is none of these.
    """
    if isinstance(picture, Tensor):
        if picture.ndim != 3 or picture.shape[0] != 3 or 0 in picture.shape or not picture.is_floating_point():
            raise PictureError(
                f"a tensor of shape {tuple(picture.shape)} and type {picture.dtype} is no picture. Expected "
                "(3, H, W) of floats in [-1, 1]; pass the pictures of a batch as a list."
            )
        return picture.detach().float().cpu()
    if isinstance(picture, Image.Image):
        return images.to_tensor(images.upright(picture))
    return images.to_tensor(images.read(_path(picture)))


def _path(picture: object) -> str | Path:
    if isinstance(picture, (str, Path)):
        return picture
    remedy = (
        " PIL.Image.fromarray makes one of an array (RGB, not OpenCV's BGR)." if hasattr(picture, "shape") else ""
    )
    raise UserError(
        f"{type(picture).__name__} is no picture: expected a path, a Pillow picture, or a tensor.{remedy}"
    )


def device_of(network: nn.Module) -> torch.device:
    """The device that a network is on."""
    return next((weight.device for weight in network.parameters()), torch.device("cpu"))


def scale_of(network: nn.Module) -> int:
    """By how much what a network paints is larger than the picture given: 1 but for super-resolution."""
    return int(getattr(network, "scale", 1))


@contextmanager
def at_rest(network: nn.Module) -> Iterator[None]:
    """Hold a network in eval mode, without gradients, and give every part the mode back that it had."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def paint(network: nn.Module, batch: Tensor, tile: int | None, overlap: int) -> Tensor:
    """Paint (N, C, H, W) of any device, in tiles where it is larger than one; see `gangen.tiles`.

    Returns:
        (N, K, scale * H, scale * W) float32 on the CPU.

    Raises:
        PictureError: the pictures are larger than a tile, and the network cannot be tiled.
    """

    def painted(part: Tensor) -> Tensor:
        return network(part.to(device_of(network))).float().cpu()

    height, width = batch.shape[2:]
    if tile is None or height * width <= tile * tile or getattr(network, "bounded", False):
        return painted(batch)
    if not getattr(network, "tiles_exactly", False):
        raise PictureError(
            f"a picture of {width}x{height} pixels is more than one tile of {tile}x{tile}, and this network "
            "cannot be tiled: its self-attention or instance norm looks at the whole picture, so tiles would "
            "not match in colour. Paint it whole (--tile 0, or tile=None) if memory allows, which with "
            "attention grows with the square of the pixels; or scale the picture down."
        )
    return tiles.paint_tiled(painted, batch, tile, overlap, scale_of(network))


def paint_in_views(
    network: nn.Module, batch: Tensor, views: Views, tile: int | None, overlap: int, *, labels: bool
) -> Tensor:
    """Paint (N, 3, H, W) in every view, each as `paint` does, and average; see `gangen.views.in_views`.

    Returns:
        (N, K, scale * H, scale * W) float32 on the CPU: pictures in [-1, 1], or with `labels` probabilities.
    """

    # Each view is cut into tiles, not each tile looked at in views: then no tile that the network sees is larger
    # than another, whatever the scale, so its memory stays bounded; a scale is the same for the whole picture, not
    # rounded anew for each tile; and a mirrored picture's tiles end elsewhere, which evens out what they disagree
    # about. It costs two more answers of the picture's size beside the one being made, in the CPU's memory.
    def painted(seen: Tensor) -> Tensor:
        return paint(network, seen, tile, overlap)

    mean = in_views(painted, batch, views, labels=labels, scale=scale_of(network))
    # An average has no lightness that anybody chose, and a view of another scale has lost detail.
    return network.with_lightness(mean, batch) if isinstance(network, Colorizer) else mean


def batches(
    sizes: list[tuple[int, ...]], batch_size: int, tile: int | None, share: float = 1.0
) -> Iterator[list[int]]:
    """Group the indices of pictures of equal (H, W), never more pixels together than a tile has.

    The pixels are counted of pictures that are seen `share` times as high and as wide.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, size in enumerate(sizes):
        groups.setdefault(size, []).append(index)
    for (height, width), group in groups.items():
        pixels = share**2 * height * width
        most = batch_size if tile is None else min(batch_size, max(1, int(tile * tile / pixels)))
        for first in range(0, len(group), most):
            yield group[first : first + most]
