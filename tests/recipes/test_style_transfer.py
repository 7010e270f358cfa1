import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models.vgg import cfgs, make_layers

from gangen import Pipeline
from gangen.data import stained_glass
from gangen.errors import UserError, WeightsError
from tests.recipes.running import crops, records, train

SHORT = {"size": 32, "batch_size": 2, "width": 4, "generator_steps": 2, "style_size": 48}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return crops(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def vgg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    features = make_layers(cfgs["D"][:-4])
    for layer in features:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
    path = tmp_path_factory.mktemp("weights") / "vgg16.safetensors"
    save_file({f"features.{name}": value.half() for name, value in features.state_dict().items()}, path)
    return path


def test_a_run_measures_content_and_style_and_paints_any_size(pictures: Path, vgg: Path, tmp_path: Path) -> None:
    stained_glass(64, seed=3).save(tmp_path / "style.png")
    run = train(
        "style_transfer",
        "StyleTransfer",
        data=pictures,
        out=tmp_path / "run",
        vgg=vgg,
        style=tmp_path / "style.png",
        **SHORT,
    )
    (measured,) = records(run, "validation")
    assert measured["style_target"] > 0
    assert measured["total"] == pytest.approx(measured["content"] + 3 * measured["style"], rel=1e-4)
    config = json.loads((run / "config.json").read_text())
    assert len(config["style"]) == len(config["vgg"]) == 64
    photograph = next(pictures.iterdir())
    assert Pipeline.from_pretrained(run)(photograph).size == (48, 48)
    assert len(list((run / "samples").glob("step-*.png"))) == 2


def test_without_weights_it_says_what_to_do_and_writes_nothing(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "cache"))
    with pytest.raises(WeightsError, match=r"cannot be downloaded.*name its file with --vgg FILE"):
        train("style_transfer", "StyleTransfer", data=pictures, out=tmp_path / "run", **SHORT)
    assert not (tmp_path / "run").exists()


def test_a_style_of_no_size_is_refused(pictures: Path, vgg: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--style-size 2"):
        train(
            "style_transfer",
            "StyleTransfer",
            data=pictures,
            out=tmp_path / "run",
            vgg=vgg,
            **{**SHORT, "style_size": 2},
        )


@pytest.mark.slow
def test_the_style_comes_nearer_on_photographs_that_it_has_not_seen(shared: Path, tmp_path: Path) -> None:
    run = train(
        "style_transfer",
        "StyleTransfer",
        out=tmp_path / "run",
        vgg=shared / "data" / "weights" / "vgg16_features.safetensors",
        **{**SHORT, "width": 8, "style_size": 128, "size": 48, "generator_steps": 120},
    )
    (measured,) = records(run, "validation")
    assert measured["style"] < 0.75 * measured["style_target"]
