"""A small training of three phases, killed again and again at random moments, and resumed each time.

    python benchmarks/soak.py                        # 200 kills of 1 process and 200 of 2
    python benchmarks/soak.py --kills 20 --processes 2 --seed 7

A run is killed and resumed until it ends, and then another is begun, until there were as many kills as asked for.
A kill is SIGKILL to every process, SIGKILL to one of them, SIGTERM to every process or SIGTERM to one. It has
survived when nothing of the job is left afterwards, every file that the run folder shows is whole, and the run
ends with the weights, optimizers, averages, random generators and log of one that nobody disturbed, to the bit.

Each run and each resuming is a forked copy of this program, which has imported everything already: the moments are
spread over the run rather than over Python's start.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import sys
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import tyro
from safetensors import safe_open
from torch import Tensor, nn
from torch.utils.data import Dataset

from gangen.data import Batch
from gangen.losses import critic_terms, hinge, l1
from gangen.metrics import L1
from gangen.nets import PatchCritic
from gangen.train import Adaptive, Interrupted, Phase, Player, Trainer, Validation, launch, set_seed
from gangen.train.schedule import one_cycle

KINDS = ("kill all", "kill one", "end all", "end one")
PATIENCE = 40.0
"""Seconds that a job may take to vanish after it was killed: what one process waits for another that is gone."""


@dataclass(kw_only=True)
class Settings:
    """What is done."""

    kills: int = 200
    """How many for each number of processes."""
    processes: tuple[int, ...] = (1, 2)
    """Numbers of processes."""
    workers: int = 1
    """Processes that read data, for each of them."""
    seed: int = 0
    """Of the moments and the kinds of kills."""


class Pictures(Dataset[Batch]):
    """Pictures of 8x8 pixels with noise on the input, drawn anew each time."""

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> Batch:
        target = torch.linspace(-1, 1, 192).roll(index * 9).view(3, 8, 8)
        return Batch((target + 0.3 * torch.randn(target.shape)).clamp(-1, 1), target, f"picture {index}")


def phases() -> list[Phase]:
    """A generator alone, a critic alone, and their game: averages, schedules, lazy R1, accumulation, dropout."""
    body = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.1)]
    generator = nn.Sequential(*body, nn.Conv2d(8, 3, 3, padding=1), nn.Tanh())
    critic = PatchCritic(3, width=8, layers=1)

    def imitate(nets: Any, batch: Batch) -> dict[str, Tensor]:
        return {"pixel": l1(nets.generator(batch.input), batch.target)}

    def judge(nets: Any, batch: Batch) -> dict[str, Tensor]:
        fake = nets.generator(batch.input)
        return critic_terms(nets.critic, batch.target, fake, hinge, r1_weight=0.1, r1_every=3, step=nets.step)

    def persuade(nets: Any, batch: Batch) -> dict[str, Tensor]:
        fake = nets.generator(batch.input)
        return {"pixel": l1(fake, batch.target), "adversarial": hinge.generator(nets.critic(fake))}

    alone = Player("generator", generator, imitate, lr=1e-2, schedule=one_cycle(), clip=1.0, ema=0.9, accumulate=2)
    expert = Player("critic", critic, judge, lr=1e-2)
    artist = Player("generator", generator, persuade, lr=1e-2, ema=0.9, hold_statistics=True)
    return [
        Phase("generator", [alone], 30),
        Phase("critic", [expert, artist], 20),
        Phase("adversarial", [expert, artist], 40, switcher=Adaptive(critic=1.9, max_turn=3)),
    ]


def train(run: Path, workers: int) -> None:
    """One process's part of the training, from the last checkpoint if there is one."""
    accelerator = launch(threads=1)
    set_seed(0)
    judge = Validation(Pictures(), [L1], every=20, best="l1", batch_size=4)
    trainer = Trainer(
        run,
        Pictures(),
        batch_size=4,
        workers=workers,
        callbacks=[judge],
        accelerator=accelerator,
        log_every=5,
        save_every=5,
    )
    trainer.fit(phases(), resume=True)


class Job:
    """Forked processes that train together, as a launcher would have started them."""

    def __init__(self, run: Path, processes: int, workers: int) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.members = [self._fork(run, rank, processes, port, workers) for rank in range(processes)]
        self.codes: dict[int, int] = {}
        self._told = False

    def _fork(self, run: Path, rank: int, processes: int, port: int, workers: int) -> int:
        child = os.fork()
        if child:
            return child
        os.setsid()  # so that those that it starts can be found
        code = 1
        try:
            console = os.open(run.with_name("console.txt"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(console, 1)
            os.dup2(console, 2)
            os.environ["ACCELERATE_USE_CPU"] = "true"
            if processes > 1:
                os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1"}
                os.environ |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
                os.environ["MASTER_PORT"] = str(port)
            train(run, workers)
            code = 0
        except Interrupted as stop:
            code = int(stop.code or 0)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def ended(self) -> bool:
        """Whether all of its processes have ended; as launchers do, the others are ended when one fails."""
        for member in self.members:
            if member not in self.codes:
                done, status = os.waitpid(member, os.WNOHANG)
                if done:
                    self.codes[member] = os.waitstatus_to_exitcode(status)
        if len(self.codes) < len(self.members) and any(self.codes.values()) and not self._told:
            self._told = True
            self.send(signal.SIGTERM, self.members)
        return len(self.codes) == len(self.members)

    def send(self, number: int, to: list[int]) -> None:
        """Send a signal to those of its processes that live."""
        for member in to:
            if member not in self.codes:
                os.kill(member, number)

    def left(self) -> list[int]:
        """Processes of its sessions that still live, children of children too."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, _, _, session = stat.read_text().rsplit(")", 1)[1].split()[:4]
            except OSError:
                continue  # ended meanwhile
            if int(session) in self.members and state != "Z":
                found.append(int(stat.parent.name))
        return found


def wait(until: Callable[[], bool], seconds: float) -> bool:
    """Whether it came true within so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if until():
            return True
        time.sleep(0.002)
    return until()


def strike(job: Job, kind: str, chance: random.Random) -> bool:
    """Kill a job in one of the four ways; whether it still lived."""
    number = signal.SIGKILL if kind.startswith("kill") else signal.SIGTERM
    job.ended()
    living = [member for member in job.members if member not in job.codes]
    if living:
        job.send(number, living if kind.endswith("all") else [chance.choice(living)])
    return bool(living)


def expected_codes(kind: str | None, job: Job) -> bool:
    """Whether the processes ended as they should: done, stopped in good order, or killed; not by an error.

    Before training has begun, SIGTERM kills. A process that loses another by that, or by SIGKILL, may fail.
    """
    codes = set(job.codes.values())
    if kind is None:
        return codes == {0}
    lost = codes & {-signal.SIGKILL, -signal.SIGTERM}
    return bool(lost) or codes <= {0, 128 + signal.SIGTERM}


def half_written(run: Path) -> list[str]:
    """Files of a run folder, by their final names, that cannot be read to their end."""
    broken = []
    for path in run.rglob("*"):
        try:
            if path.suffix == ".pt":
                with zipfile.ZipFile(path) as parts:
                    if parts.testzip():
                        broken.append(path.name)
            elif path.suffix == ".safetensors":
                with safe_open(path, "pt") as weights:
                    for name in weights.keys():  # noqa: SIM118 (it is no dict)
                        weights.get_tensor(name)
            elif path.suffix == ".json":
                json.loads(path.read_text(encoding="utf-8"))
        except Exception as error:
            broken.append(f"{path.name}: {error}")
    return broken


def outcome(run: Path) -> dict[str, Any]:
    """All that a training has come to: its last checkpoint, without clocks, its log and its best weights."""
    newest = sorted((run / "checkpoints").glob("step-*.pt"))[-1]
    state = torch.load(newest, weights_only=True)
    validation, *_ = state.pop("callbacks")  # then come the clocks
    del state["timing"]
    best = (run / "checkpoints" / "best.safetensors").read_bytes()
    return {**state, "validation": validation, "lines": (run / "log.jsonl").read_text(), "best": best}


def equal(one: Any, other: Any) -> bool:
    """Whether two states are equal to the last bit."""
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


@dataclass
class Tally:
    """What became of the kills of one number of processes."""

    processes: int
    kills: Counter[str]
    survived: int = 0
    runs: int = 0
    problems: tuple[str, ...] = ()


def soak(processes: int, settings: Settings, folder: Path) -> Tally:
    """Kill as often as asked for."""
    chance = random.Random(f"{settings.seed} {processes}")
    begun = time.monotonic()
    undisturbed = Job(folder / "undisturbed", processes, settings.workers)
    if not wait(undisturbed.ended, 120) or any(undisturbed.codes.values()):
        sys.exit(f"the undisturbed run failed:\n{(folder / 'console.txt').read_text()[-3000:]}")
    lasts = time.monotonic() - begun
    expected = outcome(folder / "undisturbed")
    tally = Tally(processes, Counter())
    while tally.kills.total() < settings.kills:
        run, hits, problems = folder / f"run-{tally.runs}", 0, []
        while True:
            job = Job(run, processes, settings.workers)
            kind = None
            if tally.kills.total() < settings.kills and not wait(job.ended, chance.uniform(0, lasts)):
                drawn = chance.choice(KINDS)
                if strike(job, drawn, chance):
                    kind = drawn
                    tally.kills[kind] += 1
                    hits += 1
            if not wait(job.ended, PATIENCE if kind else 120):
                problems.append(f"{kind or 'undisturbed'}: still running after {PATIENCE:.0f} s")
                job.send(signal.SIGKILL, job.members)
                wait(job.ended, 10)
            elif not expected_codes(kind, job):
                told = (folder / "console.txt").read_text()[-2000:]
                problems.append(f"{kind or 'undisturbed'}: exit codes {list(job.codes.values())}: {told}")
            if not wait(lambda job=job: not job.left(), 10):  # type: ignore[misc]
                problems.append(f"processes left behind: {job.left()}")
            problems += half_written(run) if run.exists() else []
            if problems or not any(job.codes.values()):
                break
        if not problems and not equal(outcome(run), expected):
            problems.append(f"run {tally.runs} ended otherwise than the undisturbed one")
        tally.runs += 1
        tally.survived += 0 if problems else hits
        tally.problems += tuple(problems)
        sys.stderr.write(f"\r{processes} process(es): {tally.survived}/{tally.kills.total()} survived")
    sys.stderr.write("\n")
    return tally


def main(settings: Settings) -> None:
    torch.set_num_threads(1)  # forking is safe before any thread has begun
    warnings.simplefilter("ignore")
    print(
        "| processes | kills survived | runs | "
        + " | ".join(KINDS)
        + " | seconds |\n|"
        + "---|" * (4 + len(KINDS))
    )
    failed = False
    for processes in settings.processes:
        begun = time.monotonic()
        with TemporaryDirectory() as folder:
            tally = soak(processes, settings, Path(folder))
        kinds = " | ".join(str(tally.kills[kind]) for kind in KINDS)
        survived = f"{tally.survived}/{tally.kills.total()}"
        print(
            f"| {processes} | {survived} | {tally.runs} | {kinds} | {time.monotonic() - begun:.0f} |", flush=True
        )
        for problem in tally.problems:
            print(problem)
        failed |= tally.survived < tally.kills.total()
    sys.exit(int(failed))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
