"""Segmentation, classification and the comparison of two pictures: recipes whose networks answer with labels."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from gangen import Learner, Pipeline, Views
from gangen.cli import main as gangen
from gangen.data import open_classes, open_same, open_scenes
from gangen.errors import RunError, UserError
from gangen.evaluation import evaluate_run
from gangen.metrics import read_results
from gangen.nets import Body, ClassHead, Classifier, Siamese
from gangen.train import Callback
from tests.recipes.running import crops, records, train

SHORT = {"weights": "none", "size": 32, "batch_size": 4, "epochs": 1, "log_every": 2}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn scenes in files, in two parts, with Void at the border."""
    root = tmp_path_factory.mktemp("scenes")
    for part, source, count in zip(("train", "val"), open_scenes(48, 10, 4), (10, 4), strict=True):
        for kind in ("images", "labels"):
            (root / part / kind).mkdir(parents=True)
        for index in range(count):
            picture, mask = source.read(index)
            levels = np.asarray(mask).copy()
            levels[:2] = 5
            picture.save(root / part / "images" / f"{index}.png")
            Image.fromarray(levels).save(root / part / "labels" / f"{index}.png")
    (root / "codes.txt").write_text("ground\ncircle\nsquare\ntriangle\nstar\nVoid\n")
    return root


@pytest.fixture(scope="module")
def segmented(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "segmentation"
    return train("segmentation", "Segmentation", data=scenes, out=out, wide=1.5, width=8, overlap=0.5, **SHORT)


def test_segmentation_measures_what_it_learns(segmented: Path) -> None:
    (found,) = records(segmented, "validation")
    assert found["step"] == 3, "ten pictures in batches of four"
    assert set(found) >= {"pixel_accuracy", "mean_iou", "mean_dice", "iou/ground", "iou/star"}
    assert "iou/Void" not in found
    assert {"network/cross_entropy", "network/overlap"} <= set(records(segmented, "train")[0])
    assert [record["players"] for record in records(segmented, "phase")] == [["network"]]
    protocols = json.loads((segmented / "protocols.json").read_text())
    assert protocols["best"] == "mean_iou"
    assert protocols["metrics"]["mean_iou"]["ignored"] == -100
    assert sorted(path.name for path in (segmented / "samples").iterdir()) == [
        "step-00000000.png",
        "step-00000003.png",
    ]
    report = (segmented / "report.html").read_text()
    assert "mean_iou" in report
    assert "<h2>Confusion matrix</h2>" in report
    assert "<h2>Top losses</h2>" in report
    assert min(Image.open(segmented / "top_losses.png").size) > 100


def test_it_paints_masks_of_any_size(segmented: Path, scenes: Path, tmp_path: Path) -> None:
    pipeline = Pipeline.from_pretrained(segmented)
    assert pipeline.classes is not None
    assert pipeline.classes.names == ("ground", "circle", "square", "triangle", "star")
    assert pipeline.config["trained_size"] == [32, 48]  # a copy of the pipeline alone is judged as the run is
    mask = pipeline(Image.new("RGB", (37, 21)))
    assert (mask.mode, mask.size) == ("P", (37, 21))
    assert np.asarray(mask).max() < 5
    with pytest.raises(SystemExit, match="0"):
        gangen(["predict", str(segmented), str(scenes / "val" / "images"), "--out", str(tmp_path / "masks")])
    made = sorted((tmp_path / "masks").iterdir())
    assert [path.name for path in made] == [f"{k}.png" for k in range(4)]
    with Image.open(made[0]) as written:
        assert (written.mode, written.size) == ("P", (48, 48))
        expected = pipeline(scenes / "val" / "images" / "0.png")
        assert np.array_equal(np.asarray(written), np.asarray(expected))
        assert written.convert("RGB").getpixel((9, 9)) == pipeline.classes.colours[np.asarray(expected)[9, 9]]
    with pytest.raises(UserError, match="does not classify"):
        pipeline.classify([Image.new("RGB", (9, 9))])


def evaluated(run: Path, out: Path) -> dict[str, float]:
    """What `gangen evaluate` writes of a run, on its own data."""
    with pytest.raises(SystemExit, match="0"):
        gangen(["evaluate", str(run), "--out", str(out), "--device", "cpu"])
    return {result.metric: result.value for result in read_results(out)}


def logged(run: Path) -> Any:
    """The numbers of a run's last validation, without the classes that were nowhere."""
    last = records(run, "validation")[-1]
    told = [name for name in last if name.startswith(("accuracy", "pixel_accuracy", "mean_", "iou/"))]
    return pytest.approx({name: last[name] for name in told if last[name] is not None}, abs=1e-6)


def test_evaluating_it_gives_the_numbers_of_its_own_validation(
    segmented: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = evaluated(segmented, tmp_path / "results.json")
    assert found == logged(segmented)
    assert "iou/circle" in found
    assert re.search(r"mean_iou +0\.\d+ +– +4 +higher", capsys.readouterr().out)
    with pytest.raises(SystemExit, match="2"):
        gangen(["evaluate", str(segmented), "--metric", "psnr"])
    assert "answers with labels, and the metrics that flags name are of pictures" in capsys.readouterr().err
    with pytest.raises(UserError, match="evaluate_labels"):
        evaluate_run(segmented, [])


def test_a_bad_label_ends_it_before_the_first_epoch_does(scenes: Path, tmp_path: Path) -> None:
    spoilt = tmp_path / "data"
    for path in scenes.rglob("*.png"):
        (spoilt / path.relative_to(scenes)).parent.mkdir(parents=True, exist_ok=True)
        (spoilt / path.relative_to(scenes)).write_bytes(path.read_bytes())
    (spoilt / "codes.txt").write_text("ground\ncircle\nsquare\ntriangle\nVoid\n")
    with pytest.raises(UserError, match=r"labels/\d\.png: \d+ of 2304 pixels have level 5"):
        train("segmentation", "Segmentation", data=spoilt, out=tmp_path / "run", width=8, **SHORT)


@pytest.mark.slow
def test_segmentation_goes_on_where_it_was_cut(scenes: Path, tmp_path: Path) -> None:
    options = {"data": scenes, "width": 8, "save_every": 1, "ema": 0.9, **SHORT}
    run = train("segmentation", "Segmentation", out=tmp_path / "run", **options)
    whole = (run / "pipeline" / "model.safetensors").read_bytes()
    log = (run / "log.jsonl").read_bytes()
    max((run / "checkpoints").glob("step-*.pt")).unlink()
    (run / "pipeline" / "model.safetensors").unlink()
    train("segmentation", "Segmentation", out=run, resume=True, **options)
    assert (run / "pipeline" / "model.safetensors").read_bytes() == whole
    assert (run / "log.jsonl").read_bytes() == log


@pytest.mark.slow
def test_segmentation_plays_against_a_critic_and_goes_on_in_the_game(scenes: Path, tmp_path: Path) -> None:
    options = {"data": scenes, "width": 8, "adversarial_epochs": 1, "overlap": 0.5, "save_every": 2, **SHORT}
    run = train("segmentation", "Segmentation", out=tmp_path / "run", **options)
    assert [(record["phase"], record["steps"]) for record in records(run, "phase")] == [
        ("whole", 3),
        ("critic", 3),
        ("adversarial", 3),
    ]
    assert [record["phase"] for record in records(run, "validation")] == ["whole", "adversarial"]
    last = records(run, "train")[-1]
    names = {"network/cross_entropy", "network/overlap", "network/adversarial", "critic/adversarial"}
    assert names <= set(last)
    assert last["turn"] == ["critic", "network"]
    assert [record["phase"] for record in records(run, "figure")] == ["adversarial"] * 2
    assert Pipeline.from_pretrained(run)(Image.new("RGB", (37, 21))).size == (37, 21)
    whole = (run / "pipeline" / "model.safetensors").read_bytes()
    log = (run / "log.jsonl").read_bytes()
    max((run / "checkpoints").glob("step-*.pt")).unlink()
    (run / "pipeline" / "model.safetensors").unlink()
    train("segmentation", "Segmentation", out=run, resume=True, **options)
    assert (run / "pipeline" / "model.safetensors").read_bytes() == whole
    assert (run / "log.jsonl").read_bytes() == log


def kinds(root: Path) -> Path:
    """Photographs in two folders, dark and bright."""
    for kind, factor in (("dark", 0.3), ("bright", 1.0)):
        for path in crops(root / kind, count=12, side=16).iterdir():
            with Image.open(path) as picture:
                made = picture.point(lambda level, factor=factor: int(level * factor + 80 * (factor == 1)))
            made.save(path)
    return root


@pytest.mark.slow
def test_classification_answers_and_writes_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = kinds(tmp_path / "data")
    run = train(
        "classification",
        "Classification",
        data=data,
        out=tmp_path / "run",
        validation=0.3,
        **SHORT | {"epochs": 2},
    )
    found = records(run, "validation")
    assert len(found) == 2
    assert evaluated(run, tmp_path / "results.json") == logged(run)
    pipeline = Pipeline.from_pretrained(run)
    (answer,) = pipeline.classify([data / "dark" / "00.png"])
    assert answer.label == max(answer.probabilities, key=answer.probabilities.__getitem__)
    assert sum(answer.probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert answer.probability == answer.probabilities[answer.label]
    alone = [pipeline.classify([path])[0] for path in sorted(data.rglob("*.png"))]
    together = pipeline.classify(sorted(data.rglob("*.png")), batch_size=5)
    assert [one.label for one in alone] == [one.label for one in together]
    found = [one.probabilities["dark"] for one in alone]
    assert found == pytest.approx([one.probabilities["dark"] for one in together], abs=1e-4)
    assert max(found) - min(found) > 1e-2, "otherwise any order would do"
    (data / "dark" / "broken.png").write_bytes(b"broken")
    with pytest.raises(SystemExit, match="1"):
        gangen(["predict", str(run), str(data), "--out", str(tmp_path / "out")])
    with (tmp_path / "out" / "answers.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24
    assert set(rows[0]) == {"picture", "label", "probability", "dark", "bright"}
    assert [row["label"] for row in rows] == [one.label for one in together]
    assert "broken.png" in capsys.readouterr().err
    with pytest.raises(UserError, match="a list of pictures"):
        pipeline.classify(data / "dark" / "00.png")
    with pytest.raises(UserError, match="paints nothing"):
        pipeline(data / "dark" / "00.png")


@pytest.mark.slow
def test_two_pictures_are_compared(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for number in range(8):
        crops(root / f"thing-{number}", count=3, side=16)
    run = train("siamese", "SiameseFlags", data=root, out=tmp_path / "run", validation=0.4, **SHORT)
    assert 0 <= records(run, "validation")[-1]["accuracy"] <= 1
    assert evaluated(run, tmp_path / "results.json") == logged(run)
    pipeline = Pipeline.from_pretrained(run)
    one, other = root / "thing-0" / "00.png", root / "thing-1" / "01.png"
    first, turned = pipeline.compare([(one, other), (other, one)])
    assert set(first.probabilities) == {"different", "same"}
    assert first.probability == pytest.approx(turned.probability, abs=1e-5)
    with pytest.raises(SystemExit, match="2"):
        gangen(["predict", str(run), str(one), "--out", str(tmp_path / "out")])
    with pytest.raises(UserError, match="does not compare"):
        Pipeline(torch.nn.Identity()).compare([(one, other)])


@pytest.mark.slow
def test_a_learner_goes_on_in_its_newest_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = open_classes(kinds(tmp_path / "data"), size=16, validation=0.3)

    def learner(*callbacks: Callback) -> Learner:
        torch.manual_seed(0)
        net = Classifier(Body("resnet18"), ClassHead(2, hidden=0))
        return Learner(data, net, batch_size=6, callbacks=callbacks)

    class Cut(Callback):
        def on_before_update(self, trainer, player):  # type: ignore[no-untyped-def]
            if trainer.total == 4:
                raise ConnectionError("the plug was pulled")

    whole = learner(Callback())
    whole.fine_tune(1, frozen_epochs=1)
    assert whole.run == Path("runs/classifier")
    assert whole.predict(tmp_path / "data" / "dark" / "00.png").label in ("dark", "bright")  # type: ignore[union-attr]
    (twice,) = whole.pipeline.classify([tmp_path / "data" / "dark" / "00.png"], views=Views())
    assert whole.predict(tmp_path / "data" / "dark" / "00.png", views=Views()) == twice
    assert whole.predict(tmp_path / "data" / "dark" / "00.png") != twice
    with pytest.raises(ConnectionError):
        learner(Cut()).fine_tune(1, frozen_epochs=1)
    other = learner(Callback())
    other.fine_tune(1, frozen_epochs=1, resume=True)
    assert other.run == Path("runs/classifier-2")
    state, resumed = whole.network.state_dict(), other.network.state_dict()
    assert all(torch.equal(value, resumed[name]) for name, value in state.items())
    assert min(whole.show_results(2).size) > 50
    losses = [mistake.loss for mistake in whole.top_losses()]
    assert losses == sorted(losses, reverse=True)
    assert len(losses) == min(8, len(data[1]))
    whole.fine_tune(1, frozen_epochs=0)  # further, from what was learned
    assert whole.run == Path("runs/classifier-3")
    with pytest.raises(UserError, match="answers with 3 classes, and the data have 2"):
        Learner(data, Classifier(Body("resnet18"), ClassHead(3)))
    with pytest.raises(RunError, match=r"there is no training in runs/siamese"):
        Learner(open_same(None, size=16), Siamese(Body("resnet18"), ClassHead(2))).fine_tune(1, resume=True)


def test_a_learner_of_a_network_of_ones_own_leaves_its_weights(tmp_path: Path) -> None:
    class Mine(Classifier):
        """One that no pipeline can be made of."""

    data = open_classes(kinds(tmp_path / "data"), size=16, validation=0.3)
    learner = Learner(data, Mine(Body("resnet18"), ClassHead(2, hidden=0)), run=tmp_path / "run", batch_size=6)
    with pytest.warns(UserWarning, match=r"Mine is none of gangen's networks.*network\.safetensors"):
        learner.fine_tune(1, frozen_epochs=0)
    kept = load_file(tmp_path / "run" / "network.safetensors")
    assert all(torch.equal(value.cpu(), kept[name]) for name, value in learner.network.state_dict().items())
    assert (tmp_path / "run" / "report.html").exists()


def test_impossible_flags_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--wide 0"):
        train("segmentation", "Segmentation", out=tmp_path / "run", wide=0.0, **SHORT)
    with pytest.raises(UserError, match=r"--adversarial-epochs -1: expected 0 or more"):
        train("segmentation", "Segmentation", out=tmp_path / "run", adversarial_epochs=-1, **SHORT)
    with pytest.raises(UserError, match=r"--fool -0\.1: expected 0 or more"):
        train("segmentation", "Segmentation", out=tmp_path / "run", fool=-0.1, **SHORT)
    with pytest.raises(UserError, match="--batch-size 1"):
        train("siamese", "SiameseFlags", out=tmp_path / "run", **SHORT | {"batch_size": 1})
    with pytest.raises(UserError, match="nothing would be learned"):
        train("classification", "Classification", out=tmp_path / "run", **SHORT | {"epochs": 0})
    with pytest.raises(UserError, match="--epochs -1"):
        train("classification", "Classification", out=tmp_path / "run", **SHORT | {"epochs": -1})
