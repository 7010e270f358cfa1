"""Warnings on the command line."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


@contextmanager
def telling() -> Iterator[None]:
    """Write warnings for a person, without the line of code that they come from."""

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        sys.stderr.write(f"gangen: {message}\n")

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
