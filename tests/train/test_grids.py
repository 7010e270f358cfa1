from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import Dataset

from gangen.data import Batch
from gangen.nets import latents
from gangen.train import FromLatents, Grids, Phase, Player
from tests.train.toys import toy_trainer


class Noise(Dataset[Batch]):
    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Batch:
        return Batch(torch.randn(3), torch.ones(3, 4, 4), str(index))


class Shades(nn.Module):
    """A plain colour from three numbers, times a weight that is learned."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.2))

    def forward(self, noise: torch.Tensor) -> torch.Tensor:
        return (self.gain * noise)[:, :, None, None].expand(-1, -1, 4, 4)


def brighten(nets: Any, batch: Batch) -> dict[str, torch.Tensor]:
    return {"gain": (nets.generator(batch.input) - 3 * batch.input[:, :, None, None]).square().mean()}


def cells(path: Path, count: int) -> np.ndarray:
    """The colour in the middle of each cell of a square grid of 64-pixel cells."""
    sheet = np.asarray(Image.open(path)).astype(float)
    places = [4 + 32 + i * 68 for i in range(count)]
    return sheet[np.ix_(places[: (sheet.shape[0] - 4) // 68], places)] / 127.5 - 1


def test_the_same_noise_is_shown_throughout_and_the_way_between(tmp_path: Path) -> None:
    shades = Shades()
    player = Player("generator", shades, brighten, lr=0.05)
    trainer = toy_trainer(tmp_path, FromLatents(3, side=3, ways=2, seed=5))
    trainer.data = Noise()
    trainer.fit([Phase("brighten", [player], 3)])
    noise = latents(9, 3, 5)
    for total, gain in ((0, 0.2), (3, shades.gain.item())):
        shown = cells(tmp_path / f"samples/step-{total:08d}.png", 3)
        expected = (gain * noise).clamp(-1, 1).view(3, 3, 3).numpy()
        assert np.abs(shown - expected).max() < 0.01
    between = cells(tmp_path / "samples/between-00000000.png", 3)
    assert between.shape == (2, 3, 3)
    # The first way leads from the first picture to the third, the second from the second to the fourth.
    for row, (one, other) in enumerate(((0, 2), (1, 3))):
        ends = (0.2 * noise[[one, other]]).numpy()
        assert np.abs(between[row][[0, 2]] - ends).max() < 0.01


def test_what_makes_no_grid_is_told() -> None:
    with pytest.raises(ValueError, match="3x3 pictures do not give 5 ways"):
        FromLatents(3, side=3, ways=5)
    with pytest.raises(TypeError, match="grid"):
        Grids()  # type: ignore[abstract]
