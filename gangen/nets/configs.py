"""Configs of networks: JSON that names an architecture, checked key by key, from which nothing is imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gangen.errors import RunError


def own_name(part: object) -> str:
    """What stands in a config for a body or a head that gangen cannot rebuild: the name of its class."""
    return type(part).__qualname__


def described(part: str, config: Any, keys: tuple[str, ...]) -> dict[str, Any]:
    """The arguments of the body or the head that `config` describes.

    Raises:
        RunError: it describes none that gangen knows.
    """
    if isinstance(config, str):
        raise RunError(
            f"this network was made with a {part} of its own, {config}; give one as from_config(..., {part}=...)."
        )
    expect_keys(f"a {part}", config, keys)
    return dict(config)


def expect_keys(what: str, config: Any, keys: tuple[str, ...]) -> None:
    """Raise a RunError unless `config` has exactly these keys."""
    if not isinstance(config, Mapping) or set(config) != set(keys):
        found = ", ".join(map(str, config)) if isinstance(config, Mapping) else repr(config)
        raise RunError(
            f"this config does not describe {what}: expected the keys {', '.join(keys)}, found {found}. It was "
            "damaged, or written by another version of gangen."
        )
