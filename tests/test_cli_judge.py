import json
import typing
from pathlib import Path

import pytest
import torch

from gangen.cli.judge import MetricName
from gangen.metrics import COLOUR, pixel_metrics
from tests.test_cli import gangen_says, photograph
from tests.test_evaluation import folders, run

__all__ = ["folders", "run"]  # fixtures


def test_score_prints_a_table_and_writes_every_value(capsys, folders, tmp_path):
    out = tmp_path / "scores.json"
    code, told, warned = gangen_says(
        capsys, "score", *folders, "--metric", "psnr", "saturation", "--crop", "2", "--channel", "y", "--out", out
    )
    assert (code, warned) == (0, "")
    heads, psnr, saturation = told.splitlines()
    assert heads.split() == ["Metric", "Value", "95%", "interval", "Pictures", "Better"]
    content = {result["metric"]: result for result in json.loads(out.read_text())["results"]}
    assert psnr.split()[:2] == ["psnr", f"{content['psnr']['value']:.4g}"]
    assert psnr.split()[-2:] == ["3", "higher"]
    assert saturation.split()[-1] == "–"
    assert list(content["psnr"]["values"]) == ["a", "b", "deep/c"]
    assert content["psnr"]["protocol"]["crop"] == content["saturation"]["protocol"]["crop"] == 2
    assert content["psnr"]["protocol"]["colour"].startswith("Y")
    assert content["saturation"]["protocol"]["colour"] == "RGB"
    assert content["psnr"]["interval"]["low"] <= content["psnr"]["value"] <= content["psnr"]["interval"]["high"]


def test_score_names_what_it_left_out(capsys, folders):
    ours, theirs = folders
    photograph(ours / "alone.png")
    (theirs / "b.bmp").write_bytes(b"no picture")
    code, told, warned = gangen_says(capsys, "score", ours, theirs)
    assert code == 1
    assert told.endswith("1 skipped\n")
    assert "skipped: cannot read" in warned
    assert "b.bmp" in warned
    assert "gangen: 1 pictures have no partner" in warned
    assert "alone.png" in warned
    assert "Warning" not in warned


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["score", "ours", "nowhere"], "there is no folder nowhere"),
        (["score", "ours", "theirs", "--crop", "-1"], "crop -1"),
        (["score", "ours", "theirs", "--crop", "10"], "a: of 24x20 pixels nothing is left"),
        (["score", "ours", "theirs", "--upscale", "bicubic"], "exactly a half"),
        (["score", "ours", "theirs", "--metric", "ms_ssim"], "at least 176x176"),
        (["score", "ours", "theirs", "--lpips-weights", "gone.pth"], "gone.pth"),
        (["score", "ours", "theirs", "--metric", "kid", "--features", "gone.pth"], "gone.pth"),
        (["score", "ours", "theirs", "--metric", "kid", "--feature-net", "eye", "--features", "x"], "eye is no"),
        (["score", "ours", "theirs", "--metric", "kid", "--crop", "2"], "--crop 2: kid see whole pictures"),
        (["score", "ours", "theirs", "--metric", "diversity"], "--lpips-weights FILE"),
        (["score", "ours", "theirs", "--features", "x.pth"], "--features and --feature-net are of fid and kid"),
        (["score", "ours", "theirs", "--feature-net", "resnet18"], "are of fid and kid"),
        (["evaluate", "nowhere"], "no folder nowhere"),
        (["compare", "a.json", "b.json"], "cannot read a.json"),
    ],
)
def test_what_a_person_gets_wrong_is_said_without_a_traceback(capsys, folders, monkeypatch, words, told):
    monkeypatch.chdir(folders[0].parent)
    code, _, warned = gangen_says(capsys, *words)
    assert code == 2
    assert told in warned
    assert "Traceback" not in warned


def test_compare_tells_the_difference_and_who_is_better(capsys, folders, monkeypatch):
    ours, theirs = folders
    monkeypatch.chdir(ours.parent)
    gangen_says(capsys, "score", ours, theirs, "--metric", "l1", "psnr", "--out", "bad.json")
    gangen_says(capsys, "score", theirs, theirs, "--metric", "psnr", "ssim", "--out", "good.json")
    code, told, warned = gangen_says(capsys, "compare", "bad.json", "good.json")
    assert code == 0
    _, _, row = told.splitlines()
    assert row.split()[0] == "psnr"
    assert row.split()[2] == "100"
    assert row.split()[-1] == "good.json"
    assert "only in one of them: l1, ssim" in warned


def test_what_enlarges_is_compared_with_the_baseline_of_the_same_pictures(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        photograph(tmp_path / f"small/{name}.png", 13, 11, 1)
        photograph(tmp_path / f"large/{name}.png", 26, 22, 1)
    gangen_says(capsys, "score", "small", "large", "--upscale", "bicubic", "--out", "bicubic.json")
    gangen_says(capsys, "score", "large", "large", "--out", "mine.json")
    code, told, _ = gangen_says(capsys, "compare", "bicubic.json", "mine.json")
    assert code == 0
    assert told.splitlines()[-1].split()[-1] == "mine.json"
    assert json.loads(Path("bicubic.json").read_text())["results"][0]["about"]["upscale"].startswith("bicubic x2")


def test_compare_refuses_unlike_protocols(capsys, folders, monkeypatch):
    monkeypatch.chdir(folders[0].parent)
    gangen_says(capsys, "score", *folders, "--out", "rgb.json")
    gangen_says(capsys, "score", *folders, "--channel", "y", "--out", "y.json")
    gangen_says(capsys, "score", *folders, "--metric", "l1", "--out", "l1.json")
    code, told, warned = gangen_says(capsys, "compare", "rgb.json", "y.json")
    assert (code, told) == (2, "")
    assert "colour 'RGB' and 'Y of BT.601" in warned
    code, _, warned = gangen_says(capsys, "compare", "rgb.json", "l1.json")
    assert code == 2
    assert "no metric is in both" in warned


def test_evaluate_needs_nothing_but_a_run(capsys, run, tmp_path):
    code, told, warned = gangen_says(capsys, "evaluate", run, "--device", "cpu", "--out", tmp_path / "e.json")
    assert (code, warned) == (0, "")
    assert [line.split()[0] for line in told.splitlines()[1:]] == [
        "l1",
        "psnr",
        "ssim",
        "saturation_gap",
        "colourfulness_gap",
    ]
    results = json.loads((tmp_path / "e.json").read_text())["results"]
    assert {len(result["values"]) for result in results} == {5}
    assert {result["about"]["run"] for result in results} == {"first"}


def test_lpips_is_added_by_its_weights(capsys, run, tmp_path):
    from torchvision.models import alexnet

    torch.manual_seed(0)
    torch.save(alexnet(weights=None).state_dict(), tmp_path / "alex.pth")
    words = [
        "--lpips-weights",
        tmp_path / "alex.pth",
        "--metric",
        "l1",
        "--device",
        "cpu",
        "--out",
        tmp_path / "e.json",
    ]
    code, told, _ = gangen_says(capsys, "evaluate", run, *words)
    assert code == 0
    assert [line.split()[0] for line in told.splitlines()[1:]] == ["l1", "lpips"]
    protocol = json.loads((tmp_path / "e.json").read_text())["results"][1]["protocol"]
    assert protocol["network"] == "alex"
    assert len(protocol["weights"]) == 16


def test_sets_are_judged_by_the_network_that_is_named(capsys, folders, tmp_path):
    from torchvision.models import alexnet, vgg16

    torch.manual_seed(0)
    torch.save(alexnet(weights=None).state_dict(), tmp_path / "alex.pth")
    (folders[0] / "a.png").rename(folders[0] / "of-another-name.png")
    words = [
        "--features",
        tmp_path / "alex.pth",
        "--lpips-weights",
        tmp_path / "alex.pth",
        "--out",
        tmp_path / "s",
    ]
    names = ["fid", "diversity_target", "kid", "diversity"]
    code, told, warned = gangen_says(
        capsys, "score", *folders, "--metric", *names, "--feature-net", "alexnet", *words
    )
    assert (code, warned) == (0, "")
    rows = told.splitlines()[1:]
    assert [row.split()[0] for row in rows] == names
    assert {tuple(row.split()[-3:-1]) for row in rows} == {("3,", "3")}
    assert [row.split()[-1] for row in rows] == ["lower", "–", "lower", "–"]
    results = json.loads((tmp_path / "s").read_text())["results"]
    assert results[0]["protocol"]["features"]["network"] == "torchvision alexnet"
    with torch.device("meta"):
        layers = vgg16(weights=None).features.state_dict()
    torch.save({f"features.{k}": torch.full(v.shape, 0.01) for k, v in layers.items()}, tmp_path / "vgg.pth")
    words = ["--dists-weights", tmp_path / "vgg.pth", "--metric", "l1"]
    code, told, _ = gangen_says(capsys, "score", *folders, *words)
    assert (code, [line.split()[0] for line in told.splitlines()[1:]]) == (0, ["l1", "dists"])


def test_set5_is_one_command(capsys, shared):
    set5 = shared / "data" / "set5"
    words = ["--metric", "psnr", "ssim", "--channel", "y", "--crop", "4", "--upscale", "bicubic"]
    code, told, _ = gangen_says(capsys, "score", set5 / "lr", set5 / "hr", *words)
    assert code == 0
    values = [line.split()[1] for line in told.splitlines()[1:]]
    assert values == ["28.43", "0.8111"]


def test_the_command_line_knows_the_librarys_metrics():
    of_sets = {"fid", "kid", "diversity", "diversity_target"}
    assert set(typing.get_args(MetricName)) == {metric.name for metric in (*pixel_metrics(), *COLOUR)} | of_sets
