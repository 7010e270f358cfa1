"""Atomic writing: a reader sees the old file or the new one, never half of one, even after a kill.

And folders that one process has for itself.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary, finalize

from gangen.errors import RunError

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

_TEMPORARY = re.compile(r"\..+\.\d+\.tmp")

_CLAIMED: WeakValueDictionary[Path, Claim] = WeakValueDictionary()
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
    # Names have up to 255 bytes
    name = path.name if len(os.fsencode(path.name)) <= 230 else path.name[:50]
    temporary = path.with_name(f".{name}.{os.getpid()}.tmp")
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


class Claim:
    """A folder that this process has for itself, until nobody keeps this, or the process ends, however it ends."""

    def __init__(self, folder: Path, descriptor: int, made: bool) -> None:
        self.folder = folder
        finalize(self, _let_go, folder, descriptor, made, os.getpid())


def claim(folder: str | Path, patience: float = 0.0, *, again: bool = True) -> Claim | None:
    """Take a folder for this process alone, by a lock that the system gives back when the process ends (flock).

    Where a file system knows no locks, and on Windows, everyone is given one.

    Args:
        folder: is made where there is none; its file .lock is what is locked. One that was made here, and in which
            nothing else was written, is removed when it is given back.
        patience: seconds to wait for another process, such as one that is just ending.
        again: give a folder that this process has already.

    Returns:
        What holds the folder, for as long as it is kept; None where another process has it.

    Raises:
        RunError: the disk is full or not writable.
    """
    place = Path(folder).resolve()
    held = _CLAIMED.get(place)
    if held is not None:
        return held if again else None
    until, made = time.monotonic() + patience, not place.exists()
    while True:
        try:
            place.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(place / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
            if _is_locked(descriptor, place / ".lock"):
                _CLAIMED[place] = taken = Claim(place, descriptor, made)
                return taken
            os.close(descriptor)
        except FileNotFoundError:  # who had it removes it just now
            pass
        except OSError as error:
            raise RunError(explain_disk_trouble(place / ".lock", error)) from error
        if time.monotonic() >= until:
            return None
        time.sleep(0.05)


def _is_locked(descriptor: int, path: Path) -> bool:
    """Lock a file that is open, unless another process has, or it is no longer the one under its name."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in _NO_LOCKS
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _let_go(folder: Path, descriptor: int, made: bool, owner: int) -> None:
    """Give a claimed folder back; in a forked copy of its owner, only forget it."""
    if os.getpid() == owner:
        with suppress(OSError):
            if made and [path.name for path in folder.iterdir()] == [".lock"]:
                (folder / ".lock").unlink()
                folder.rmdir()
        if fcntl is not None:
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_UN)  # or copies would keep it
    os.close(descriptor)


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
