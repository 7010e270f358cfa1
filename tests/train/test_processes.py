"""Two processes on the CPU, connected by gloo."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.forked import forked

SCRIPT = """
import json, sys
from pathlib import Path
import torch
from gangen.metrics import L1
from gangen.train import Adaptive, Callback, Trainer, Validation, launch
from tests.train.toys import Game, Toys

class Replicas(Callback):
    '''How far the networks of the processes are apart at the end of each phase.'''
    def __init__(self):
        self.spread = {}

    def on_phase_end(self, trainer):
        average = trainer.averages["generator"].network
        for name, network in {**trainer.plan.networks, "average": average}.items():
            flat = torch.cat([t.double().flatten() for t in network.state_dict().values()])
            every = trainer.accelerator.gather(flat[None])
            self.spread[f"{trainer.phase.name}: {name}"] = (every - every[:1]).abs().max().item()

out = Path(sys.argv[1])
accelerator = launch(threads=1)
replicas, validation = Replicas(), Validation(Toys(7), [L1], batch_size=2)
trainer = Trainer(
    out, Toys(10), batch_size=2, callbacks=[replicas, validation], accelerator=accelerator, save_every=4,
    compile=sys.argv[2] if len(sys.argv) > 2 else None,
)
game = Game(Adaptive(critic=1.9, max_turn=3), accumulate=2)
for network in (game.generator, game.critic):  # as if each process had drawn its own weights
    for tensor in (*network.parameters(), *network.buffers()):
        tensor.data += accelerator.process_index
trainer.fit(game.phases, resume=True)
if accelerator.is_main_process:
    Path(out, "spread.json").write_text(json.dumps([accelerator.num_processes, replicas.spread]))
"""


JUDGES = """
import json, sys
from pathlib import Path
import torch
from torch import nn
from gangen.metrics import L1, PSNR, FeatureNet, fid, kid
from gangen.train import Phase, Player, Trainer, Validation, launch
from gangen.train.optim import sgd
from tests.train.toys import Toys, imitate

accelerator = launch(threads=1)
torch.manual_seed(0)
net = FeatureNet(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(288, 16)), {})
watch = Validation(Toys(7), [L1, PSNR, fid(net), kid(net)], batch_size=int(sys.argv[2]))
network = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Tanh())
still = Player("generator", network, imitate, lr=1e-30, optimizer=sgd(momentum=0.0))
Trainer(None, Toys(10), batch_size=2, callbacks=[watch], accelerator=accelerator).fit([Phase("still", [still], 1)])
Path(sys.argv[1] + str(accelerator.process_index)).write_text(json.dumps(watch.latest))
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", [[], ["aot_eager"]], ids=["plain", "compiled"])
def test_replicas_are_equal_after_each_phase(tmp_path: Path, backend: list[str]) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    done = forked(str(script), str(tmp_path / "run"), *backend, processes=2)
    assert done.returncode == 0, done.stderr[-3000:]
    processes, spread = json.loads((tmp_path / "run" / "spread.json").read_text())
    assert processes == 2
    assert len(spread) == 9
    assert set(spread.values()) == {0.0}
    events = [json.loads(line)["event"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert events.count("phase") == 3
    # None after the critic's phase, in which the generator does not learn.
    assert events.count("validation") == 2
    assert events[-1] == "end"


@pytest.mark.slow
def test_one_process_and_two_and_three_measure_the_same_whatever_the_batch_size(tmp_path: Path) -> None:
    """Seven pictures: the last batches are short, and the processes have unequal shares."""
    script = tmp_path / "judge.py"
    script.write_text(JUDGES)
    found = []
    for processes, batch_size in ((1, 7), (2, 3), (3, 2)):
        out = tmp_path / f"{processes}-"
        done = forked(str(script), str(out), str(batch_size), processes=processes)
        assert done.returncode == 0, done.stderr[-3000:]
        found += [json.loads(Path(f"{out}{rank}").read_text()) for rank in range(processes)]
    assert len(found) == 6
    assert list(found[0]) == ["l1", "psnr", "fid", "kid"]
    assert found[0]["fid"] > 1e-3
    for other in found[1:]:
        assert other == pytest.approx(found[0], rel=1e-5)


@pytest.mark.slow
def test_processes_that_are_not_connected_are_refused(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment.pop("ACCELERATE_USE_CPU", None)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*torchrun, str(script), str(tmp_path / "run")],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=environment,
    )
    assert done.returncode != 0
    assert "started as 2 processes, but accelerate connects 1" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_accelerate_launch_that_starts_one_process_for_two_is_refused(tmp_path: Path) -> None:
    recipe = ROOT / "recipes" / "sketch_to_image.py"
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    done = subprocess.run(
        [*launcher, str(recipe), "--out", str(tmp_path / "run")],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode != 0
    assert "asked for several processes but started only this one" in done.stderr
    assert not (tmp_path / "run").exists()
