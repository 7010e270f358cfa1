"""The commands and programs in README and docs/ are run as they are written."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from gangen.cli import main
from gangen.data import embedded_photographs, open_scenes, sketch
from tests.conftest import ROOT
from tests.forked import forked

README = (ROOT / "README.md").read_text(encoding="utf-8")

# Appended to the README's recipe commands, so that a test trains for seconds instead of minutes.
SHORT = "--generator-steps 2 --critic-steps 1 --adversarial-steps 2 --batch-size 2 --weights none"
SMALL = " --size 32"  # where the command gives none
SHORT_FROM_NOISE = "--steps 4 --batch-size 4"

SETUP = """
from gangen.data import open_pairs
from gangen.losses import critic_terms, hinge, l1
from gangen.nets import Body, ImageHead, PatchCritic, UNet
from gangen.train import Adaptive, Phase, Player, Trainer
train, held_out = open_pairs(None, size=32)
generator, critic = UNet(Body("resnet18"), ImageHead(3)), PatchCritic(3, layers=2)
trainer = Trainer("runs/readme", train, batch_size=4)
"""


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def commands(text: str) -> list[str]:
    lines = [line for block in blocks(text, "bash") for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def run(command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command,
        shell=True,
        cwd=folder,
        env={**os.environ, "PATH": path, "PYTHONWARNINGS": "ignore", **environment},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def run_soon(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The same for `accelerate launch recipes/...` and `gangen ...`, without the seconds in which they start."""
    words = shlex.split(command)
    if words[0] == "gangen":
        return forked(str(Path(sys.executable).with_name("gangen")), *words[1:], folder=folder)
    if words[:2] == ["accelerate", "launch"] and words[2].startswith("recipes/"):
        return forked(*words[2:], folder=folder)
    return run(command, folder)


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A folder with the recipes, and with the pictures that the README speaks of."""
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    for name, picture in embedded_photographs():
        small = picture.resize((96, 96))
        drawing = sketch(small)
        halves = Image.new("RGB", (192, 96))
        halves.paste(drawing, (0, 0))
        halves.paste(small, (96, 0))
        pictures = {
            "my_sketches": drawing,
            "my_photographs": small,
            "my_pairs/sketch": drawing,
            "my_pairs/color": small,
            "my_halves": halves,
        }
        for folder, made in pictures.items():
            # Several of each, so that both training and validation get some.
            for copy in range(3):
                path = tmp_path / folder / f"{name}-{copy}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                made.save(path)
    return tmp_path


@pytest.mark.slow
def test_segmentation_in_a_few_lines_of_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is written, but for the epochs, the steps, the size, and weights that would be downloaded."""
    pytest.importorskip("matplotlib", reason="the page plots what lr_find found")
    source, _ = open_scenes(48, train=30)
    for number in range(30):
        picture, mask = source.read(number)
        for folder, made, ending in (("images", picture, ""), ("labels", mask, "_L")):
            (tmp_path / "streets" / folder).mkdir(parents=True, exist_ok=True)
            made.point(lambda level, kind=folder: level % 4 if kind == "labels" else level).save(
                tmp_path / "streets" / folder / f"{number}{ending}.png"
            )
    (tmp_path / "streets" / "codes.txt").write_text("ground\ncircle\nsquare\ntriangle\n")
    monkeypatch.chdir(tmp_path)
    first, *others = blocks((ROOT / "docs" / "labels.md").read_text(encoding="utf-8"), "python")
    job = [line for line in first.splitlines() if line and not line.startswith(("from", "labels ="))]
    assert len(job) <= 6
    quick = {"fine_tune(8)": "fine_tune(1)", '"imagenet"': '"none"', "(96, 128)": "32", "resnet34": "resnet18"}
    for long, short in quick.items():
        assert long in first
        first = first.replace(long, short)
    names: dict[str, object] = {}
    exec(first + "".join(others).replace("lr_find()", "lr_find(steps=8)"), names)  # the page's own program
    with Image.open("mask.png") as mask:
        assert (mask.mode, mask.size) == ("P", (48, 48))
    for sheet in ("results.png", "rates.png"):
        with Image.open(sheet) as shown:
            assert min(shown.size) > 100
    assert Path("runs/unet/report.html").stat().st_size > 0


def test_ci_runs_the_commands_that_install_and_test() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert 'pip install -e ".[dev]" && pytest' in commands(README)
    assert any(line.startswith("pip install ") and line.endswith('-e ".[dev]"') for line in script)
    assert "pytest" in script


@pytest.mark.slow
def test_the_first_command_shortened_ends_with_pictures(tmp_path: Path) -> None:
    """The command that a newcomer types, far shorter; samples/sketch_to_image/ has it whole."""
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    first = next(command for command in commands(README) if "sketch_to_image" in command)
    install, train = first.split(" && ")
    assert install == 'pip install -e ".[samples]"'
    done = run(f"{train} --generator-steps 40 --critic-steps 5 --adversarial-steps 10", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    folder = tmp_path / "runs" / "sketch_to_image"
    for name in ("config.json", "log.jsonl", "report.html", "pipeline/config.json", "pipeline/model.safetensors"):
        assert (folder / name).stat().st_size > 0
    assert list((folder / "checkpoints").glob("step-*.pt"))
    told = [line.split()[0] for line in done.stderr.splitlines() if line.strip()]
    assert [word for word in told if word in ("Phase", "generator", "critic", "adversarial")] == [
        "Phase",
        "generator",
        "critic",
        "adversarial",
    ]
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    errors = [record["l1"] for record in records if record["event"] == "validation"]
    assert len(errors) == 2
    # All grey would have 0.256.
    assert all(0 < error < 0.25 for error in errors)
    grids = sorted((folder / "samples").glob("*.png"))
    assert len(grids) >= 3
    with Image.open(grids[-1]) as grid:
        assert min(grid.size) > 400
    photograph = embedded_photographs()[0][1].resize((101, 67))
    photograph.save(tmp_path / "new.png")
    done = run(f"gangen predict {folder} new.png --out painted --draw", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    with Image.open(tmp_path / "painted" / "new.png") as painted:
        assert painted.size == (101, 67)
        assert len(painted.getcolors(101 * 67) or []) > 100


@pytest.mark.slow
def test_every_other_command_of_the_readme_runs(workplace: Path) -> None:
    first, *others = [command for command in commands(README) if "pytest" not in command]
    assert run(f"{first.split(' && ')[1]} {SHORT}{SMALL}", workplace).returncode == 0
    seen = 0
    for command in others:
        seen += 1
        if "--multi_gpu" in command:
            done = run(f"{command} {SHORT}{SMALL} --out multi", workplace)
            refused = "accelerate connects 1" in done.stderr
            assert done.returncode == 0 or refused, f"{command}\n{done.stderr[-3000:]}"
        else:
            flags = SHORT_FROM_NOISE if "vanilla_gan" in command else SHORT
            if "recipes/" in command:
                command += f" {flags}{'' if '--size' in command else SMALL}"
            done = run_soon(command, workplace)
            assert done.returncode == 0, f"{command}\n{done.stderr[-3000:]}"
    assert seen >= 12
    assert len(list((workplace / "painted").glob("*.png"))) >= 3
    assert len(list((workplace / "made").glob("*.png"))) == 4
    for inline in re.findall(r"`(gangen [^`]*)`", README):
        seen += 1
        assert run_soon(inline.replace("\n", " "), workplace).returncode == 0, inline
    assert seen >= 14
    shutil.copy(next((workplace / "my_sketches").iterdir()), workplace / "my_sketches" / "cat.png")
    program = next(block for block in blocks(README, "python") if "Pipeline" in block)
    done = run(f"{sys.executable} -c '{program}'", workplace)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (workplace / "cat.png").exists()


@pytest.mark.slow
def test_the_scores_of_the_docs_are_what_is_printed(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    Path("set5").symlink_to(shared / "data" / "set5")

    def printed(command: str) -> tuple[object, str]:
        with pytest.raises(SystemExit) as end:
            main(shlex.split(command)[1:])
        return end.value.code, capsys.readouterr().out

    score, _, compare = commands(page)
    assert printed(score) == (0, blocks(page, "text")[0])
    shutil.copy("bicubic.json", "mine.json")
    assert printed(compare)[0] == 0
    _, table = printed("gangen score set5/lr set5/hr --upscale bicubic --metric psnr --out mine.json")
    assert f"baseline has {table.splitlines()[1].split()[1]} dB in RGB" in page
    assert printed(compare)[0] == 2


@pytest.mark.slow
def test_the_numbers_of_sets_in_the_docs_are_what_is_printed(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for name in ("openmoji", "weights"):
        Path(name).symlink_to(shared / "data" / name)
    with pytest.raises(SystemExit) as end:
        main(shlex.split(commands(page)[1])[1:])
    assert (end.value.code, capsys.readouterr().out) == (0, blocks(page, "text")[1])


def test_the_gan_of_the_readme_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    program = next(block for block in blocks(README, "python") if "Phase(" in block)
    exec(compile(SETUP + program, "README.md", "exec"), {})
    assert '"event": "end"' in (tmp_path / "runs" / "readme" / "log.jsonl").read_text()


@pytest.mark.slow
def test_the_documented_gan_has_its_own_term_switcher_and_callback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (program,) = blocks((ROOT / "docs" / "your_own_gan.md").read_text(encoding="utf-8"), "python")
    own = program.split("def judge")[1]
    assert len([line for line in own.splitlines() if line.strip()]) < 40
    exec(compile(program, "your_own_gan.md", "exec"), {})
    assert float(capsys.readouterr().out.split()[-1]) > 0
    log = (tmp_path / "runs" / "own" / "log.jsonl").read_text()
    assert "generator/tint" in log
    assert log.count("the generator had two") == 4
    assert list((tmp_path / "runs" / "own" / "samples").glob("*.png"))
