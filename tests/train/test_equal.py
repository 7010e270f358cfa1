"""One process, one process that accumulates, and two processes learn the same from the same global batches."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.forked import forked

SCRIPT = """
import sys
from pathlib import Path
import torch
from torch import nn
from gangen.data import Batch
from gangen.losses import critic_terms, hinge, l1
from gangen.train import Adaptive, Phase, Player, Trainer, launch
from gangen.train.muon import muon
from tests.train.toys import Toys

class Doubles(Toys):
    def __getitem__(self, index):
        batch = super().__getitem__(index)
        return Batch(batch.input.double(), batch.target.double(), batch.name)

def imitate(nets, batch):
    return {"pixel": l1(nets.generator(batch.input), batch.target)}

def judge(nets, batch):
    fake = nets.generator(batch.input)
    return critic_terms(nets.critic, batch.target, fake, hinge, r1_weight=0.1, r1_every=3, step=nets.step)

def persuade(nets, batch):
    fake = nets.generator(batch.input)
    return {"pixel": l1(fake, batch.target), "adversarial": hinge.generator(nets.critic(fake))}

out, batch_size, accumulate = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
accelerator = launch(threads=1)
torch.manual_seed(0)
# No batch norm, dropout or spectral norm: what these do depends on how the batch is cut.
wide, narrow = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 3, 3, padding=1)
hidden = nn.Conv2d(6, 6, 3, padding=1)
generator = nn.Sequential(wide, nn.GroupNorm(2, 6), nn.ReLU(), hidden, nn.ReLU(), narrow)
critic = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.LeakyReLU(0.2), nn.Conv2d(8, 1, 3))
options = {"lr": 1e-2, "accumulate": accumulate, "clip": 1.0}
beginner = Player("generator", generator.double(), imitate, ema=0.9, optimizer=muon(generator), **options)
expert = Player("critic", critic.double(), judge, **options)
artist = Player("generator", generator, persuade, ema=0.9, **options)
trainer = Trainer(out, Doubles(11), batch_size=batch_size, accelerator=accelerator, log_every=1)
trainer.fit([
    Phase("imitate", [beginner], 10),
    Phase("play", [expert, artist], 20, switcher=Adaptive(critic=1.9, max_turn=3)),
])
"""

TOLERANCE = 1e-10
"""Of the weights, relative to their size. Sums over the batch are taken in another order, which in double
precision changes the last of 16 digits; 30 steps of Muon and Adam, which divide by small numbers, make some
thousand times as much of it."""


@pytest.mark.slow
def test_a_global_batch_teaches_the_same_however_it_is_cut(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    for name, processes, batch_size, accumulate in (("one", 1, 4, 1), ("accumulated", 1, 2, 2), ("two", 2, 2, 1)):
        words = str(script), str(tmp_path / name), str(batch_size), str(accumulate)
        done = forked(*words, processes=processes)
        assert done.returncode == 0, done.stderr[-3000:]
    one, *others = (final(tmp_path / name) for name in ("one", "accumulated", "two"))
    assert len(others) == 2
    for other in others:
        assert one["turns"] == other["turns"]
        assert len(one["turns"]) > 5
        for terms, same in zip(one["terms"], other["terms"], strict=True):
            assert terms == pytest.approx(same, rel=1e-5, abs=1e-6)  # logged in single precision
        apart = [
            float((value - other["weights"][name]).abs().max() / value.abs().max())
            for name, value in one["weights"].items()
        ]
        assert max(apart) < TOLERANCE


def final(run: Path) -> dict[str, Any]:
    state = torch.load(sorted((run / "checkpoints").glob("step-*.pt"))[-1], weights_only=True)
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    networks = {**state["networks"], "average": state["averages"]["generator"]["network"]}
    return {
        "weights": {f"{n}.{k}": v for n, weights in networks.items() for k, v in weights.items()},
        "turns": [(line["total"], line["to"]) for line in lines if line["event"] == "turn"],
        "terms": [
            {k: v for k, v in line.items() if isinstance(v, float)} for line in lines if line["event"] == "train"
        ],
    }
