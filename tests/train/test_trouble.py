"""Several processes when something goes wrong: they end together, soon, with a message, and go on afterwards."""

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import ROOT
from tests.forked import forked
from tests.train.toys import differences

SCRIPT = """
import os, signal, sys, time
from pathlib import Path
from gangen.errors import DataError
from gangen.train import Alternate, Callback, NonFinite, Trainer, launch
from tests.train.toys import Game, Toys

run, trouble = Path(sys.argv[1]), sys.argv[2]
accelerator = launch(threads=1)
rank = accelerator.process_index

class Trouble(Callback):
    def on_before_update(self, trainer, player):
        if trouble == "slow":
            time.sleep(0.1)
        if trainer.total == 5 and rank == 1:
            once = run.with_name("once")
            if trouble == "kill" or (trouble == "once" and not once.exists()):
                once.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if trouble == "raise":
                raise DataError("the picture moon.png cannot be read; take it out of the folder")

class Sick(Toys):
    def __getitem__(self, index):
        batch = super().__getitem__(index)
        if trouble == "nan" and rank == 1 and index == 3:
            batch.input.fill_(float("nan"))
        return batch

code = 0
try:
    trainer = Trainer(run, Sick(10), batch_size=2, callbacks=[Trouble()], accelerator=accelerator, save_every=4)
    trainer.fit(Game(Alternate(critic=2, generator=1)).phases, resume=True)
except SystemExit as stop:
    code = stop.code
    raise
finally:
    run.with_name(f"{run.name}.exit{rank}").write_text(str(code))
"""


TWO = ("--standalone", "--nproc_per_node=2")


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("script") / "train.py"
    path.write_text(SCRIPT)
    return path


@pytest.fixture(scope="module")
def whole(script: Path) -> dict[str, Any]:
    """What two processes come to that nobody disturbs."""
    run = script.with_name("whole")
    done = forked(str(script), str(run), "none", processes=2)
    assert done.returncode == 0, done.stderr[-3000:]
    return final_state(run)


def command(script: Path, run: Path, trouble: str, *launcher: str) -> list[str]:
    torchrun = [sys.executable, "-m", "torch.distributed.run", *(launcher or TWO)]
    return [*torchrun, str(script), str(run), trouble]


class Job:
    """A launcher and all that it has started, known by a mark in their environment."""

    def __init__(self, line: list[str]) -> None:
        self.mark = f"GANGEN_TEST_JOB={uuid.uuid4()}"
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true"}
        environment["PET_SIGNALS_TO_HANDLE"] = "SIGTERM,SIGINT,SIGUSR1"
        environment |= dict([self.mark.split("=")])
        self.launcher = subprocess.Popen(
            line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )

    def ends(self, seconds: float = 120) -> str:
        """What it told, when it has ended."""
        told, _ = self.launcher.communicate(timeout=seconds)
        return told

    @property
    def code(self) -> int | None:
        return self.launcher.returncode

    def living(self, also: bytes = b"") -> list[int]:
        """Its processes that live, of those that have `also` in their environment."""
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                environment = path.read_bytes()  # empty once a process has ended
            except OSError:
                continue
            if self.mark.encode() in environment and also in environment:
                found.append(int(path.parent.name))
        return found


@contextmanager
def started(line: list[str]) -> Iterator[Job]:
    """A job; whatever of it is left at the end is killed."""
    job = Job(line)
    try:
        yield job
    finally:
        for process in job.living():
            os.kill(process, signal.SIGKILL)
        job.launcher.wait()


def exits(run: Path) -> list[str]:
    return [path.read_text() for path in sorted(run.parent.glob(f"{run.name}.exit*"))]


def final_state(run: Path) -> dict[str, Any]:
    state = torch.load(sorted((run / "checkpoints").glob("step-*.pt"))[-1], weights_only=True)
    return {**{k: v for k, v in state.items() if k not in ("timing", "callbacks")}, "log": log(run)}


def log(run: Path) -> str:
    path = run / "log.jsonl"
    return path.read_text() if path.exists() else ""


def wait_for(run: Path, text: str) -> None:
    deadline = time.monotonic() + 60
    while text not in log(run):
        assert time.monotonic() < deadline, f"{text} never came"
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trouble", "message"), [("kill", "SIGKILL"), ("raise", "the picture moon.png cannot be read")]
)
def test_a_process_that_dies_ends_the_job_with_its_message(
    script: Path, tmp_path: Path, trouble: str, message: str
) -> None:
    begun = time.monotonic()
    with started(command(script, tmp_path / "cut", trouble)) as job:
        told = job.ends(90)
        assert job.code != 0
        assert time.monotonic() - begun < 60
        assert message in told
        assert job.living() == []


@pytest.mark.slow
@pytest.mark.parametrize("addressed", [False, True], ids=["standalone", "at a port, as accelerate launch does"])
def test_restarted_by_the_launcher_it_goes_on_by_itself(
    script: Path, tmp_path: Path, whole: dict[str, Any], addressed: bool
) -> None:
    how = ("--nproc_per_node=2", f"--master_port={free_port()}") if addressed else TWO
    with started(command(script, tmp_path / "cut", "once", *how, "--max_restarts=1")) as job:
        output = job.ends(120)
    assert job.code == 0, output[-3000:]
    assert (tmp_path / "once").exists()
    assert differences(whole, final_state(tmp_path / "cut")) == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_the_launcher_stops_all_processes_together(
    script: Path,
    tmp_path: Path,
    whole: dict[str, Any],
    number: signal.Signals,
) -> None:
    with started(command(script, tmp_path / "cut", "slow")) as job:
        wait_for(tmp_path / "cut", '"event": "phase"')
        time.sleep(0.5)
        asked = time.monotonic()
        job.launcher.send_signal(number)
        output = job.ends(60)
        assert time.monotonic() - asked < 30
        assert job.code != 0
        assert job.living() == []
    assert exits(tmp_path / "cut") == [str(128 + number)] * 2, output[-3000:]
    rest = forked(str(script), str(tmp_path / "cut"), "none", processes=2)
    assert rest.returncode == 0, rest.stderr[-3000:]
    assert differences(whole, final_state(tmp_path / "cut")) == []


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all(script: Path, tmp_path: Path) -> None:
    with started(command(script, tmp_path / "cut", "slow")) as job:
        wait_for(tmp_path / "cut", '"event": "phase"')
        (second,) = job.living(also=b"\0LOCAL_RANK=1\0")
        os.kill(second, signal.SIGUSR1)
        job.ends(60)
        assert job.living() == []
    assert exits(tmp_path / "cut") == ["138", "138"]


@pytest.mark.slow
def test_what_is_no_number_on_one_process_moves_none(script: Path, tmp_path: Path) -> None:
    done = forked(str(script), str(tmp_path / "run"), "nan", processes=2)
    assert done.returncode == 0, done.stderr[-3000:]
    assert '"event": "skipped"' in log(tmp_path / "run")
    weights = final_state(tmp_path / "run")["networks"]["generator"]
    assert all(bool(value.isfinite().all()) for value in weights.values())


@pytest.mark.slow
def test_one_process_goes_on_where_two_were_stopped_and_says_what_is_not_exact(
    script: Path, tmp_path: Path
) -> None:
    with started(command(script, tmp_path / "cut", "kill")) as job:
        job.ends(90)
    before = final_state(tmp_path / "cut")
    rest = forked(str(script), str(tmp_path / "cut"), "none")
    assert rest.returncode == 0, rest.stderr[-3000:]
    assert "was saved by 2 process(es), and 1 go on from it" in rest.stderr
    after = final_state(tmp_path / "cut")
    assert after["total"] == 26
    # 10 samples: each step of two processes has taken 4, each step since then 2
    assert after["positions"] == [before["positions"][0] + 2 * (26 - before["total"])]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.mark.slow
def test_two_machines_end_as_two_processes_of_one(script: Path, tmp_path: Path, whole: dict[str, Any]) -> None:
    there = f"--rdzv_endpoint=127.0.0.1:{free_port()}"
    node = ["--nnodes=2", "--nproc_per_node=1", "--rdzv_backend=c10d", "--rdzv_id=two", there]
    line = command(script, tmp_path / "two", "none", *node)
    with started(line) as first, started(line) as second:
        told = [job.ends(120) for job in (first, second)]
        assert [first.code, second.code] == [0, 0], "\n".join(text[-2000:] for text in told)
    assert differences(whole, final_state(tmp_path / "two")) == []
