"""Reading files at paths and URLs, by ranges of bytes, with patience for connections that break."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import IO, TypeVar

from gangen.errors import DataError, UserError

T = TypeVar("T")

PATIENCE = (1.0, 4.0, 16.0, 60.0)
"""Seconds before a broken connection is tried again, and again."""

PERMANENT = (
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
    ValueError,
    NotImplementedError,
)
"""What waiting does not mend: there is no such file, it may not be read, or the protocol is unknown."""


def is_url(place: str | Path) -> bool:
    """Whether it names a protocol, as in https://example.org/shards."""
    return "://" in str(place)


def join(root: str, name: str) -> str:
    """A name inside a folder or URL, before whatever signs the URL."""
    before, mark, query = root.partition("?") if is_url(root) else (root, "", "")
    return f"{before.rstrip('/')}/{name}{mark}{query}"


def read_whole(place: str) -> bytes:
    """All of a file at a path or URL. Errors are those of `patiently`."""
    return patiently(place, lambda: _fetch(place, None, None))


def read_range(place: str, first: int, count: int) -> bytes:
    """Bytes of a file at a path or URL, fewer where it ends before. Errors are those of `patiently`."""
    content = patiently(place, lambda: _fetch(place, first, first + count))
    if len(content) > count:
        raise DataError(
            f"{place}: asked for {count} bytes, the server sent {len(content)}. It does not answer ranges of "
            "bytes, which shards are read by; use storage that does, or a folder."
        )
    return content


def opened(place: str) -> IO[bytes]:
    """A file at a path or URL, to be read mostly onwards."""
    if not is_url(place):
        return Path(place).open("rb")
    system, path = _system(place)
    file: IO[bytes] = system.open(path, "rb")
    return file


def patiently(what: str, work: Callable[[], T]) -> T:
    """What `work` gives; where a connection breaks it is tried again, some times, with a warning.

    Raises:
        DataError: it breaks each time, or what waiting does not mend; names `what`. It is no `PictureError`: that
            storage is out of reach must not pass for a damaged picture.
    """
    for tried, seconds in enumerate((*PATIENCE, None), 1):
        try:
            return work()
        except Exception as error:
            wait(what, error, tried, seconds)
    raise AssertionError("the last time has no seconds to wait")


def wait(what: str, error: Exception, tried: int, seconds: float | None) -> None:
    """Wait so many seconds after an error that may pass; raise a `DataError` for another, or where it is None."""
    told = f"{what} cannot be read: {type(error).__name__}: {error}"
    if isinstance(error, UserError):
        raise error
    if isinstance(error, ImportError):
        raise DataError(f'{told}. Install what it needs; for https: pip install "gangen[stream]".') from error
    if isinstance(error, PERMANENT):
        raise DataError(f"{told}. Is it still there?") from error
    if seconds is None:
        raise DataError(f"{told}, {tried} times. --resume goes on once it can be.") from error
    warnings.warn(f"{told}. Trying again in {seconds:g} s.", stacklevel=4)
    time.sleep(seconds)


def _fetch(place: str, first: int | None, end: int | None) -> bytes:
    if is_url(place):
        system, path = _system(place)
        return bytes(system.cat_file(path, start=first, end=end))
    with Path(place).open("rb") as file:
        file.seek(first or 0)
        return file.read() if end is None else file.read(end - (first or 0))


def _system(place: str):  # type: ignore[no-untyped-def]  # fsspec has no types
    import fsspec  # comes with huggingface_hub, which accelerate needs

    return fsspec.core.url_to_fs(place)
