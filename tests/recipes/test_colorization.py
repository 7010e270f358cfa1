import json
import runpy
from pathlib import Path

import pytest
from PIL import Image

from gangen import Pipeline, colour, images
from tests.conftest import ROOT
from tests.recipes.running import crops, records, train

SHORT = {
    "size": 32,
    "batch_size": 2,
    "weights": "none",
    "generator_steps": 2,
    "critic_steps": 1,
    "adversarial_steps": 4,
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return crops(tmp_path_factory.mktemp("pictures"))


@pytest.mark.slow
def test_a_run_grows_colours_and_keeps_the_lightness(pictures: Path, tmp_path: Path) -> None:
    options = {**SHORT, "smaller_sizes": (16,), "colourfulness": 0.5, "critic_width": 8, "critic_layers": 1}
    run = train("colorization", "Colorization", data=pictures, out=tmp_path / "run", **options)
    assert [record["phase"] for record in records(run, "phase")] == [
        "generator, 16 px",
        "generator",
        "critic",
        "adversarial",
    ]
    terms = set().union(*records(run, "train"))
    assert {"generator/chroma", "generator/colourfulness", "generator/adversarial", "critic/adversarial"} <= terms
    measured = records(run, "validation")[-1]
    assert measured["colourfulness_target"] > 0
    assert measured["colourfulness_gap"] >= 0
    assert json.loads((run / "pipeline" / "config.json").read_text())["network"]["view"] == 32
    old = Image.open(next(pictures.iterdir())).convert("L").resize((71, 53))
    painted = Pipeline.from_pretrained(run)(old)
    assert painted.size == (71, 53)
    light = [colour.lightness(images.to_tensor(picture)[None]) for picture in (old, painted)]
    assert (light[0] - light[1]).abs().max() * 2.55 <= 1


def test_sizes_follow_from_the_size_asked_for() -> None:
    flags = runpy.run_path(str(ROOT / "recipes" / "colorization.py"))["Colorization"]
    assert flags(data=Path("mine"), size=192).smaller_sizes == (64, 128)
    assert flags(data=Path("mine"), size=64).smaller_sizes == ()
    assert flags().smaller_sizes == (32,)
    assert flags(data=Path("mine"), size=192, smaller_sizes=()).smaller_sizes == ()
