"""The programs behind docs/reliability.md run, and its numbers are of the size that they give."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.mark.slow
def test_kills_at_random_moments_change_nothing() -> None:
    soak = [sys.executable, str(ROOT / "benchmarks" / "soak.py"), "--kills", "8"]
    done = subprocess.run(soak, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith(("| 1 ", "| 2 "))]
    assert [row[1] for row in rows] == ["8/8", "8/8"]


@pytest.mark.slow
def test_damaged_files_are_read_or_refused_by_name() -> None:
    fuzz = [sys.executable, str(ROOT / "benchmarks" / "fuzz.py"), "--weights", "60", "--configs", "60"]
    fuzz += ["--shards", "60"]
    done = subprocess.run(fuzz, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines()[2:]]
    assert [int(row[1]) for row in rows] == [2000, *[60] * 6]
    assert all(int(row[4]) > 0 for row in rows), "damage that nothing notices is none"
    assert all(int(row[5]) == 0 for row in rows)
