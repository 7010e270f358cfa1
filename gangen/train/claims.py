"""One training a run folder: two that write into one would each overwrite what the other saved."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from gangen.errors import RunError
from gangen.files import Claim, claim

PATIENCE = {True: 120.0, False: 10.0}
"""Seconds that another training's processes get to end, where it is to be resumed, and where not. Those of one
that was killed end at once; but a shared disk may take a minute and a half to see that a machine is gone."""


def claim_run(run: str | Path, *, resume: bool) -> Claim:
    """Take a run folder for this process, for as long as what is returned is kept; see `gangen.files.claim`.

    Args:
        run: the folder.
        resume: whether a training in it is to be resumed.

    Raises:
        RunError: another training has it, or it cannot be written.
    """
    claimed = claim(run)
    if claimed is None:
        sys.stderr.write(f"{run} is another training's; waiting for up to {PATIENCE[resume]:.0f} s for its end.\n")
        claimed = claim(run, PATIENCE[resume])
    if claimed is None:
        raise RunError(
            f"another training is writing to {run} at this moment. Wait for its end or stop it, or name another "
            "folder (--out)."
        )
    return claimed


@contextmanager
def claimed(run: Path | None, accelerator: Accelerator, *, resume: bool) -> Iterator[None]:
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
            held = claim_run(run, resume=resume)
        except RunError as error:
            refused = error
    (refused,) = broadcast_object_list([refused])
    if refused:
        raise refused
    try:
        yield
    finally:
        del held  # which the traceback of an error would keep otherwise
