"""Atomic writing: a reader sees the old file or the new one, never half of one, even after a kill."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gangen.errors import RunError

_TEMPORARY = re.compile(r"\..+\.\d+\.tmp")

_FULL = 2**20
"""Bytes below which a disk counts as full when writing has failed."""


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; what was written there takes its place when the block ends well.

    The contents reach the disk (fsync) before the name changes. When the block fails, the temporary file is
    removed and the old file stays.

    Raises:
        RunError: the disk is full or not writable; names the file and the space that is left.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except BaseException as error:
        trouble = _is_disk_trouble(error, path.parent)
        temporary.unlink(missing_ok=True)
        if trouble:
            raise RunError(explain_disk_trouble(path, error)) from error
        raise


def clear_temporary(folder: Path) -> None:
    """Remove what writers that were killed have left half-written in `folder` and below."""
    for path in folder.rglob(".*.tmp"):
        if _TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8 in place of `path`, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any, indent: int | None = 2) -> None:
    """Write `value` as JSON in place of `path`, atomically; in one line where `indent` is None."""
    write_text(path, json.dumps(value, indent=indent, ensure_ascii=False) + "\n")


def explain_disk_trouble(path: Path, error: BaseException) -> str:
    """Say which file could not be written, why, how much room is left, and what to do."""
    folder = next(parent for parent in [path.parent, *path.parent.parents] if parent.exists())
    free = shutil.disk_usage(folder).free / 2**20
    return (
        f"cannot write {path}: {error} ({free:.0f} MiB free). The last complete files are untouched; "
        "make room or choose another --out, then go on with --resume."
    )


def _is_disk_trouble(error: BaseException, folder: Path) -> bool:
    """Tell a failing disk from a failing program."""
    if isinstance(error, OSError):
        return error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.EPERM}
    # Torch and safetensors report a full disk by errors of their own, in words that change; the disk does not lie.
    return isinstance(error, Exception) and folder.exists() and shutil.disk_usage(folder).free < _FULL


def _sync_folder(folder: Path) -> None:
    """Make the new name itself durable; not every system can open a folder for that."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
