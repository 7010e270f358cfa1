"""Atomic writing: a reader sees the old file or the new one, never half of one, even after a kill.

And folders that one process has for itself.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary, finalize

from filelock import FileLock, Timeout

from gangen.errors import RunError

_TEMPORARY = re.compile(r"\..+\.\d+\.tmp")

_CLAIMED: WeakValueDictionary[Path, FileLock] = WeakValueDictionary()
"""What this process holds, for as long as somebody keeps it."""
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}

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
        with temporary.open("r+b") as written:  # Windows syncs only what may be written to
            os.fsync(written.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except BaseException as error:
        trouble = _is_disk_trouble(error, path.parent)
        temporary.unlink(missing_ok=True)
        if trouble:
            raise RunError(explain_disk_trouble(path, error)) from error
        raise


def claim(folder: str | Path, patience: float = 0.0) -> FileLock | None:
    """Take a folder for this process alone, for as long as it keeps what is returned, or lives.

    Within the process it can be taken again. The system gives it back whatever ends the process; where a file
    system knows no locks, everyone is given one.

    Args:
        folder: is made where there is none; its file .lock is what is locked.
        patience: seconds to wait for another process, such as one that is just ending.

    Returns:
        What holds the folder; None where another process has it.

    Raises:
        RunError: the disk is full or not writable.
    """
    place = Path(folder).resolve()
    held = _CLAIMED.get(place)
    if held is not None:
        return held
    lock = FileLock(place / ".lock", thread_local=False)
    try:
        place.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=patience)
    except Timeout:
        return None
    except NotImplementedError:
        pass
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise RunError(explain_disk_trouble(place / ".lock", error)) from error
    _CLAIMED[place] = lock
    finalize(lock, _tidy, place)
    return lock


def _tidy(folder: Path) -> None:
    """Remove a folder that holds nothing but its lock: what was to be written there was refused."""
    with suppress(OSError):
        if [path.name for path in folder.iterdir()] == [".lock"]:
            (folder / ".lock").unlink()
            folder.rmdir()


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
