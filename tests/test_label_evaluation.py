"""Judging pipelines that answer with labels on folders of other data."""

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchmetrics.functional import classification as theirs

from gangen import Pipeline, files
from gangen.cli import main as gangen
from gangen.errors import UserError
from gangen.evaluation import DataFlags
from gangen.label_evaluation import evaluate_labels
from gangen.labels import IGNORED
from gangen.metrics import read_results
from gangen.nets import Body, ClassHead, Classifier, MaskHead, UNet
from tests.networks import opinionated

NAMES = ("ground", "sky", "car")


@pytest.fixture(scope="module")
def masking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline that labels pixels, of random weights."""
    torch.manual_seed(0)
    network = UNet(Body("resnet18"), MaskHead(len(NAMES)), width=8)
    about = {"classes": {"names": NAMES, "colours": [[9, 9, 9], [80, 80, 255], [255, 0, 0]]}, "trained_size": 32}
    return Pipeline(network, config=about).save(tmp_path_factory.mktemp("masking"))


@pytest.fixture(scope="module")
def telling(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that says whether a picture is bright or dark, of random weights."""
    torch.manual_seed(0)
    network = opinionated(Classifier(Body("resnet18"), ClassHead(2, hidden=0)))
    about = {"classes": {"names": ["bright", "dark"], "colours": [[255, 255, 255], [9, 9, 9]]}, "trained_size": 16}
    return Pipeline(network, config=about).save(tmp_path_factory.mktemp("telling"))


@pytest.fixture
def streets(tmp_path: Path) -> Path:
    """Five pictures of 32x32 pixels with labels of levels 0 to 3, of which 3 is Void."""
    chance = np.random.default_rng(0)
    for folder in ("images", "labels"):
        (tmp_path / "streets" / folder).mkdir(parents=True)
    for number in range(5):
        levels = chance.integers(0, 4, (32, 32)).astype(np.uint8)
        Image.fromarray(levels).save(tmp_path / "streets" / "labels" / f"{number}.png")
        shown = chance.integers(0, 256, (32, 32, 3)).astype(np.uint8)
        Image.fromarray(shown).save(tmp_path / "streets" / "images" / f"{number}.png")
    (tmp_path / "streets" / "codes.txt").write_text("ground\nsky\ncar\nVoid\n")
    return tmp_path / "streets"


def test_masks_are_judged_as_torchmetrics_does_whatever_the_batch_size(masking: Path, streets: Path) -> None:
    pipeline = Pipeline.from_pretrained(masking, device="cpu")
    answers = [np.asarray(pipeline(streets / "images" / f"{k}.png")) for k in range(5)]
    labels = [np.asarray(Image.open(streets / "labels" / f"{k}.png")) for k in range(5)]
    answer, label = (torch.from_numpy(np.stack(each).astype(np.int64)) for each in (answers, labels))
    options = {"num_classes": 3, "ignore_index": IGNORED}
    ious = theirs.multiclass_jaccard_index(answer, label.where(label < 3, IGNORED), average="none", **options)
    for batch_size in (2, 5):
        done = evaluate_labels(masking, DataFlags(streets, all=True), batch_size=batch_size, device="cpu")
        found = {result.metric: result for result in done.results}
        assert found["mean_iou"].value == pytest.approx(ious.mean().item(), abs=1e-6)
        assert [found[f"iou/{name}"].value for name in NAMES] == pytest.approx(ious.tolist(), abs=1e-6)
        protocol = found["mean_iou"].protocol
        assert (protocol["samples"], protocol["names"]) == (5, list(NAMES))
        assert protocol["prepared"] == "largest central part at 32x32 px"
        right = (answer == label)[label < 3].double().mean().item()
        assert found["pixel_accuracy"].value == pytest.approx(right, abs=1e-6)


def test_results_compare_where_the_labels_are_the_same_and_refuse_where_not(
    masking: Path, streets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("first", "second", "fewer"):
        if name == "fewer":
            (streets / "images" / "4.png").write_bytes(b"broken")
        with pytest.raises(SystemExit, match="1" if name == "fewer" else "0"):
            gangen(["evaluate", str(masking), "--data", str(streets), "--all", "--out", f"{tmp_path}/{name}.json"])
    told = capsys.readouterr()
    assert "skipped: cannot read" in told.err
    assert "takes its place" not in told.err
    assert read_results(tmp_path / "fewer.json")[0].protocol["samples"] == 4
    with pytest.raises(SystemExit, match="0"):
        gangen(["compare", f"{tmp_path}/first.json", f"{tmp_path}/second.json"])
    with pytest.raises(SystemExit, match="2"):
        gangen(["compare", f"{tmp_path}/first.json", f"{tmp_path}/fewer.json"])
    assert "measured differently" in capsys.readouterr().err


def test_classes_of_another_name_or_order_are_refused_naming_both(
    masking: Path, telling: Path, streets: Path, tmp_path: Path
) -> None:
    (streets / "codes.txt").write_text("sky\nground\ncar\nVoid\n")
    with pytest.raises(
        UserError, match=r"tells apart ground, sky, car, and the classes of .*streets are sky, gro"
    ):
        evaluate_labels(masking, DataFlags(streets, all=True), device="cpu")
    for kind in ("dark", "dim"):
        (tmp_path / "kinds" / kind).mkdir(parents=True)
        Image.new("RGB", (16, 16)).save(tmp_path / "kinds" / kind / "0.png")
    with pytest.raises(UserError, match=r"tells apart bright, dark, and the classes of .*kinds are dark, dim"):
        evaluate_labels(telling, DataFlags(tmp_path / "kinds", all=True), device="cpu")


def test_a_test_set_may_lack_a_class(telling: Path, tmp_path: Path) -> None:
    (tmp_path / "dark").mkdir()
    for number in range(3):
        Image.new("RGB", (20, 16), (9 * number,) * 3).save(tmp_path / "dark" / f"{number}.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (result,) = evaluate_labels(telling, DataFlags(tmp_path, all=True), device="cpu").results
    answers = Pipeline.from_pretrained(telling, device="cpu").classify(sorted((tmp_path / "dark").iterdir()))
    assert (result.metric, result.better) == ("accuracy", "higher")
    assert result.value == pytest.approx(sum(answer.label == "dark" for answer in answers) / 3)


def test_flags_that_do_not_fit_are_refused(masking: Path, telling: Path, streets: Path) -> None:
    for run, flags, told in (
        (masking, DataFlags(), "Name labelled pictures with --data"),
        (masking, DataFlags(streets, draw=True), "--draw and --side-by-side"),
        (telling, DataFlags(streets, input_folder=Path("images")), "answers with a class"),
        (masking, DataFlags(streets, target_folder=Path("masks")), "there is no folder .*masks"),
    ):
        with pytest.raises(UserError, match=told):
            evaluate_labels(run, flags, device="cpu")


def test_folders_of_the_training_do_not_stand_for_other_data(masking: Path, streets: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(masking, run / "pipeline")
    flags = {"data": None, "size": 32, "pictures": str(streets / "images"), "labels": "labels"}
    files.write_json(run / "config.json", {"flags": flags})
    with pytest.raises(UserError, match=r"was trained on .*images, which --data .*other cannot replace"):
        evaluate_labels(run, DataFlags(tmp_path / "other", all=True), device="cpu")
    both = DataFlags(streets, Path("images"), Path("labels"), all=True)
    assert evaluate_labels(run, both, device="cpu").results[0].protocol["samples"] == 5
