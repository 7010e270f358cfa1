"""One training a run folder: two that write into one would each overwrite what the other saved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from filelock import FileLock

from gangen.errors import RunError
from gangen.files import claim

PATIENCE = 10.0
"""Seconds that another training's processes get to end, as those of one that was just killed do."""


def claim_run(run: str | Path) -> FileLock:
    """Take a run folder for this process, for as long as what is returned is kept; see `gangen.files.claim`.

    Raises:
        RunError: another training has it, or it cannot be written.
    """
    claimed = claim(run, PATIENCE)
    if claimed is None:
        raise RunError(
            f"another training is writing to {run} at this moment. Wait for its end or stop it, or name another "
            "folder (--out)."
        )
    return claimed


@contextmanager
def claimed(run: Path | None, accelerator: Accelerator) -> Iterator[None]:
    """Within this block, the run folder is this training's alone; None is nobody's.

    Raises:
        RunError: another training has it, or it cannot be written; on all processes.
    """
    if run is None:
        yield
        return
    held, refused = None, None
    if accelerator.is_main_process:
        try:
            held = claim_run(run)
        except RunError as error:
            refused = error
    (refused,) = broadcast_object_list([refused])
    if refused:
        raise refused
    yield
    del held
