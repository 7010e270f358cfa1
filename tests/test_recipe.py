"""What a person meets who gives a recipe bad input, a taken folder, or a full disk."""

import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, load_model

from gangen.data import embedded_photographs
from gangen.errors import DataError, RunError, UserError, WeightsError
from gangen.nets import Body, ImageHead, UNet
from gangen.pipeline import Pipeline
from gangen.recipe.folder import free_folder, launched
from tests.conftest import ROOT
from tests.forked import forked
from tests.train.test_claims import elsewhere

RECIPE = ROOT / "recipes" / "sketch_to_image.py"
SHORT: dict[str, Any] = {
    "size": 32,
    "batch_size": 2,
    "weights": "none",
    "generator_steps": 2,
    "critic_steps": 1,
    "adversarial_steps": 2,
    "threads": 1,
    "workers": 0,
}


ALONE = {"critic_steps": 0, "adversarial_steps": 0}
"""The generator's phase alone, where no other is tested: each phase ends with a checkpoint of 360 MB."""


def train(**flags: Any) -> Path:
    """Run the recipe in this process; gives its run folder."""
    script = runpy.run_path(str(RECIPE))
    parsed = script["SketchToImage"](**{**SHORT, **flags})
    script["main"](parsed)
    return Path(parsed.out)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Twenty pairs in two folders."""
    return write_pairs(tmp_path / "pairs")


def write_pairs(root: Path) -> Path:
    photograph = embedded_photographs()[0][1]
    for number in range(20):
        for folder in ("sketch", "color"):
            path = root / folder / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            left = 10 * number
            photograph.crop((left, left, left + 48, left + 48)).save(path)
    return root


def two_folders(root: Path) -> dict[str, Any]:
    return {"data": root, "input_folder": Path("sketch"), "target_folder": Path("color")}


def test_a_run_leaves_its_folder(pairs: Path, tmp_path: Path) -> None:
    run = train(out=tmp_path / "run", workers=1, **two_folders(pairs))
    config = json.loads((run / "config.json").read_text())
    assert config["flags"]["generator_steps"] == 2
    assert config["body"]["kind"] == "none"
    assert len(config["data"]) >= 16
    assert config["versions"]["torch"] in torch.__version__
    for name in ("log.jsonl", "timing.jsonl", "report.html", "checkpoints/best.safetensors"):
        assert (run / name).stat().st_size > 0
    assert {path.name for path in (run / "pipeline").iterdir()} == {"config.json", "model.safetensors"}


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty"):
        train(out=tmp_path / "run", data=tmp_path / "empty")
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.slow
def test_a_missing_partner_is_named_and_the_rest_trains(pairs: Path, tmp_path: Path) -> None:
    (pairs / "color" / "3.png").unlink()
    with pytest.warns(UserWarning, match=r"\b3\b"):
        run = train(out=tmp_path / "run", **two_folders(pairs), **ALONE)
    assert (run / "pipeline" / "model.safetensors").exists()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_damaged_pictures_are_named_counted_and_left_out(pairs: Path, tmp_path: Path, workers: int) -> None:
    whole = (pairs / "color" / "5.png").read_bytes()
    (pairs / "color" / "5.png").write_bytes(whole[: len(whole) // 2])
    (pairs / "color" / "7.png").write_text("no picture at all")
    run = train(out=tmp_path / "run", **two_folders(pairs), **{**ALONE, "generator_steps": 10}, workers=workers)
    named = (run / "skipped.txt").read_text().split()
    assert set(named) <= {"5", "7", "5.png", "7.png"}
    assert len(named) == 2
    assert (run / "pipeline" / "model.safetensors").exists()


def test_no_readable_picture_ends_the_run_at_once(pairs: Path, tmp_path: Path) -> None:
    for path in (pairs / "color").iterdir():
        path.write_text("no picture at all")
    with pytest.raises(DataError, match="none of the"):
        train(out=tmp_path / "run", **two_folders(pairs))


@pytest.mark.slow
def test_pictures_smaller_than_the_crop_are_named_and_enlarged(pairs: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"48x48, smaller than the crop of 64"):
        run = train(out=tmp_path / "run", size=64, **two_folders(pairs))
    assert (run / "pipeline" / "model.safetensors").exists()


@pytest.mark.parametrize("size", [0, -3, 4, 10])
def test_a_size_that_does_not_fit_is_refused(pairs: Path, tmp_path: Path, size: int) -> None:
    with pytest.raises(UserError, match=f"--size {size}: expected 11 or more"):
        train(out=tmp_path / "run", size=size, **two_folders(pairs))


def test_a_size_that_the_critic_cannot_judge_is_refused_before_anything_is_learned(
    pairs: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"--size 12: the critic needs 16 pixels or more, with --critic-shrink 4"):
        train(out=tmp_path / "run", size=12, **two_folders(pairs))
    assert not (tmp_path / "run").exists()


def test_a_wrong_weights_file_is_refused(pairs: Path, tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"other\.pth"):
        train(out=tmp_path / "run", weights=str(tmp_path / "other.pth"), **two_folders(pairs))


def test_a_taken_folder_is_refused_with_what_differs(pairs: Path, tmp_path: Path) -> None:
    flags: dict[str, Any] = {**two_folders(pairs), **ALONE}
    run = train(out=tmp_path / "run", **flags)
    before = (run / "log.jsonl").read_bytes()
    with pytest.raises(RunError, match=r"another configuration \(--lr was 0\.001 and is 0\.5"):
        train(out=run, lr=0.5, **flags)
    with pytest.raises(RunError, match=r"with these flags.*--resume"):
        train(out=run, **flags)
    with pytest.raises(RunError, match=r"other flags: --lr was 0\.001 and is 0\.5.*--allow-changes"):
        train(out=run, lr=0.5, resume=True, **flags)
    assert (run / "log.jsonl").read_bytes() == before


@pytest.mark.slow
def test_changes_that_are_allowed_are_listed_and_kept(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(out=tmp_path / "run", **two_folders(pairs))
    capsys.readouterr()
    train(out=run, lr=0.5, resume=True, allow_changes=True, **two_folders(pairs))
    told = capsys.readouterr().err
    assert "going on in" in told
    assert "--lr was 0.001 and is 0.5" in told
    assert "was finished already, all" in told
    assert json.loads((run / "config.json").read_text())["changes"] == [["--lr was 0.001 and is 0.5"]]


@pytest.mark.slow
def test_a_run_of_an_older_gangen_is_not_resumed_by_other_rules(pairs: Path, tmp_path: Path) -> None:
    run = train(out=tmp_path / "run", **two_folders(pairs))
    config = json.loads((run / "config.json").read_text())
    del config["flags"]["critic_shrink"]
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunError, match=r"--critic-shrink did not exist when .* the older gangen"):
        train(out=run, resume=True, **two_folders(pairs))


@pytest.mark.slow
def test_resume_needs_a_run_and_its_own_data(pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no run"):
        train(out=tmp_path / "nothing", resume=True, **two_folders(pairs))
    run = train(out=tmp_path / "run", **two_folders(pairs))
    shutil.copy(pairs / "color" / "1.png", pairs / "color" / "new.png")
    shutil.copy(pairs / "sketch" / "1.png", pairs / "sketch" / "new.png")
    with pytest.raises(RunError, match=r"not all is as .*config\.json says: data was .*--allow-changes"):
        train(out=run, resume=True, **two_folders(pairs))


@pytest.mark.slow
def test_resume_needs_the_pictures_that_judged_before(tmp_path: Path) -> None:
    """The best of numbers that were measured on different pictures would be the best of nothing."""
    for part in ("train", "val"):
        write_pairs(tmp_path / "pairs" / part)
    flags = {**two_folders(tmp_path / "pairs"), "out": tmp_path / "run"}
    run = train(**flags)
    for folder in ("sketch", "color"):
        (tmp_path / "pairs" / "val" / folder / "3.png").unlink()
    with pytest.raises(RunError, match=r"not all is as .*config\.json says: held_out was .*--allow-changes"):
        train(resume=True, **flags)
    config = json.loads((run / "config.json").read_text())
    del config["held_out"]  # as in runs of before it was told
    (run / "config.json").write_text(json.dumps(config))
    train(resume=True, **flags)


@pytest.mark.slow
@pytest.mark.parametrize("launch", ["monday", "none"])
def test_restarted_by_its_launcher_it_goes_on_with_its_run(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launch: str
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", launch)
    run = train(out=tmp_path / "run", **two_folders(pairs))  # it had died before it had a run
    before = (run / "log.jsonl").read_bytes()
    train(out=run, **two_folders(pairs))
    assert (run / "log.jsonl").read_bytes() == before
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "tuesday")  # another launch, which was refused at first too
    with pytest.raises(RunError, match="already holds a run"):
        train(out=run, **two_folders(pairs))


def test_a_launch_without_a_name_is_its_launchers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert launched() is None
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    ours = launched()
    assert ours == launched()
    monkeypatch.setattr("os.getppid", os.getpid)
    assert launched() not in (None, ours)


def test_without_out_each_run_gets_a_folder_of_its_own(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder, held = free_folder("paint")
    assert folder == Path("runs/paint")
    with elsewhere(f"claim({str(tmp_path / 'runs' / 'paint-2')!r})"):
        Path("runs/paint/config.json").write_text("{}")
        assert free_folder("paint")[0] == Path("runs/paint-3"), "the second is being started by another process"
    assert free_folder("paint")[0] == Path("runs/paint-2")
    del held


@pytest.mark.slow
def test_a_network_of_ones_own_leaves_its_weights(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("gangen.recipe.keeping.NETWORKS", {})
    run = train(out=tmp_path / "run", **two_folders(pairs))
    assert not (run / "pipeline").exists()
    assert (run / "report.html").exists()
    told = capsys.readouterr().err
    assert "UNet is none of gangen's networks" in told
    assert "gangen predict" not in told
    network = UNet(Body("resnet18", "none"), ImageHead(3, headroom=0.35), norm="skips", bottleneck=True)
    assert load_model(network, run / "generator.safetensors") == (set(), [])


def test_processes_that_found_different_data_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from gangen.recipe import run

    others = {"data": "abc", "body": {"kind": "none"}}
    monkeypatch.setattr(run, "gather_object", lambda mine: [*mine, others])
    run._check_alike({"data": "abc", "body": {"kind": "none", "path": "elsewhere"}})
    with pytest.raises(UserError, match=r"process 1 has other data and body .* every machine the same data"):
        run._check_alike({"data": "xyz", "body": {"kind": "imagenet", "path": None}})


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (
            {"generator_steps": 0, "critic_steps": 0, "adversarial_steps": 0},
            "nothing to train: no phase has a step",
        ),
        ({"validate_every": -1}, "--validate-every -1: expected 0 or more"),
        ({"early_share": 0}, "--early-share 0: a share of --lr is above 0 and at most 1"),
        ({"early_share": 1.5}, "--early-share 1.5: a share of --lr is above 0 and at most 1"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(pairs: Path, tmp_path: Path, flags: Any, told: str) -> None:
    with pytest.raises(UserError, match=told):
        train(out=tmp_path / "run", **two_folders(pairs), **flags)


def test_data_of_no_name_is_not_every_picture_below_this_folder(tmp_path: Path) -> None:
    """As in --data "$DATA" where nobody has set DATA."""
    with pytest.raises(UserError, match="--data is empty"):
        train(out=tmp_path / "run", data="")


def test_errors_reach_the_console_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data", str(tmp_path / "nowhere"), "--out", str(tmp_path / "run"), "--weights", "none"]
    # This process goes on with other tests, whose results may differ by rounding with other threads
    monkeypatch.setattr(sys, "argv", [str(RECIPE), *words, "--threads", "1"])
    with pytest.raises(SystemExit) as done:
        runpy.run_path(str(RECIPE), run_name="__main__")
    assert done.value.code == 2
    told = capsys.readouterr().err
    assert "error: " in told
    assert "nowhere" in told
    assert "Traceback" not in told


@pytest.mark.slow
def test_tensorboard_gets_numbers_and_pictures(pairs: Path, tmp_path: Path) -> None:
    run = train(out=tmp_path / "run", track=("tensorboard",), **two_folders(pairs))
    events = list(run.rglob("events.out.tfevents.*"))
    content = b"".join(path.read_bytes() for path in events)
    assert b"generator/pixel" in content
    assert b"validation/l1" in content
    assert b"\x89PNG" in content or b"samples" in content


def test_an_unknown_tracker_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--track abacus: no such tracker.*tensorboard.*wandb"):
        train(out=tmp_path / "run", track=("abacus",))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 600 MiB; needs the right to mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(mount, check=False).returncode:
        pytest.skip("needs the right to mount a tmpfs (root)")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_is_named_and_the_last_checkpoint_stays(pairs: Path, tmp_path: Path, small_disk: Path) -> None:
    """600 MiB hold one checkpoint of this generator and critic (up to 360 MB), but not two."""
    steps = {"generator_steps": 3, "critic_steps": 1, "adversarial_steps": 2, "save_every": 1}
    with pytest.raises(RunError, match=r"cannot write .*step-0.*MiB free.*make room.*--resume"):
        train(out=small_disk / "run", **two_folders(pairs), **steps)
    kept = list((small_disk / "run" / "checkpoints").iterdir())
    assert [path.suffix for path in kept if path.name.startswith("step-")] == [".pt"]
    assert not [path for path in kept if path.name.endswith(".tmp")]
    # Room is made by taking the run elsewhere; there it goes on, to the end that it would have had.
    shutil.copytree(small_disk / "run", tmp_path / "moved")
    resumed = train(out=tmp_path / "moved", resume=True, **two_folders(pairs), **steps)
    whole = train(out=tmp_path / "whole", **two_folders(pairs), **steps)
    assert (resumed / "log.jsonl").read_bytes() == (whole / "log.jsonl").read_bytes()
    one, other = ((run / "pipeline" / "model.safetensors").read_bytes() for run in (resumed, whole))
    assert one == other


def command(out: Path, pairs: Path, **flags: Any) -> list[str]:
    """The recipe's command line, with short phases."""
    words = [sys.executable, str(RECIPE), "--out", str(out)]
    for name, value in {**SHORT, **two_folders(pairs), **flags}.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    return words


LONGER = {"generator_steps": 40, "log_every": 5, "save_every": 0}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """Pairs, and the log of a training on them that nothing disturbed."""
    root = tmp_path_factory.mktemp("whole")
    pairs = write_pairs(root / "pairs")
    run = train(out=root / "run", **two_folders(pairs), **LONGER)
    return pairs, (run / "log.jsonl").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "workers"), [(signal.SIGTERM, 1), (signal.SIGINT, 0)])
def test_a_signal_saves_exits_and_the_same_command_goes_on(
    whole: tuple[Path, bytes], tmp_path: Path, number: signal.Signals, workers: int
) -> None:
    (pairs, log), run = whole, tmp_path / "run"
    flags = {**LONGER, "workers": workers}
    training = subprocess.Popen(
        command(run, pairs, **flags), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    for _ in range(600):
        if (run / "log.jsonl").exists() and '"train"' in (run / "log.jsonl").read_text():
            break
        time.sleep(0.1)
    # To the whole group, as a terminal's Ctrl-C and a batch system's end come.
    os.killpg(training.pid, number)
    told = training.communicate(timeout=60)[1]
    assert training.returncode == 128 + number, told[-2000:]
    assert "Saved. The same command with --resume" in told
    assert len(list((run / "checkpoints").glob("step-*.pt"))) == 1
    painter = Pipeline.from_pretrained(run)  # of what was learned so far
    assert painter.config["task"] == "sketch-to-image"
    done = forked(*command(run, pairs, **flags)[1:], "--resume")
    assert done.returncode == 0, done.stderr[-2000:]
    assert (run / "log.jsonl").read_bytes() == log


@pytest.mark.slow
def test_wandb_without_a_login_records_offline_and_says_so(pairs: Path, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    done = subprocess.run(
        [*command(tmp_path / "run", pairs), "--track", "wandb"],
        env={**environment, "HOME": str(tmp_path), "NETRC": str(tmp_path / "netrc")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "wandb: no login found, so it records offline" in done.stderr
    (recorded,) = (tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb")
    content = recorded.read_bytes()
    assert b"generator/pixel" in content
    assert b"validation/l1" in content


@pytest.mark.slow
def test_bfloat16_trains_and_is_recorded(pairs: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = forked(*command(run, pairs, precision="bf16", generator_steps=4)[1:], "--log-every", "2")
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((run / "config.json").read_text())["precision"] == "bf16"
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    pixel = [record["generator/pixel"] for record in records if "generator/pixel" in record]
    assert all(0 < value < 2 for value in pixel)
    # Weights stay in float32; only the arithmetic is in bfloat16.
    weights = load_file(run / "pipeline" / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} <= {torch.float32, torch.int64}
