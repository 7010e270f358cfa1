"""A generator as an ONNX file, checked against the network that it came from."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import Dim

from gangen import files
from gangen.errors import RunError, UserError
from gangen.nets import Siamese
from gangen.pipeline import Pipeline

STRIDE = 32
TOLERANCE = 2 / 255
"""Largest accepted difference in units of [-1, 1]: one of the 256 levels of a picture."""


@dataclass(frozen=True)
class Exported:
    """An exported network.

    Attributes:
        path: the file.
        sizes: which heights and widths it takes: "any", "multiples of 32" or "fixed"; where it starts from noise,
            "fixed", for it makes one size.
        difference: largest absolute difference to the network over `checked`, in units of [-1, 1].
        checked: the shapes of the inputs that were compared.
    """

    path: Path
    sizes: str
    difference: float
    checked: Sequence[tuple[int, ...]]


def export_onnx(
    source: Pipeline | nn.Module, path: str | Path, *, size: int = 256, dynamic: bool = True
) -> Exported:
    """Write a generator as one ONNX file with its weights inside, and compare the two on ONNX Runtime's CPU.

    The exported network takes `input`, float32 (N, 3, H, W) in [-1, 1], and gives `output` of the same shape;
    where it starts from noise, `input` is (N, latent) and `size` means nothing.
    With `dynamic`, N, H and W are free, and the comparison covers other N and two more sizes; a network that
    treats its picture's size in a way that the exporter cannot follow gets H and W in multiples of 32 instead.

    Args:
        source: a pipeline or a network; it stays as it is.
        path: the file to write, usually NAME.onnx.
        size: height and width in pixels of the example picture; the only size when not `dynamic`.
        dynamic: whether other sizes and other N shall be possible.

    Raises:
        UserError: the extra packages are not installed, or `size` is impossible.
        RunError: the network cannot be exported, or the file answers otherwise than it; an older file stays.
    """
    _require_extra()
    if isinstance(source.network if isinstance(source, Pipeline) else source, Siamese):
        raise UserError("a network that compares two pictures is not exported. Use it by Pipeline.compare.")
    least = 2 * STRIDE if dynamic else 1
    if size < least:
        raise UserError(f"size {size} is impossible. Expected {least} pixels or more.")
    network = copy.deepcopy(source.network if isinstance(source, Pipeline) else source).cpu().float().eval()
    if dynamic and getattr(network, "bounded", False):
        raise UserError(
            f"{type(network).__name__} looks at large pictures reduced and at small ones as they are, and a file "
            "does one of these only. Export it for one size, that of your pictures: --fixed (dynamic=False)."
        )
    latent = getattr(network, "latent", None)
    plans = _plans(size, dynamic) if latent is None else _plans_from_noise(latent, dynamic)
    troubles = []
    with files.replacing(path) as temporary:
        for plan in plans:
            try:
                _write(network, temporary, plan)
                difference = max(_difference(network, temporary, shape) for shape in plan.checked)
            except Exception as error:  # the exporter and the runtime raise many kinds for what they cannot follow
                told = str(error).strip().splitlines() or [type(error).__name__]
                troubles.append(f"{plan.sizes} sizes: {told[0]}")
                continue
            if difference <= TOLERANCE:
                return Exported(Path(path), plan.sizes, difference, plan.checked)
            troubles.append(
                f"{plan.sizes} sizes: differs from the network by {difference:.3g}, more than {TOLERANCE:.2g}"
            )
        raise RunError(
            f"{type(network).__name__} cannot be exported to {path}. " + " | ".join(troubles) + ". Try one fixed "
            "size (--fixed, or dynamic=False), or another version of torch and onnxscript."
        )


@dataclass(frozen=True)
class _Plan:
    """One way to export: the example's shape, which dimensions are free, and the shapes to compare."""

    sizes: str
    example: tuple[int, ...]
    free: dict[int, Any]
    checked: Sequence[tuple[int, ...]]


def _plans(size: int, dynamic: bool) -> Iterator[_Plan]:
    if not dynamic:
        yield _Plan("fixed", (1, 3, size, size), {}, [(1, 3, size, size)])
        return
    # An example with two like dimensions, or with an N of 1, would be taken for a rule.
    free = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    example = (2, 3, size, size + STRIDE)
    # Larger ones too: a network may do something else from some size on
    checked: list[tuple[int, ...]] = [(1, 3, size, size), (3, 3, size // 2 + 5, size + 3), (2, 3, size + 1, 37)]
    yield _Plan("any", example, free, [*checked, (1, 3, 2 * size, 2 * size + 5)])
    side = size // STRIDE * STRIDE
    free = {0: Dim.DYNAMIC, 2: STRIDE * Dim("rows", min=1, max=512), 3: STRIDE * Dim("columns", min=1, max=512)}
    example = (2, 3, side, side + STRIDE)
    checked = [(1, 3, side, side), (3, 3, side + STRIDE, side), (2, 3, STRIDE, 2 * STRIDE)]
    checked.append((1, 3, 2 * side, 2 * side + STRIDE))
    yield _Plan(f"multiples of {STRIDE}", example, free, checked)


def _plans_from_noise(latent: int, dynamic: bool) -> Iterator[_Plan]:
    if dynamic:
        yield _Plan("fixed", (2, latent), {0: Dim.DYNAMIC}, [(1, latent), (3, latent)])
    else:
        yield _Plan("fixed", (1, latent), {}, [(1, latent)])


def _write(network: nn.Module, path: Path, plan: _Plan) -> None:
    shapes = (plan.free,) if plan.free else None
    with _quiet(), torch.no_grad():
        torch.onnx.export(
            network,
            (torch.zeros(plan.example),),
            path,
            dynamo=True,
            external_data=False,
            input_names=["input"],
            output_names=["output"],
            dynamic_shapes=shapes,
            verbose=False,
        )


def _difference(network: nn.Module, path: Path, shape: tuple[int, ...]) -> float:
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    picture = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        expected = network(picture)
    found = torch.from_numpy(session.run(["output"], {"input": picture.numpy()})[0])
    return float((found - expected).abs().max()) if found.shape == expected.shape else float("inf")


def _require_extra() -> None:
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f'exporting needs {", ".join(missing)}: pip install "gangen[export]"')


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's progress and its notes on its own internals off the screen; errors still are raised."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
