"""Layer groups: a network's weights from the first layers, which know most already, to the last, which are new."""

from __future__ import annotations

from torch import nn

from gangen.errors import UserError
from gangen.nets.freezing import Norms, freeze, unfreeze


def layer_groups(network: nn.Module) -> list[list[nn.Parameter]]:
    """The network's weights in groups, in the order of depth; together they are all of its weights, each once.

    A network on a `Body`, or one around such a network, its `unet`, has three: the body's early layers, its late
    ones, and all that is not the body. One on another body has two; what that body's own `layer_groups()` gives,
    if it has it. A network without a `body` has one.
    """
    body = body_of(network)
    groups: list[list[nn.Parameter]] = []
    if body is not None:
        own = getattr(body, "layer_groups", None)
        groups = own() if callable(own) else [list(body.parameters())]
    known = {id(parameter) for group in groups for parameter in group}
    rest = [parameter for parameter in network.parameters() if id(parameter) not in known]
    return [group for group in (*groups, rest) if group]


def body_of(network: nn.Module) -> nn.Module | None:
    """What a network stands on: its own `body`, or that of its `unet`; None where it has neither."""
    for holder in (network, getattr(network, "unet", None)):
        body = getattr(holder, "body", None)
        if isinstance(body, nn.Module):
            return body
    return None


def freeze_to(network: nn.Module, group: int, *, norms: Norms = "learn") -> None:
    """Freeze all layer groups before number `group`, and let the others learn; a negative one counts from the end.

    `freeze_to(network, -1)` leaves the last group alone to learn, `freeze_to(network, 0)` all.

    Args:
        network: see `layer_groups`.
        group: the first that learns.
        norms: what normalisation layers in frozen groups do; see `Norms`.

    Raises:
        UserError: there are not so many groups.
    """
    groups = layer_groups(network)
    if not -len(groups) <= group < len(groups):
        raise UserError(
            f"freeze_to {group}: the network has {len(groups)} layer groups. Give 0 to {len(groups) - 1}."
        )
    held = {id(parameter) for part in groups[: group % len(groups)] for parameter in part}
    for module in network.modules():
        own = [*module.parameters(recurse=False)]
        if not own:
            continue
        unfreeze(module)
        if all(id(parameter) in held for parameter in own):
            freeze(module, norms=norms)
