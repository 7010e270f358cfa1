import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from gangen import Pipeline
from gangen.errors import UserError
from tests.recipes.running import crops, records, train

SHORT = {"size": 8, "batch_size": 4, "latent": 6, "width": 4, "steps": 6, "log_every": 1}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return crops(tmp_path_factory.mktemp("pictures"), count=12, side=16)


@pytest.mark.parametrize("game", ["hinge", "bce", "least_squares", "wasserstein", "relativistic"])
def test_every_game_is_played_and_makes_pictures(pictures: Path, tmp_path: Path, game: str) -> None:
    run = train("vanilla_gan", "VanillaGAN", data=pictures, out=tmp_path / "run", game=game, **SHORT)
    logged = records(run, "train")
    assert all(torch.tensor(record[name]).isfinite() for record in logged for name in record if "/" in name)
    turns = [{name for name in ("critic", "generator") if f"{name}/adversarial" in record} for record in logged]
    five_to_one = [{"critic"}] * 5 + [{"generator"}]
    assert turns == (five_to_one if game == "wasserstein" else [{"critic", "generator"}] * 6)
    assert ("critic/gradient_penalty" in logged[0]) == (game == "wasserstein")
    assert ("critic/r1" in logged[0]) == (game != "wasserstein")
    made = Pipeline.from_pretrained(run).generate(3)
    assert [picture.size for picture in made] == [(8, 8)] * 3
    assert {path.name for path in (run / "samples").iterdir()} == {
        f"{kind}-{total:08d}.png" for kind in ("step", "between") for total in (0, 6)
    }
    assert (run / "report.html").stat().st_size > 0


@pytest.mark.parametrize("vary", ["none", pytest.param("places", marks=pytest.mark.slow), "all"])
def test_what_holds_the_critic_back(pictures: Path, tmp_path: Path, vary: str) -> None:
    """R1 now and then, or spectral norm in its place."""
    options = {"data": pictures, "vary": vary, "norm": "pixel", "r1_every": 2}
    run = train("vanilla_gan", "VanillaGAN", out=tmp_path / "run", **options, **SHORT)
    slopes = [record["critic/r1"] for record in records(run, "train")]
    assert [slope > 0 for slope in slopes] == [True, False] * 3
    run = train("vanilla_gan", "VanillaGAN", out=tmp_path / "other", spectral=True, **options, **SHORT)
    assert not any("critic/r1" in record for record in records(run, "train"))
    flags = json.loads((run / "config.json").read_text())["flags"]
    assert (flags["r1"], flags["critic_turns"]) == (0, 1)


@pytest.mark.slow
def test_it_is_judged_by_sets_before_and_after(pictures: Path, tmp_path: Path, shared: Path) -> None:
    weights = shared / "data" / "weights"
    options = {
        "features": weights / "resnet18.safetensors",
        "lpips_weights": weights / "alexnet_features.safetensors",
        "validation": 0.5,
        "validate_every": 4,
    }
    run = train("vanilla_gan", "VanillaGAN", data=pictures, out=tmp_path / "run", **options, **SHORT)
    (before,) = records(run, "baseline")
    after = records(run, "validation")
    assert [record["total"] for record in after] == [4, 6]
    assert 0 < before["diversity"] < before["diversity_target"], "before it has learned, all are alike"
    assert all(record["kid"] > 0 for record in (before, *after))
    protocols = json.loads((run / "protocols.json").read_text())["metrics"]
    assert protocols["kid"]["features"]["network"] == "torchvision resnet18"
    assert (run / "checkpoints" / "best.safetensors").exists()


def test_an_interrupted_run_ends_in_the_same_weights(pictures: Path, tmp_path: Path) -> None:
    """Although noise, penalty and augmentation are all drawn at random."""
    options = {"data": pictures, "game": "wasserstein", "save_every": 2, **SHORT}
    run = train("vanilla_gan", "VanillaGAN", out=tmp_path / "run", **options)
    whole = (run / "pipeline" / "model.safetensors").read_bytes()
    log = (run / "log.jsonl").read_bytes()
    last = max((run / "checkpoints").glob("step-*.pt"))
    assert "00000006" in last.name
    last.unlink()
    (run / "pipeline" / "model.safetensors").unlink()
    train("vanilla_gan", "VanillaGAN", out=run, resume=True, **options)
    assert (run / "pipeline" / "model.safetensors").read_bytes() == whole
    assert (run / "log.jsonl").read_bytes() == log


def test_a_size_that_does_not_halve_to_4_is_refused(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at 48 pixels: expected one of 8"):
        train("vanilla_gan", "VanillaGAN", data=pictures, out=tmp_path / "run", **{**SHORT, "size": 48})


def test_validation_of_nothing_is_refused_before_anything_is_written(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--validate-every: nothing is measured"):
        train("vanilla_gan", "VanillaGAN", data=pictures, out=tmp_path / "run", validate_every=2, **SHORT)
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.slow
def test_it_learns_the_colours_of_what_it_is_shown(tmp_path: Path) -> None:
    """Of pictures in two plain colours, red and blue, it comes to make those, and none in between."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(40):
        Image.new("RGB", (8, 8), (230, 20, 20) if number % 2 else (20, 20, 230)).save(folder / f"{number}.png")
    options = {**SHORT, "batch_size": 16, "width": 16, "latent": 16, "steps": 1200, "log_every": 200}
    options |= {"lr": 1e-3, "critic_lr": 1e-3, "vary": "places", "workers": 0}
    run = train("vanilla_gan", "VanillaGAN", data=folder, out=tmp_path / "run", **options)
    pictures = Pipeline.from_pretrained(run).generate(64)
    made = torch.stack([torch.tensor(picture.resize((1, 1)).getpixel((0, 0))) for picture in pictures])
    red = (made[:, 0] > 150) & (made[:, 2] < 100)
    blue = (made[:, 2] > 150) & (made[:, 0] < 100)
    assert (red | blue).float().mean() > 0.7
