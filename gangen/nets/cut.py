"""Cutting a classifier: its feature maps, found in its own graph rather than listed for each architecture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
import torchvision
from torch import fx, nn
from torchvision import models
from torchvision.models.feature_extraction import NodePathTracer

from gangen.errors import UserError

_SIZES = (256, 320)  # of the pictures that are sent through: what grows with them is a height or a width
_ODD = 287  # a size that no stride divides
_LEAST = (1, 32, 64, 96, 128)
EARLY = 8  # the stride up to which layers are early
_FEWEST = 3  # maps that a decoder needs
_GATHERING = ("mean", "adaptive_avg_pool2d", "softmax", "scaled_dot_product_attention")
_ANSWERS = 1000  # channels of the last layer, where that is a convolution

Shapes = dict[fx.Node, tuple[int, ...]]


@dataclass(frozen=True)
class Cut:
    """Where a classifier's feature maps are.

    Attributes:
        nodes: names of the maps in the classifier's graph, finest first.
        channels: of each map.
        strides: of each map, powers of two.
        places: which dimension of each map holds the channels: 1, or 3 in some transformers.
        exact: whether each map is ceil(H / stride) by ceil(W / stride) at any size from `least` up.
        least: side of the smallest picture that passes, in pixels.
        early: the layers that work before the map of stride 8 is there, by their paths.
        local: whether no layer looks at the whole picture, or at windows that begin at its corner.
        ends: names of the weights that were cut off.
    """

    nodes: tuple[str, ...]
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    places: tuple[int, ...]
    exact: bool
    least: int
    early: frozenset[str]
    local: bool
    ends: tuple[str, ...] = ()


def classifiers() -> list[str]:
    """Names of torchvision's classifiers."""
    return list(models.list_models(module=models))


def cut(arch: str) -> tuple[nn.Module, Cut]:
    """Cut one of torchvision's `classifiers`, with random weights.

    The map of a resolution is the last one through which all paths lead, so not one branch of several, and which
    lies outside the block that makes the next resolution. Nothing is known of any architecture: the graph is
    traced, and pictures of two sizes are sent through it, in shape only.

    Returns:
        A network without its end, which takes pictures (N, 3, H, W) to a tuple of maps, under the classifier's own
        names of weights; and what its maps are.

    Raises:
        UserError: it has no maps, as a plain vision transformer.
    """
    found = _find(arch)
    network = models.get_model(arch, weights=None).eval()
    names = list(network.state_dict())
    graph, _ = _trace(network)
    nodes = {node.name: node for node in graph.nodes}
    end = next(node for node in graph.nodes if node.op == "output")
    with graph.inserting_before(end):
        graph.output(tuple(nodes[name] for name in found.nodes))
    graph.erase_node(end)
    kept = fx.GraphModule(network, graph, class_name=arch)
    kept.graph.eliminate_dead_code()
    kept.delete_all_unused_submodules()
    kept.recompile()
    own = kept.state_dict()
    return kept.train(), replace(found, ends=tuple(name for name in names if name not in own))


@dataclass(frozen=True)
class _Map:
    stride: int
    channels: int
    place: int


@cache
def _find(arch: str) -> Cut:
    with torch.random.fork_rng(devices=[]):  # weights that are thrown away must not be drawn from the run's chance
        network = models.get_model(arch, weights=None).eval().to("meta")
    graph, paths = _trace(network)
    module = fx.GraphModule(network, graph)
    try:
        small, large = (_shapes(module, size) for size in _SIZES)
    except Exception as error:  # what a network cannot do with a size it may say in any way
        raise UserError(f"body {arch!r} takes pictures of one size only. Choose another.") from error
    maps = {node: found for node in graph.nodes if (found := _map(small.get(node, ()), large.get(node, ())))}
    narrow = _narrow(graph, maps, small, large)
    reducing = _reducing(maps, paths)
    chosen: dict[int, fx.Node] = {}
    for node in narrow:
        own = maps[node]
        within = {path for path in _prefixes(paths.get(node, "")) if path in reducing}
        if (
            own.stride > 1
            and own.channels != _ANSWERS
            and not any(reducing[path] == own.stride for path in within)
        ):
            chosen[own.stride] = node
    if len(chosen) < _FEWEST:
        raise UserError(f"body {arch!r} has no feature maps of several resolutions to build on. Choose another.")
    strides = tuple(sorted(chosen))
    nodes = [chosen[stride] for stride in strides]
    exact, least = _reach(module, [(node, maps[node]) for node in nodes])
    return Cut(
        tuple(node.name for node in nodes),
        tuple(maps[node].channels for node in nodes),
        strides,
        tuple(maps[node].place for node in nodes),
        exact,
        least,
        _before(graph, chosen[max(stride for stride in strides if stride <= EARLY)]),
        _looks_around_only(graph, nodes[-1]) and all(maps[node].place == 1 for node in nodes),
    )


def _before(graph: fx.Graph, last: fx.Node) -> frozenset[str]:
    """Paths of the layers up to a node, in the order of the graph."""
    found = []
    for node in graph.nodes:
        if node.op == "call_module":
            found.append(str(node.target))
        if node.op == "get_attr":
            found.append(str(node.target).rpartition(".")[0])
        if node is last:
            break
    return frozenset(found)


def _looks_around_only(graph: fx.Graph, last: fx.Node) -> bool:
    """Whether no function up to a node gathers from all places; modules that do are found by their kind."""
    for node in graph.nodes:
        if node.op in ("call_function", "call_method"):
            name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
            if name in _GATHERING:
                return False
        if node is last:
            break
    return True


def _trace(network: nn.Module) -> tuple[fx.Graph, dict[fx.Node, str]]:
    """The graph of a network in eval mode, and each node's path through the modules."""
    # Layers of their own: normalisation, to be known as such, and stochastic depth, which looks at its own mode.
    tracer = NodePathTracer(
        autowrap_modules=(math, torchvision.ops), leaf_modules=[nn.LayerNorm, torchvision.ops.StochasticDepth]
    )
    return tracer.trace(network), tracer.node_to_qualname


def _shapes(module: fx.GraphModule, size: int) -> Shapes:
    """The shape of each tensor in the graph, for a square picture."""
    measured = _Measured(module)
    measured.run(torch.empty(1, 3, size, size, device="meta"))
    return measured.shapes


class _Measured(fx.Interpreter):
    """Runs a graph and notes the shape of each tensor; torch's `ShapeProp` prints what goes wrong besides."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.shapes: Shapes = {}

    def run_node(self, n: fx.Node) -> Any:
        """Run a node."""
        answer = super().run_node(n)
        if isinstance(answer, torch.Tensor):
            self.shapes[n] = tuple(answer.shape)
        return answer


def _map(small: tuple[int, ...], large: tuple[int, ...]) -> _Map | None:
    """What kind of feature map a tensor is, from its shapes for the two sizes of pictures; None for no map."""
    if len(small) != 4:
        return None
    grows = tuple(a != b for a, b in zip(small, large, strict=True))
    for place, wanted in ((1, (False, False, True, True)), (3, (False, True, True, False))):
        if grows == wanted:
            return _Map(2 ** round(math.log2(_SIZES[0] / small[2])), small[place], place)
    return None


def _narrow(graph: fx.Graph, maps: Mapping[fx.Node, _Map], small: Shapes, large: Shapes) -> list[fx.Node]:
    """The maps through which everything passes: nothing that was made of the picture before is used after them."""
    nodes = list(graph.nodes)
    order = {node: place for place, node in enumerate(nodes)}
    last_use = {node: max((order[user] for user in node.users), default=-1) for node in nodes}
    found, latest = [], -1
    for place, node in enumerate(nodes):
        if node in maps and node.op != "placeholder" and latest <= place:
            found.append(node)
        if small.get(node) != large.get(node):  # others are tables and sizes
            latest = max(latest, last_use[node])
    return found


def _reducing(maps: Mapping[fx.Node, _Map], paths: Mapping[fx.Node, str]) -> dict[str, int]:
    """The modules that lower the resolution: their path, and the stride of what comes into them."""
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for node, own in maps.items():
        given = next((maps[source].stride for source in node.all_input_nodes if source in maps), own.stride)
        for path in _prefixes(paths.get(node, "")):
            first.setdefault(path, given)
            last[path] = own.stride
    return {path: stride for path, stride in first.items() if stride != last[path]}


def _prefixes(path: str) -> list[str]:
    """The modules that a node lies in, but for the network itself and the node's own."""
    parts = path.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _reach(module: fx.GraphModule, nodes: list[tuple[fx.Node, _Map]]) -> tuple[bool, int]:
    """Whether the maps' sizes are exact at odd sizes, and the smallest picture that passes."""
    shapes = _shapes(module, _ODD)
    exact = all(shapes[node][2 if own.place == 1 else 1] == -(-_ODD // own.stride) for node, own in nodes)
    for size in _LEAST:
        try:
            _shapes(module, size)
        except Exception:
            continue
        return exact, size
    return exact, _SIZES[0]
