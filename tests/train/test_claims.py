"""A run folder belongs to one training at a time."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gangen.errors import RunError
from gangen.files import claim
from gangen.train import claims
from tests.train.toys import Game, toy_trainer


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
    monkeypatch.setattr(claims, "PATIENCE", 0.0)
    with elsewhere(f"claim({str(tmp_path)!r})"):
        for resume in (False, True):
            with pytest.raises(RunError, match=r"another training is writing to .* at this moment"):
                toy_trainer(tmp_path).fit(Game(steps=(2, 0, 0)).phases, resume=resume)
        assert not (tmp_path / "log.jsonl").exists()
    assert toy_trainer(tmp_path).fit(Game(steps=(2, 0, 0)).phases) == 2
    with elsewhere(f"claim({str(tmp_path)!r})"):
        pass  # free again, though the trainer may still be about


def test_a_file_system_without_locks_lets_everyone_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("gangen.files.FileLock.acquire", refuse)
    assert claim(tmp_path) is not None
