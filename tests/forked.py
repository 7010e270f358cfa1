"""Programs in processes of their own, started without the seconds that importing torch takes.

They are forked from a server, one for each pytest process, that has imported it already. What is tested so is what
the programs do; that people can start them, with torchrun or `accelerate launch`, is tested elsewhere.
"""

import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import tempfile
from multiprocessing.connection import wait
from pathlib import Path

import pytest

from tests.conftest import ROOT


def forked(
    *words: str, processes: int = 1, folder: Path = ROOT, seconds: float = 300, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; once one of its processes fails, the others are killed, as torchrun does.

    Args:
        words: the program's file and what it is given.
        processes: how many run it, connected as torchrun's are.
        folder: that they run in.
        seconds: after which they are killed, which counts as a failure.
        environment: variables besides those of this process as it began.

    Returns:
        The exit status, that of the first process that had another than 0, and what all printed, as `stderr`.
    """
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    context = multiprocessing.get_context("forkserver")
    # The last two are imported by whoever validates, and reports
    slow_to_import = ["pytest", "gangen.recipe", "gangen.cli", "torchmetrics.functional", "matplotlib.figure"]
    context.set_forkserver_preload(slow_to_import)
    shared = {"ACCELERATE_USE_CPU": "true", **environment}
    if processes > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
        shared |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    with tempfile.NamedTemporaryFile("r", encoding="utf-8", errors="replace") as console:
        members = []
        for rank in range(processes):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank)} if processes > 1 else {}
            given = (words, shared | own, console.name, str(folder))
            members.append(context.Process(target=_become, args=given))
            members[-1].start()
        codes = _ends(members, seconds)
        told = console.read()
    return subprocess.CompletedProcess(words, next((code for code in codes if code), 0), "", told)


def _become(words: tuple[str, ...], environment: dict[str, str], console: str, folder: str) -> None:
    """Be the program, in a process that has just been forked."""
    place = os.open(console, os.O_WRONLY | os.O_APPEND)
    os.dup2(place, 1)
    os.dup2(place, 2)
    os.environ.update(environment)
    os.chdir(folder)
    multiprocessing.set_start_method(None, force=True)  # the platform's own, for the processes that it starts
    sys.argv = list(words)
    sys.path.insert(0, str(Path(words[0]).resolve().parent))
    runpy.run_path(words[0], run_name="__main__")


def _ends(members: list, seconds: float) -> list[int]:  # type: ignore[type-arg]
    """Their exit statuses, in the order in which they ended."""
    codes, left = [], {member.sentinel: member for member in members}
    while left:
        done = wait(list(left), seconds)
        for sentinel in done:
            member = left.pop(sentinel)
            member.join()
            codes.append(member.exitcode)
        if not done or any(codes):
            for member in left.values():
                member.kill()
    return codes
