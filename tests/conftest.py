import os
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent


def pytest_configure(config: pytest.Config) -> None:
    # Several test processes share the cores; each would otherwise start a thread for every core.
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Those that they start would do so all the same: gangen counts the cores that it may use.
    number, count = (os.environ.get(f"PYTEST_XDIST_WORKER{end}", "") for end in ("", "_COUNT"))
    if number and count and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        mine = cores[int(number.removeprefix("gw")) :: int(count)]
        if mine:
            os.sched_setaffinity(0, mine)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and weights, which is no part of the project."""
    folder = Path(os.environ.get("GANGEN_SHARED", ROOT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"needs the real data and weights of {folder}; name the folder with GANGEN_SHARED")
    return folder
