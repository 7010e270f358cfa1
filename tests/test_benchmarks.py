"""The programs of benchmarks/ run, and RESULTS.md says what they found."""

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import ROOT

BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> object:
    """Gives a program of benchmarks/ by its name, as a module."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def imported(name: str) -> ModuleType:
        monkeypatch.delitem(sys.modules, name, raising=False)
        return importlib.import_module(name)

    return imported


def test_the_page_of_results_is_what_was_measured(program) -> None:
    results = json.loads((BENCHMARKS / "RESULTS.json").read_text(encoding="utf-8"))
    assert {"imagenette", "camvid"} <= results.keys()  # docs/labels.md and samples/ send people there
    assert program("run").page(results) == (BENCHMARKS / "RESULTS.md").read_text(encoding="utf-8")
    for name, found in results.items():
        assert found["values"], name
        assert {"command", "machine", "commit", "date", "versions"} <= found["measured"].keys(), name
        assert "dirty" not in found["measured"]["commit"], name


def test_a_program_that_runs_again_replaces_its_own_results(program, tmp_path, monkeypatch) -> None:
    run = program("run")
    monkeypatch.setattr(run, "FOLDER", tmp_path)
    measured = {"command": "python x.py", "commit": "c", "date": "d", "versions": {"torch": "2"}}
    cpu, gpu = "AMD EPYC, 2 threads, no GPU", "AMD EPYC, 16 threads, NVIDIA H100"
    beside = "AMD EPYC, 16 threads, its GPU not used"
    told = (("unet", "first", cpu), ("limit", "other", cpu), ("unet", "on a GPU", gpu), ("unet", "second", beside))
    for name, text, machine in told:
        found = {"title": name, "measured": measured | {"machine": machine}, "text": text, "values": {"a": 1}}
        run.kept(name, found)
    page = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert "first" not in page
    assert page.index("other") < page.index("second") < page.index("## unet (GPU)") < page.index("on a GPU")
    assert list(json.loads((tmp_path / "RESULTS.json").read_text())) == ["limit", "unet", "unet (GPU)"]


def test_what_leaves_the_gpu_alone_says_so(program, monkeypatch) -> None:
    reporting = program("reporting")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "NVIDIA H100")
    assert reporting.machine().endswith("threads, NVIDIA H100")
    assert reporting.machine(on_cpu=True).endswith("threads, its GPU not used")


def test_every_program_is_there_and_says_what_it_measures(program, capsys: pytest.CaptureFixture[str]) -> None:
    run = program("run")
    run.main(run.Settings(list=True), [])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(run.PROGRAMS) + len(run.ON_DATA) >= 13
    assert all(len(line.split()) > 5 for line in lines)
    with pytest.raises(SystemExit, match="speed is no benchmark of these; there are: limit, unet"):
        run.main(run.Settings(programs=("speed",)), [])


def test_contestants_take_turns_and_the_first_round_does_not_count(program) -> None:
    timing, order = program("timing"), []

    def contestant(name: str, seconds: list[float]):
        def work() -> float:
            order.append(name)
            return seconds.pop(0)

        return work

    contestants = {"a": contestant("a", [9, 1, 2, 4]), "b": contestant("b", [9, 3, 4, 16])}
    found = timing.in_turn(contestants, rounds=3)
    assert "".join(order) == "abababab"
    assert found["a"].seconds == (1, 2, 4)
    ratio = found["a"].ratio(found["b"])
    assert (ratio.median, ratio.lowest, ratio.highest) == (3, 2, 4)


def test_where_memory_changes_each_works_untimed_right_before_it_is_timed(program, monkeypatch) -> None:
    timing, order = program("timing"), []
    monkeypatch.setattr(timing, "keep_freed_memory", lambda: order.append("keep"))
    monkeypatch.setattr(timing, "memory_as_it_comes", lambda: order.append("usual"))

    def contestant(name: str):
        def work() -> float:
            order.append(name)
            return order.count(name)

        return work

    names = ("ours", "theirs", "others")
    found = timing.in_turn({name: contestant(name) for name in names}, 1, 0, as_they_come=("theirs", "others"))
    assert order == ["keep", "ours", "ours", "usual", "theirs", "theirs", "others", "others"]
    assert {name: timed.seconds for name, timed in found.items()} == dict.fromkeys(names, (2,))


def test_the_limit_is_sought_in_both_kinds_of_numbers(program, monkeypatch, tmp_path) -> None:
    limit, sought = program("limit"), []

    def rates(seconds: float, dtype: object):
        sought.append((seconds, str(dtype)))
        return limit.Rates(1.0, 2.0, 3.0, 4.0)

    monkeypatch.setattr(limit, "rates", rates)
    monkeypatch.setattr(limit, "launch", lambda: None)  # sets threads, for all of this process
    limit.main(limit.Settings(out=tmp_path / "found.json"))
    assert sought == [(1.0, "torch.float32"), (1.0, "torch.bfloat16")]
    assert "| bfloat16 | 1 | 2 | 3 | 4 |" in json.loads((tmp_path / "found.json").read_text())["text"]


def test_more_processes_never_make_a_step_shorter(program) -> None:
    scale = program("scale")
    link = scale.Link(bandwidth=10.0, latency=1e-5)
    steps = [scale.step_among(count, 0.06, 100e6, link, 0.001) for count in (1, 2, 8, 64, 512)]
    seconds = [step["seconds"] for step in steps]
    assert steps[0] == {"seconds": 0.06, "averaging": 0, "waiting": 0}
    assert seconds == sorted(seconds)
    # A link that is slow enough hides nothing but what comes before the last bucket.
    slow = scale.step_among(2, 0.06, scale.BUCKET, scale.Link(0.001, 0.0), 0.0)
    assert slow["averaging"] == pytest.approx(scale.BUCKET / 1e6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("limit", "--seconds 0.01 --types float32"),
        ("overhead", "--rounds 6 --steps 2 --size 32 --batch-size 2"),
        ("data", "--seconds 0.01 --size 32 --recipes vanilla_gan --steps 30"),
        ("scale", "--body resnet18 --size 32 --batch-size 2 --steps 3 --rounds 1"),
        ("inference", "--body resnet18 --size 32 --batches 1 2 --picture 640 360 --tiles 256 --rounds 2"),
    ],
)
def test_a_program_measures_and_writes_down(name: str, flags: str, tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    words = [sys.executable, str(BENCHMARKS / f"{name}.py"), *flags.split(), "--out", str(out)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["measured"]["command"] == f"python benchmarks/{name}.py {flags}"
    assert found["text"] in done.stdout
    assert "|" in found["text"]
    assert "nan" not in found["text"]


def _judge(train, seed: int, metrics, cores: list) -> dict[str, float]:
    return {"l1": 0.1, "seconds": train(seed, Path())[0]}


def _seed(seed: int, run: Path) -> tuple[float, list]:
    if seed < 0:
        raise ValueError("no training from below")
    return float(seed), []


def _metrics() -> list:
    return []


def test_the_painter_that_is_timed_is_that_of_the_sketch_recipe() -> None:
    def options(path: Path) -> list[str]:
        calls = [
            node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)
        ]
        (made,) = [call for call in calls if ast.unparse(call.func) == "UNet"]
        return [ast.unparse(part) for part in (*made.args[1:], *made.keywords)]

    painter = options(BENCHMARKS / "playing.py")
    assert len(painter) == 3
    assert painter == options(ROOT / "recipes" / "sketch_to_image.py")


@pytest.mark.slow
def test_trainings_side_by_side_are_told_in_order_and_a_failed_one_ends_all(program, tmp_path) -> None:
    peers = program("peers")
    settings = peers.Runs(data=tmp_path, weights=tmp_path, seeds=(3, 1), lanes=1, out=tmp_path / "found.json")
    told = []
    peers.tell = lambda found, out: told.append(found)
    peers.train_and_judge = _judge
    contestants = {"gangen": _seed, "other": _seed}
    peers.compare(contestants, settings, _metrics, "Seeds", "None.")
    assert [(run["library"], run["seed"], run["seconds"]) for run in told[0].values["runs"]] == [
        ("gangen", 3, 3.0),
        ("other", 3, 3.0),
        ("gangen", 1, 1.0),
        ("other", 1, 1.0),
    ]
    settings.seeds = (-1, 2)
    with pytest.raises(ValueError, match="from below"):
        peers.compare(contestants, settings, _metrics, "Seeds", "None.")
    assert len(told) == 1


def test_lanes_have_equally_many_cores_of_their_own(program, monkeypatch) -> None:
    peers = program("peers")
    monkeypatch.setattr(peers.os, "sched_getaffinity", lambda process: {0, 1, 2, 5, 6}, raising=False)
    assert peers.shares(1) == [[]]
    assert peers.shares(2) == [[0, 1], [2, 5]]
    for impossible in (0, -1, 6):
        with pytest.raises(SystemExit, match="give 1 to 5"):
            peers.shares(impossible)
