"""A run folder belongs to one training at a time."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gangen.errors import RunError
from gangen.files import claim
from gangen.metrics import L1
from gangen.train import Validation, claims
from tests.train.toys import Game, Toys, toy_trainer


@contextmanager
def elsewhere(expression: str) -> Iterator[subprocess.Popen[str]]:
    """Within this block another process keeps what an expression of gangen.files' functions gives."""
    program = f"from gangen.files import *; kept = {expression}; print(kept is not None, flush=True); input()"
    words = [sys.executable, "-c", program]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        yield process
        process.kill()


def test_a_folder_is_one_process_s_until_that_ends_however_it_ends(tmp_path: Path) -> None:
    with elsewhere(f"claim({str(tmp_path)!r})") as other:
        assert claim(tmp_path) is None
        other.kill()
        mine = claim(tmp_path, patience=10)
        assert mine is not None
    assert claim(tmp_path) is mine, "a process may take its own folder again"
    del mine
    with elsewhere(f"claim({str(tmp_path)!r})"):
        assert claim(tmp_path) is None, "what is no longer kept is free"


def test_two_trainings_never_write_into_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "PATIENCE", {True: 0.0, False: 0.0})
    with elsewhere(f"claim({str(tmp_path)!r})"):
        for resume in (False, True):
            watch = Validation(Toys(3), [L1])  # which writes as a training begins
            with pytest.raises(RunError, match=r"another training is writing to .* at this moment"):
                toy_trainer(tmp_path, watch).fit(Game(steps=(2, 0, 0)).phases, resume=resume)
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    assert toy_trainer(tmp_path).fit(Game(steps=(2, 0, 0)).phases) == 2
    with elsewhere(f"claim({str(tmp_path)!r})"):
        pass  # free again, though the trainer may still be about


def test_a_file_system_without_locks_lets_everyone_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert claim(tmp_path) is not None


def test_a_folder_in_which_nothing_was_written_goes_again(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for name, stays in (("new", False), ("mine", True), ("written", True)):
        held = claim(tmp_path / name)
        assert held is not None
        if name == "written":
            (tmp_path / name / "log.jsonl").write_text("")
        del held
        assert (tmp_path / name).exists() == stays


def test_a_forked_copy_neither_keeps_nor_loses_what_its_parent_holds(tmp_path: Path) -> None:
    held = claim(tmp_path)
    child = os.fork()
    if child == 0:
        del held  # as it does when it ends
        time.sleep(30)
        os._exit(0)
    try:
        with pytest.raises(AssertionError), elsewhere(f"claim({str(tmp_path)!r})"):
            pass
        del held
        with elsewhere(f"claim({str(tmp_path)!r})"):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
