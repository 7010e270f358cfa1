"""What networks that answer with labels are judged by, and the rates found for them, on two processes."""

import json
import math
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchmetrics.functional import classification as theirs

from gangen.data import Batch
from gangen.labels import IGNORED
from gangen.losses import cross_entropy
from gangen.metrics import accuracy, class_ious, mean_dice, mean_iou, top_k_accuracy
from gangen.train import Phase, Player, Trainer, Validation
from gangen.train.optim import sgd
from tests.forked import forked

K, NOWHERE = 5, 3
NAMES = ["sky", "tree", "road", "car", "sign"]

RATES = """
import json, random, sys
from dataclasses import asdict
from pathlib import Path
import numpy as np
import torch
from gangen.train import Player, launch, lr_find
from tests.train.test_label_processes import ToyMasks, deep, tell
from tests.train.toys import bits, differences

def generators():
    numpy = np.random.get_state()[1].tolist()
    return {"torch": torch.get_rng_state(), "python": random.getstate(), "numpy": numpy}

accelerator = launch(threads=1)
rank = accelerator.process_index
for seed in (torch.manual_seed, random.seed, np.random.seed):
    seed(rank)  # so that each process has drawn weights and states of its own
network = deep()
before, drawn = bits(network), generators()
found = lr_find(Player("network", network, tell), ToyMasks(7), batch_size=2, steps=12, accelerator=accelerator)
moved = differences(before, bits(network)) + differences(drawn, generators())
weights = [value.double().sum().item() for value in network.parameters()]
told = {"processes": accelerator.num_processes, "found": asdict(found), "moved": moved, "weights": weights}
Path(sys.argv[1] + str(rank)).write_text(json.dumps(told))
"""

JUDGES = """
import json, sys
from pathlib import Path
from gangen.train import launch
from tests.train.test_label_processes import judged

accelerator = launch(threads=1)
Path(sys.argv[1] + str(accelerator.process_index)).write_text(json.dumps(judged(accelerator, batch_size=3)))
"""


class ToyMasks(Dataset[Batch]):
    """Noise with labels, in other shares in each picture; some are ignored, and one class is nowhere."""

    def __init__(self, count: int) -> None:
        generator = torch.Generator().manual_seed(1)
        self.inputs = torch.rand(count, 3, 8, 8, generator=generator) * 2 - 1
        self.targets = torch.randint(0, K, (count, 8, 8), generator=generator)
        self.targets[self.targets == NOWHERE] = 0
        self.targets[torch.rand(count, 8, 8, generator=generator) < 0.1] = IGNORED
        for index in range(count):
            self.targets[index, :index] = index % 3

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> Batch:
        return Batch(self.inputs[index], self.targets[index], f"mask-{index}")


def deep() -> nn.Module:
    """With weights, running statistics, and chance of its own."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.1), nn.Conv2d(6, K, 1)
    )


def flat() -> nn.Module:
    """Always the same, and never of the opinion that something is of the class that is nowhere."""
    torch.manual_seed(0)
    network = nn.Conv2d(3, K, 3, padding=1)
    with torch.no_grad():
        network.bias[NOWHERE] = -9  # type: ignore[index]
    return network


def tell(nets, batch):  # type: ignore[no-untyped-def]
    return {"cross_entropy": cross_entropy(nets.network(batch.input), batch.target)}


def judged(accelerator: Accelerator, batch_size: int) -> dict[str, float]:
    """The numbers of `flat` on seven pictures, as a training logs them."""
    metrics = [accuracy(K), mean_iou(K), mean_dice(K), top_k_accuracy(2), *class_ious(NAMES)]
    watch = Validation(ToyMasks(7), metrics, batch_size=batch_size, player="network")
    still = Player("network", flat(), tell, lr=1e-30, optimizer=sgd(momentum=0.0))
    trainer = Trainer(None, ToyMasks(4), batch_size=2, callbacks=[watch], accelerator=accelerator)
    trainer.fit([Phase("still", [still], 1)])
    return watch.latest


def by_torchmetrics(logits: Tensor, target: Tensor) -> dict[str, float]:
    """The same numbers of all pictures at once."""
    options = {"num_classes": K, "ignore_index": IGNORED}
    ious = theirs.multiclass_jaccard_index(logits, target, average="none", **options)
    dice = theirs.multiclass_f1_score(logits, target, average="none", **options)
    present = [k for k in range(K) if k != NOWHERE]
    return {
        "accuracy": theirs.multiclass_accuracy(logits, target, average="micro", **options).item(),
        "mean_iou": ious[present].mean().item(),
        "mean_dice": dice[present].mean().item(),
        "top_2_accuracy": theirs.multiclass_accuracy(logits, target, average="micro", top_k=2, **options).item(),
        **{f"iou/{NAMES[k]}": ious[k].item() if k in present else math.nan for k in range(K)},
    }


@pytest.mark.slow
def test_both_processes_find_the_same_rates_and_are_left_as_they_were(tmp_path: Path) -> None:
    script = tmp_path / "rates.py"
    script.write_text(RATES)
    done = forked(str(script), str(tmp_path / "found-"), processes=2)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (json.loads((tmp_path / f"found-{rank}").read_text()) for rank in range(2))
    assert first["processes"] == second["processes"] == 2
    assert first["found"] == second["found"]
    assert len(first["found"]["losses"]) >= 8
    assert first["moved"] == second["moved"] == []
    assert first["weights"] != second["weights"], "each has its own, as before"


def test_a_process_alone_measures_what_torchmetrics_does() -> None:
    data = ToyMasks(7)
    with torch.no_grad():
        expected = by_torchmetrics(flat()(data.inputs), data.targets)
    found = judged(Accelerator(cpu=True), batch_size=3)
    assert math.isnan(found[f"iou/{NAMES[NOWHERE]}"])
    assert found == pytest.approx(expected, abs=1e-6, nan_ok=True)


@pytest.mark.slow
def test_two_processes_measure_exactly_what_one_does(tmp_path: Path) -> None:
    """Seven pictures: one process judges four and the other three, in batches of three, three and one."""
    script = tmp_path / "judge.py"
    script.write_text(JUDGES)
    done = forked(str(script), str(tmp_path / "found-"), processes=2)
    assert done.returncode == 0, done.stderr[-3000:]
    alone = json.dumps(judged(Accelerator(cpu=True), batch_size=7))
    assert [(tmp_path / f"found-{rank}").read_text() for rank in range(2)] == [alone, alone]
