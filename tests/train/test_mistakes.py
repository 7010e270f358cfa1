"""The worst answers, and the table of what is taken for what."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

from gangen.data import Batch
from gangen.labels import Classes, draw_confusion
from gangen.losses import cross_entropy
from gangen.metrics import accuracy
from gangen.train import ClassSamples, Mistakes, Phase, Player, Trainer, Validation
from gangen.train.optim import sgd

CLASSES = Classes(("dark", "bright", "never"))


class Known(Dataset[Batch]):
    """Pictures whose brightness is what the network answers by; sample 2 is mislabelled, and 4 most of all."""

    shades = (-0.9, 0.9, -0.5, 0.4, -0.8)
    labels = (0, 1, 1, 1, 1)

    def __len__(self) -> int:
        return len(self.shades)

    def __getitem__(self, index: int) -> Batch:
        return Batch(torch.full((3, 8, 8), self.shades[index]), torch.tensor(self.labels[index]), f"known-{index}")

    def replaced(self, index: int) -> bool:
        return index == 3


class Brightness(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(3.0))

    def forward(self, x: Tensor) -> Tensor:
        level = self.gain * x.mean(dim=(1, 2, 3))
        return torch.stack([-level, level, torch.full_like(level, -9)], dim=1)


def tell(nets, batch):  # type: ignore[no-untyped-def]
    return {"cross_entropy": cross_entropy(nets.network(batch.input), batch.target)}


def test_the_worst_come_first_and_each_label_is_counted_once(tmp_path: Path) -> None:
    grid = ClassSamples(Known(), CLASSES)
    mistakes = Mistakes(grid, CLASSES, count=2)
    player = Player("network", Brightness(), tell, lr=1e-30, optimizer=sgd(momentum=0.0))
    phases = [Phase("one", [player], 1), Phase("two", [player], 1)]
    judge = Validation(Known(), [accuracy(3)], every=1, batch_size=2, player="network", witness=mistakes)
    Trainer(tmp_path, Known(), batch_size=2, callbacks=[judge, grid]).fit(phases)
    assert [mistake.name for mistake in mistakes.worst] == ["known-4", "known-2"]
    expected = -torch.log_softmax(torch.tensor([2.4, -2.4, -9.0]), 0)[1].item()
    assert mistakes.worst[0].loss == pytest.approx(expected, rel=1e-4)
    # sample 3 cannot be read, and what takes its place does not count
    assert mistakes.confusion.tolist() == [[1, 0, 0], [2, 1, 0], [0, 0, 0]]
    figures = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    told = [(line["title"], line["total"]) for line in figures if line["event"] == "figure"]
    assert told == [("Top losses", 2), ("Confusion matrix", 2)], "after the last phase only"
    with Image.open(tmp_path / "top_losses.png") as sheet:
        assert min(sheet.size) > 100


def test_the_matrix_is_shaded_by_shares_of_each_label() -> None:
    drawn = np.asarray(draw_confusion(torch.tensor([[30, 0, 0], [5, 5, 0], [0, 0, 0]]), CLASSES)).astype(int)
    side, wide = 56, drawn.shape[1] - 3 * 56 - 12
    top = drawn.shape[0] - 3 * side - 12
    corner = [[drawn[top + r * side + 4, wide + c * side + 4].sum() for c in range(3)] for r in range(3)]
    assert corner[0][0] < corner[1][0] == corner[1][1] < corner[0][1] == 3 * 255
    assert corner[2] == [3 * 255] * 3
    assert draw_confusion(torch.eye(300, dtype=torch.long), Classes(tuple(map(str, range(300))))).width > 2000


@pytest.mark.slow
def test_the_matrix_of_thousands_of_classes_is_a_picture_that_can_be_looked_at() -> None:
    counts = torch.eye(3000, dtype=torch.long)
    counts[10, 2900] = 9
    drawn = np.asarray(draw_confusion(counts, Classes(tuple(map(str, range(3000)))))).astype(int).sum(axis=2)
    assert drawn.shape == (2400, 2400)
    assert (drawn.diagonal() < 300).all()
    assert (drawn[8, 2320], drawn[1200, 100]) == (pytest.approx(280, abs=3), 3 * 255)


def test_what_has_no_loss_is_no_mistake(tmp_path: Path) -> None:
    grid = ClassSamples(Known(), CLASSES)

    def nan_of_some(logits: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(logits, labels).where(logits[0, 1] > logits[0, 0], torch.nan)  # of dark pictures

    mistakes = Mistakes(grid, CLASSES, nan_of_some)
    player = Player("network", Brightness(), tell, lr=1e-30, optimizer=sgd(momentum=0.0))
    judge = Validation(Known(), [accuracy(3)], every=1, batch_size=2, player="network", witness=mistakes)
    Trainer(tmp_path, Known(), batch_size=2, callbacks=[judge, grid]).fit([Phase("one", [player], 1)])
    assert [mistake.name for mistake in mistakes.worst] == ["known-1"]
    assert (tmp_path / "top_losses.png").exists()
    never = Mistakes(grid, CLASSES, lambda logits, labels: cross_entropy(logits, labels) * torch.nan)
    judge = Validation(Known(), [accuracy(3)], every=1, batch_size=2, player="network", witness=never)
    Trainer(tmp_path / "never", Known(), batch_size=2, callbacks=[judge, grid]).fit([Phase("one", [player], 1)])
    assert not (tmp_path / "never" / "top_losses.png").exists()
    assert (tmp_path / "never" / "confusion.png").exists()
