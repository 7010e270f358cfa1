import re
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import gangen
from gangen import images
from gangen.cli import main, name_results
from gangen.data import readable
from gangen.errors import StorageError, UserError
from gangen.nets import Body, ClassHead, Classifier, ImageHead, NoiseGenerator, UNet
from gangen.pipeline import Pipeline
from tests.fake_run import write_fake_run
from tests.networks import opinionated

COMMANDS = ("predict", "generate", "evaluate", "score", "compare", "report", "export")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("runs") / "first"
    Pipeline(UNet(Body("resnet18", weights="none"), ImageHead(3), width=4)).save(folder / "pipeline")
    return folder


def gangen_says(capsys, *words):
    """Run the command line; return its exit code, standard output and standard error."""
    try:
        code = main([str(word) for word in words])
    except SystemExit as end:
        code = end.code
    said = capsys.readouterr()
    return code or 0, said.out, said.err


def photograph(path, width=24, height=18, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(levels).save(path)
    return path


def test_predict_paints_files_and_folders(capsys, run, tmp_path):
    photograph(tmp_path / "in/a.png", 24, 18, 0)
    photograph(tmp_path / "in/deep/er/b.jpg", 33, 7, 1)
    single = photograph(tmp_path / "c.webp", 40, 40, 2)
    out = tmp_path / "out"
    code, told, _ = gangen_says(capsys, "predict", run, tmp_path / "in", single, "--out", out, "--device", "cpu")
    assert code == 0
    assert f"3 painted in {out}\n" in told
    sizes = {path.relative_to(out).as_posix(): Image.open(path).size for path in out.rglob("*.*")}
    assert sizes == {"a.png": (24, 18), "deep/er/b.png": (33, 7), "c.png": (40, 40)}
    expected = Pipeline.from_pretrained(run)(single)
    difference = np.asarray(Image.open(out / "c.png")).astype(int) - np.asarray(expected)
    assert abs(difference).max() <= 1


def test_an_unreadable_picture_is_named_and_skipped(capsys, run, tmp_path):
    good = photograph(tmp_path / "good.png")
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    code, told, warned = gangen_says(
        capsys, "predict", run, bad, good, tmp_path / "gone.png", "--out", tmp_path / "o"
    )
    assert code == 1
    assert "1 painted" in told
    assert "2 skipped" in told
    assert "bad.png" in warned
    assert "gone.png" in warned
    assert [path.name for path in (tmp_path / "o").iterdir()] == ["good.png"]


def test_none_readable_is_an_error(capsys, run, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    code, _, warned = gangen_says(capsys, "predict", run, bad, "--out", tmp_path / "out")
    assert code == 2
    assert "none of the 1 pictures could be painted" in warned
    assert not (tmp_path / "out").exists()


def test_results_never_collide_nor_overwrite_what_was_given(tmp_path):
    one, other = photograph(tmp_path / "x/same.png"), photograph(tmp_path / "y/same.jpg")
    twin = photograph(tmp_path / "x/same.jpg")
    named = name_results((one, other, tmp_path / "x"), tmp_path / "x")
    results = [result for _, result in named]
    assert [picture for picture, _ in named] == [one, other, twin, one]
    assert len(set(results)) == 4
    assert not {one, other, twin} & set(results)
    assert results[0] == tmp_path / "x/same-2.png"


def test_painting_into_the_folder_of_the_pictures_leaves_them_alone(capsys, run, tmp_path):
    picture = photograph(tmp_path / "a.png")
    before = picture.read_bytes()
    for _ in range(2):
        code, *_ = gangen_says(capsys, "predict", run, picture, "--out", tmp_path)
        assert code == 0
        assert picture.read_bytes() == before
    assert (tmp_path / "a-2.png").exists()


def test_predict_draws_a_sketch_first(capsys, run, tmp_path):
    from gangen.data.sketch import sketch

    picture = photograph(tmp_path / "a.png", 48, 48)
    gangen_says(capsys, "predict", run, picture, "--out", tmp_path / "plain", "--device", "cpu")
    gangen_says(capsys, "predict", run, picture, "--out", tmp_path / "drawn", "--draw", "--device", "cpu")
    plain, drawn = (np.asarray(Image.open(tmp_path / kind / "a.png")) for kind in ("plain", "drawn"))
    expected = np.asarray(Pipeline.from_pretrained(run, device="cpu")(sketch(Image.open(picture))))
    assert (drawn != plain).any()
    assert abs(drawn.astype(int) - expected).max() <= 1


def test_predict_looks_twice_with_tta(capsys, run, tmp_path):
    picture = photograph(tmp_path / "a.png", 41, 30)
    code, *_ = gangen_says(
        capsys, "predict", run, picture, "--out", tmp_path / "twice", "--tta", "--device", "cpu"
    )
    assert code == 0
    gangen_says(capsys, "predict", run, picture, "--out", tmp_path / "once", "--device", "cpu")
    twice, once = (np.asarray(Image.open(tmp_path / name / "a.png")).astype(int) for name in ("twice", "once"))
    expected = np.asarray(Pipeline.from_pretrained(run, device="cpu")(picture, views=gangen.Views()))
    assert abs(twice - expected).max() <= 1
    assert abs(twice - once).max() > 1


def test_predict_waits_for_storage_and_ends_where_it_stays_away(capsys, monkeypatch, run, tmp_path):
    given = [photograph(tmp_path / f"{name}.png") for name in "abc"]
    monkeypatch.setattr(readable, "PATIENCE", (0.0, 0.0))
    read, troubles = images.read, [2]

    def failing(path, *rest):
        if path.stem != "a" and troubles[0]:
            troubles[0] -= 1
            raise StorageError(f"cannot read {path}: Stale file handle.")
        return read(path, *rest)

    monkeypatch.setattr(images, "read", failing)
    code, told, warned = gangen_says(capsys, "predict", run, *given, "--out", tmp_path / "once", "--device", "cpu")
    assert (code, "3 painted" in told, "Trying in 0 s" in warned) == (0, True, True)
    troubles[0] = 99
    words = ("--out", tmp_path / "twice", "--device", "cpu", "--batch-size", "1")
    code, _, warned = gangen_says(capsys, "predict", run, *given, *words)
    assert (code, "Stale file handle" in warned) == (2, True)
    assert [path.name for path in (tmp_path / "twice").iterdir()] == ["a.png"], "what was painted before is kept"


def interrupted_after_one(classify):
    calls = []

    def once(*given, **options):
        calls.append(1)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return classify(*given, **options)

    return once


def test_predict_classifies_looking_twice_with_tta(capsys, monkeypatch, tmp_path):
    torch.manual_seed(0)
    kinds = Pipeline(opinionated(Classifier(Body("resnet18"), ClassHead(2))), config={"trained_size": 24})
    kinds.save(tmp_path / "kinds")
    picture = photograph(tmp_path / "a.png", 41, 30)
    for name, words in (("twice", ["--tta"]), ("once", [])):
        code, *_ = gangen_says(capsys, "predict", tmp_path / "kinds", picture, "--out", tmp_path / name, *words)
        assert code == 0
    (answer,) = kinds.classify([picture], views=gangen.Views())
    table = (tmp_path / "twice" / "answers.csv").read_text()
    assert f"{answer.probabilities['class 0']:.4f}" in table
    assert table != (tmp_path / "once" / "answers.csv").read_text()
    monkeypatch.setattr(Pipeline, "classify", interrupted_after_one(Pipeline.classify))
    for name in "bc":
        photograph(tmp_path / f"{name}.png", 41, 30)
    with pytest.raises(KeyboardInterrupt):
        main(
            ["predict", str(tmp_path / "kinds"), str(tmp_path), "--out", str(tmp_path / "y"), "--batch-size", "1"]
        )
    assert "a.png" in (tmp_path / "y" / "answers.csv").read_text(), "what was found before is kept"
    code, _, warned = gangen_says(
        capsys, "predict", tmp_path / "kinds", picture, "--out", tmp_path / "x", "--draw"
    )
    assert (code, "--draw: this network says what pictures show" in warned) == (2, True)


def test_predict_tiles_and_tile_0_does_not(capsys, run, tmp_path, monkeypatch):
    picture = photograph(tmp_path / "a.png", 140, 70)
    seen = []
    forward = UNet.forward
    monkeypatch.setattr(UNet, "forward", lambda self, x: seen.append(tuple(x.shape[2:])) or forward(self, x))
    gangen_says(capsys, "predict", run, picture, "--out", tmp_path / "tiled", "--tile", "96", "--overlap", "32")
    assert seen == [(70, 96), (70, 76)]
    seen.clear()
    gangen_says(capsys, "predict", run, picture, "--out", tmp_path / "whole", "--tile", "0")
    assert seen == [(70, 140)]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["predict", "RUN", "--out", "o"], "no picture is given"),
        (["predict", "RUN", "a.png", "--out", "o", "--tile", "100"], "tile 100"),
        (["predict", "RUN", "a.png", "--out", "o", "--batch-size", "0"], "batch_size 0"),
        (["predict", "nowhere", "a.png", "--out", "o"], "no folder nowhere"),
        (["report", "nowhere"], "no log.jsonl"),
        (["export", "RUN", "--out", "m.onnx", "--size", "0"], "size 0"),
    ],
)
def test_what_a_person_gets_wrong_is_said_without_a_traceback(capsys, run, tmp_path, monkeypatch, words, told):
    monkeypatch.chdir(tmp_path)
    photograph(tmp_path / "a.png")
    code, _, warned = gangen_says(capsys, *[run if word == "RUN" else word for word in words])
    assert code == 2
    assert told in warned
    assert "Traceback" not in warned


def test_report_writes_the_page_and_opens_it(capsys, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    folder = write_fake_run(tmp_path / "run", grids=2)
    assert gangen_says(capsys, "report", folder) == (0, f"{folder / 'report.html'}\n", "")
    assert (folder / "report.html").stat().st_size > 50_000
    assert opened == []
    gangen_says(capsys, "report", folder, "--open")
    assert opened == [(folder / "report.html").as_uri()]


def test_export_writes_onnx_and_says_how_close_it_is(capsys, run, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    small = nn.Conv2d(3, 3, 3, padding=1)  # a UNet takes its time; tests/test_export.py exports one
    monkeypatch.setattr(Pipeline, "from_pretrained", lambda source, device, best: Pipeline(small))
    path = tmp_path / "model.onnx"
    code, told, _ = gangen_says(capsys, "export", run, "--out", path, "--size", "64", "--fixed")
    assert code == 0
    assert path.stat().st_size > 300
    assert f"{path}: pictures of fixed size" in told
    assert re.search(r"at most \d", told)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_teaches_an_example(capsys, command):
    code, told, _ = gangen_says(capsys, command, "--help")
    assert code == 0
    assert f"Example: gangen {command} " in told


def test_help_without_words_and_version(capsys):
    code, told, _ = gangen_says(capsys)
    assert code == 0
    assert all(command in told for command in COMMANDS)
    assert gangen_says(capsys, "--version") == (0, f"gangen {gangen.__version__}\n", "")


def test_help_does_not_wait_for_torch():
    script = "import sys, gangen.cli\nfor command in ('predict', 'generate', 'evaluate', 'score', 'compare'):\n"
    script += " try: gangen.cli.main([command, '--help'])\n except SystemExit: pass\n"
    script += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60).returncode == 0


def test_no_picture_in_a_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="no picture"):
        name_results((tmp_path,), tmp_path / "out")


@pytest.fixture(scope="module")
def from_noise(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("runs") / "noise"
    Pipeline(NoiseGenerator(8, latent=5, width=4)).save(folder / "pipeline")
    return folder


def test_generate_writes_pictures_named_by_seed_and_number(capsys, from_noise, tmp_path):
    out = tmp_path / "made"
    code, told, _ = gangen_says(capsys, "generate", from_noise, "--count", 3, "--seed", 7, "--out", out)
    assert (code, told) == (0, f"3 made in {out}\n")
    assert sorted(path.name for path in out.iterdir()) == ["7-0000.png", "7-0001.png", "7-0002.png"]
    expected = Pipeline.from_pretrained(from_noise, device="cpu").generate(3, seed=7)[2]
    difference = np.asarray(Image.open(out / "7-0002.png")).astype(int) - np.asarray(expected)
    assert abs(difference).max() <= 1


def test_predict_and_generate_refuse_each_other_s_generators(capsys, run, from_noise, tmp_path):
    picture = photograph(tmp_path / "a.png")
    code, _, warned = gangen_says(capsys, "predict", from_noise, picture, "--out", tmp_path / "out")
    assert (code, "gangen generate" in warned) == (2, True)
    code, _, warned = gangen_says(capsys, "generate", run, "--out", tmp_path / "out")
    assert (code, "gangen predict" in warned) == (2, True)
    assert not (tmp_path / "out").exists()


def test_what_was_painted_into_the_folder_is_not_painted_again(capsys, run, tmp_path):
    photograph(tmp_path / "a.png")
    for _ in range(2):
        gangen_says(capsys, "predict", run, tmp_path, "--out", tmp_path / "painted")
    assert [path.name for path in (tmp_path / "painted").rglob("*.png")] == ["a.png"]


def test_names_that_are_one_on_some_systems_are_never_given_twice(tmp_path):
    upper, lower = photograph(tmp_path / "A.PNG"), photograph(tmp_path / "x/a.png")
    accent = photograph(tmp_path / "y/e\u0301.png")
    named = [result for _, result in name_results((upper, lower, accent), tmp_path)]
    assert len({unicodedata.normalize("NFC", str(path)).casefold() for path in named}) == 3
    assert upper not in named
    assert tmp_path / "A.png" not in named


def test_a_picture_too_large_for_a_network_without_tiles_is_named_and_the_rest_painted(capsys, tmp_path):
    looks_everywhere = UNet(Body("resnet18", weights="none"), ImageHead(3), width=4, attention=True)
    assert not looks_everywhere.tiles_exactly
    Pipeline(looks_everywhere).save(tmp_path / "run" / "pipeline")
    large = photograph(tmp_path / "in/deep/large.jpg", 140, 70)
    photograph(tmp_path / "in/small.png")
    words = (
        "predict",
        tmp_path / "run",
        tmp_path / "in",
        "--out",
        tmp_path / "o",
        "--tile",
        "96",
        "--overlap",
        "32",
    )
    code, told, warned = gangen_says(capsys, *words)
    assert (code, "1 painted" in told, "1 skipped" in told) == (1, True, True)
    assert re.search(rf"skipped: {re.escape(str(large))}: .*--tile 0", warned)
    assert [path.name for path in (tmp_path / "o").rglob("*.png")] == ["small.png"]


def test_a_folder_is_painted_into_one_above_it(capsys, run, tmp_path):
    photograph(tmp_path / "in/a.png")
    code, told, _ = gangen_says(capsys, "predict", run, tmp_path / "in", "--out", tmp_path)
    assert (code, "1 painted" in told) == (0, True)
    assert (tmp_path / "a.png").exists()


@pytest.mark.parametrize("kind", ["jpg", "png", "tif", "webp"])
def test_a_photograph_that_was_taken_across_is_turned_once(capsys, run, tmp_path, kind):
    picture = photograph(tmp_path / "plain.png", 24, 18)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(picture).save(tmp_path / f"across.{kind}", exif=exif)
    for given in (tmp_path / f"across.{kind}", images.read(tmp_path / f"across.{kind}")):
        assert Pipeline.from_pretrained(run)(given).size == (18, 24)
    gangen_says(capsys, "predict", run, tmp_path / f"across.{kind}", "--out", tmp_path / "o")
    assert Image.open(tmp_path / "o" / "across.png").size == (18, 24)
