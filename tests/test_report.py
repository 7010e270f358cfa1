import itertools
import json
import re
import shutil
import subprocess
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from gangen.errors import RunError
from gangen.report import grids, lanes, phase_table, write_report
from gangen.report.curves import Curve
from gangen.report.history import read_history
from tests.fake_run import write_fake_run, write_log

EVIL = '<img src=x onerror="document.title=1">'


class Page(HTMLParser):
    """Collects what a browser would see: elements with their attributes, and the text of scripts."""

    def __init__(self, source: Path | str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self.words = ""
        self.text = source if isinstance(source, str) else source.read_text(encoding="utf-8")
        self._within = ""
        self.feed(self.text)
        self.data = json.loads(self.texts["data"])

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._within = tag

    def handle_endtag(self, tag):
        self._within = ""

    def handle_data(self, text):
        if self._within in ("script", "style"):
            name = self.elements[-1][1].get("id") or self._within
            self.texts[name] = self.texts.get(name, "") + text
        else:
            self.words += text

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def curve(self, plot: str, name: str) -> dict:
        plots = [plot for group in self.data["groups"] for plot in group["plots"]]
        curves = next(each for each in plots if each["title"] == plot)["curves"]
        return next(curve for curve in curves if curve["name"] == name)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_fake_run(tmp_path_factory.mktemp("runs") / "first")


@pytest.fixture(scope="module")
def page(run):
    return Page(write_report(run))


def train(step, total, phase="only", turn=("generator",), **terms):
    return {"event": "train", "phase": phase, "step": step, "total": total, "turn": list(turn)} | {
        f"generator/{name}": value for name, value in terms.items()
    }


def begin(phase="only", steps=100, total=0, players=("generator",)):
    return {"event": "phase", "phase": phase, "index": 0, "step": 0, "steps": steps, "total": total,
            "players": list(players)}  # fmt: skip


def test_one_file_that_loads_nothing(page):
    addresses = [
        value for _, attributes in page.elements for name, value in attributes.items()
        if name in ("src", "href", "action", "data", "srcset", "poster")
    ]  # fmt: skip
    assert addresses
    assert all(address.startswith("data:image/") for address in addresses)
    assert not page.all("link")
    assert "url(" not in page.texts["style"]
    assert "@import" not in page.texts["style"]
    assert set(re.findall(r"https?://[^\"'\s]*", page.text)) == {"http://www.w3.org/2000/svg"}
    policy = next(meta["content"] for meta in page.all("meta") if "Content-Security-Policy" in str(meta))
    assert policy.startswith("default-src 'none'")


def test_every_term_metric_and_time_has_a_curve(page):
    assert page.curve("psnr", "psnr")["x"] == list(range(100, 2401, 100))
    assert len(page.curve("generator: terms", "perceptual")["x"]) > 100
    assert page.curve("saturation", "saturation_target")["dashed"]
    for plot, name in [
        ("loss", "generator"), ("loss", "critic"), ("critic: terms", "adversarial"), ("learning rate", "critic"),
        ("gradient norm", "generator"), ("pictures per second", "training"),
        ("share of the time spent waiting for data", "waiting"),
    ]:  # fmt: skip
        assert any(value is not None for value in page.curve(plot, name)["y"])


def test_a_curve_is_not_joined_over_a_phase_in_which_it_rested(page):
    curve = page.curve("loss", "generator")
    between = [y for x, y in zip(curve["x"], curve["y"], strict=True) if 1200 <= x <= 1500]
    assert None in between


def test_phases_are_bands_and_rows(page):
    assert page.data["phases"] == [
        {"name": "pretrain-generator", "start": 0, "end": 1200},
        {"name": "pretrain-critic", "start": 1200, "end": 1500},
        {"name": "adversarial", "start": 1500, "end": 2400},
    ]
    assert "2 min 12 s" in page.words  # 1200 steps of 0.11 s
    assert "finished" in page.words


def test_the_lanes_show_who_learned(run, page):
    generator, critic = page.data["lanes"]
    assert (generator["name"], critic["name"]) == ("generator", "critic")
    assert generator["spans"][0] == [0, 1200, 1]
    assert critic["spans"][0] == [1200, 1500, 1]
    late = sorted(span[:2] for lane in (generator, critic) for span in lane["spans"] if span[0] >= 1500)
    assert late[0][0] == 1500
    assert late[-1][1] == 2400
    assert all(one[1] == other[0] for one, other in itertools.pairwise(late))  # one player at a time
    first = next(json.loads(line) for line in (run / "log.jsonl").read_text().splitlines() if '"turn",' in line)
    assert first["reason"] in page.words


def test_a_turn_before_the_first_line_of_numbers_is_not_lost(tmp_path):
    players = ["critic", "generator"]
    turn = {"event": "turn", "phase": "only", "step": 4, "total": 4, "to": ["generator"], "reason": "enough"}
    write_log(tmp_path, [begin(players=players), turn, train(10, 10, turn=["generator"])])
    drawn = Page(write_report(tmp_path)).data["lanes"]
    assert drawn == [{"name": "critic", "spans": [[0, 4, 1]]}, {"name": "generator", "spans": [[4, 10, 1]]}]


def test_many_turns_become_shares(monkeypatch, run):
    history = read_history(run)
    exact = sum(end - start for start, end, _ in lanes.lanes(history)[0]["spans"])
    monkeypatch.setattr(lanes, "SPANS", 40)
    shared = lanes.lanes(history)[0]["spans"]
    assert len(shared) <= 40
    assert any(0 < share < 1 for _, _, share in shared)
    assert sum((end - start) * share for start, end, share in shared) == pytest.approx(exact, rel=1e-4)


def test_grids_are_embedded_and_named(page):
    figures = page.all("figure")
    assert len(figures) == len(page.all("img")) == 12
    assert [int(figure["data-total"]) for figure in figures][:2] == [1, 220]
    assert figures[-1]["data-name"] == "step 2,400 · adversarial, step 900 of it"
    assert [("hidden" in figure) for figure in figures] == [True] * 11 + [False]
    assert all(image["src"].startswith("data:image/webp;base64,") for image in page.all("img"))


@pytest.mark.slow
def test_grids_are_thinned_to_a_number_and_to_a_size(monkeypatch, tmp_path):
    run = write_fake_run(tmp_path, grids=45)
    samples = read_history(run).samples
    found, unreadable = grids.embed_grids(run, samples)
    assert len(found) == grids.GRIDS
    assert unreadable == 0
    monkeypatch.setattr(grids, "BYTES", 50_000)
    few, _ = grids.embed_grids(run, samples)
    assert 2 <= len(few) < 30
    assert sum(len(grid.address) for grid in few) * 3 / 4 < 60_000
    for kept in (found, few):
        assert (kept[0].sample, kept[-1].sample) == (samples[0], samples[-1])


def test_the_ways_stand_beside_the_grid_of_their_step(tmp_path):
    for name, side in (("grid.png", 40), ("ways.png", 30), ("last.png", 50)):
        Image.new("RGB", (side, side)).save(tmp_path / name)
    place = {"phase": "only", "step": 5, "total": 5}
    lines = [
        begin(),
        {"event": "samples", **place, "file": "grid.png"},
        {"event": "between", **place, "file": "ways.png"},
        {"event": "samples", **place, "step": 9, "total": 9, "file": "last.png"},
    ]
    write_log(tmp_path, lines)
    page = Page(write_report(tmp_path))
    assert len(page.all("figure")) == 2
    shown = [(image["width"], image["alt"]) for image in page.all("img")]
    assert shown == [
        ("40", "Samples at step 5 · only"),
        ("30", "Ways between them at step 5 · only"),
        ("50", "Samples at step 9 · only"),
    ]


def test_the_baseline_is_a_row_and_a_level_line(tmp_path):
    measured = {"phase": "only", "step": 0, "total": 0, "psnr": 21.5, "lpips": 0.25}
    learned = {"event": "validation", "phase": "only", "step": 30, "total": 30, "psnr": 24.0, "lpips": 0.125}
    write_log(tmp_path, [begin(), {"event": "baseline", **measured}, train(30, 30), learned])
    _, baseline, phase = phase_table(tmp_path).splitlines()
    assert baseline.split() == ["baseline", "–", "–", "21.5", "0.25"]
    assert phase.split()[-2:] == ["24", "0.125"]
    page = Page(write_report(tmp_path))
    level = page.curve("psnr", "baseline")
    assert (level["x"], level["y"], level["dashed"]) == ([0, 30], [21.5, 21.5], True)
    assert [text for text in ("baseline", "21.5", "24") if text not in page.words] == []


def test_a_wide_or_tall_grid_is_shrunk(tmp_path):
    Image.new("RGB", (4000, 500)).save(tmp_path / "wide.png")
    write_log(
        tmp_path, [begin(), {"event": "samples", "phase": "only", "step": 1, "total": 1, "file": "wide.png"}]
    )
    image = Page(write_report(tmp_path)).all("img")[0]
    assert (image["width"], image["height"]) == ("1600", "200")
    Image.new("RGB", (100, 20000)).save(tmp_path / "wide.png")  # taller than WebP can be
    image = Page(write_report(tmp_path)).all("img")[0]
    assert (image["width"], image["height"]) == ("80", "16000")


def test_samples_that_are_missing_damaged_or_outside_are_told(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "outside.png")
    run = tmp_path / "run"
    run.mkdir()
    (run / "broken.png").write_bytes(b"no picture")
    names = ["missing.png", "broken.png", "../outside.png", str(tmp_path / "outside.png")]
    samples = [
        {"event": "samples", "phase": "only", "step": k, "total": k, "file": name} for k, name in enumerate(names)
    ]
    write_log(run, [begin(), *samples])
    page = Page(write_report(run))
    assert not page.all("img")
    assert "4 sample grids could not be read" in page.words


def test_names_cannot_become_markup(tmp_path):
    config = {"recipe": EVIL, "command": f"python {EVIL}", "flags": {EVIL: EVIL, "end": "</script><b>"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    Image.new("RGB", (8, 8)).save(tmp_path / "grid.png")
    write_log(tmp_path, [
        begin(f"{EVIL}</script>", players=[EVIL]),
        train(10, 10, phase=EVIL, turn=[EVIL]) | {f"{EVIL}/</script>{EVIL}": 1.0},
        {"event": "turn", "phase": EVIL, "step": 10, "total": 10, "to": [EVIL], "reason": EVIL},
        {"event": "validation", "phase": EVIL, "step": 10, "total": 10, f"</script>{EVIL}": 1.0},
        {"event": "samples", "phase": EVIL, "step": 10, "total": 10, "file": "grid.png"},
    ])  # fmt: skip
    page = Page(write_report(tmp_path))
    assert len(page.all("script")) == 2
    assert len(page.all("img")) == 1
    assert not set("<>&") & set(page.texts["data"])
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert EVIL in page.words  # it is shown, as text
    assert any(EVIL in plot["title"] for group in page.data["groups"] for plot in group["plots"])


def test_a_training_that_still_goes_on(run, tmp_path):
    text = (run / "log.jsonl").read_text()
    cut = text.index('"total": 1700')
    (tmp_path / "log.jsonl").write_text(text[: cut + 9])  # mid-line, without config, timing or samples
    page = Page(write_report(tmp_path))
    assert "not finished: adversarial" in page.words
    assert page.data["phases"][-1] == {"name": "adversarial", "start": 1500, "end": page.data["total"]}
    assert 1680 <= page.data["total"] <= 1700
    assert "lines of the log could not be read" not in page.words
    assert "config.json cannot be read" in page.words


def test_damaged_lines_are_counted(tmp_path):
    write_log(tmp_path, [begin(), train(10, 10, pixel=0.5)])
    with (tmp_path / "log.jsonl").open("ab") as log:
        log.write(b'\xff\xfe nonsense\n[1, 2]\n{"event": "train", "total": 20, "generator/pixel": 0.4}\n{"half')
    page = Page(write_report(tmp_path))
    assert "1 lines of the log could not be read" in page.words
    assert page.curve("generator: terms", "pixel")["y"] == [0.5, 0.4]


@pytest.mark.parametrize("lines", [[], [begin()], [begin(), train(1, 1)]])
def test_a_training_that_has_hardly_begun(tmp_path, lines):
    write_log(tmp_path, lines)
    page = Page(write_report(tmp_path))
    assert page.data["groups"] == []
    assert "not finished" in page.words


def test_nan_null_and_infinity_are_gaps(tmp_path):
    values = [0.5, float("nan"), None, float("inf"), 0.4]
    write_log(tmp_path, [begin(), *(train(k, k, pixel=value) for k, value in enumerate(values, start=1))])
    curve = Page(write_report(tmp_path)).curve("generator: terms", "pixel")
    assert curve["x"] == [1, 2, 3, 4, 5]
    assert curve["y"] == [0.5, None, None, None, 0.4]


def test_a_resumed_training_tells_steps_again_and_the_second_telling_counts(tmp_path):
    validation = {"event": "validation", "phase": "only", "step": 30, "total": 30, "l1": 9.0}
    stale = [train(k, k, pixel=float(k)) for k in (10, 20, 30, 40)]
    again = [train(k, k, pixel=100.0 + k) for k in (30, 40, 50)]
    write_log(tmp_path, [begin(), *stale[:3], validation, stale[3], {"event": "interrupted", "total": 40},
                         begin(), *again])  # fmt: skip
    history = read_history(tmp_path)
    assert history.terms["generator/pixel"].drawn() == {"x": [10, 20, 30, 40, 50], "y": [10, 20, 130, 140, 150]}
    assert not list(history.metrics["l1"].values)
    assert len(history.phases) == 1
    assert history.state == "training"


def test_interrupted_is_told(tmp_path):
    write_log(
        tmp_path, [begin(), train(10, 10), {"event": "interrupted", "phase": "only", "step": 13, "total": 13}]
    )
    page = Page(write_report(tmp_path))
    assert "interrupted: only" in page.words
    assert "13 of 100" in page.words


def test_thinning_keeps_extremes_gaps_ends_and_means():
    curve = Curve()
    for step in range(100_000):
        spike = {31_415: 50.0, 27_182: -50.0, 60_000: None}
        curve.add(step, spike.get(step, float(step % 2)))
    drawn = curve.drawn(900)
    assert len(drawn["x"]) < 1000
    assert (drawn["x"][0], drawn["x"][-1]) == (0, 99_999)
    assert drawn["y"][drawn["x"].index(31_415)] == 50
    assert drawn["y"][drawn["x"].index(27_182)] == -50
    assert drawn["y"][drawn["x"].index(60_000)] is None
    assert drawn["x"] == sorted(drawn["x"])
    ordinary = [value for value in drawn["mean"]["y"] if abs(value - 0.5) < 0.01]
    assert len(ordinary) >= len(drawn["mean"]["y"]) - 2


def test_a_long_log_makes_a_small_page_soon(tmp_path):
    terms = {"generator/pixel": 0.123456789, "generator/loss": 0.2, "critic/loss": 0.3}
    with (tmp_path / "log.jsonl").open("w") as log:
        log.write(json.dumps(begin(steps=10**6)) + "\n")
        for step in range(1, 100_001):
            log.write(json.dumps({"event": "train", "step": step, "total": step, **terms}) + "\n")
    began = time.monotonic()
    path = write_report(tmp_path)
    assert time.monotonic() - began < 15
    assert path.stat().st_size < 300_000


def test_settings_and_commands_are_there(page):
    for text in ["steps.adversarial", "critic_threshold", "0.65", "resnet18", "fingerprint", "9b1c55e0f2"]:
        assert text in page.words


def test_commands_to_do_it_again_and_to_go_on(page, run, tmp_path):
    command = "python recipes/sketch_to_image.py --data photos --out runs/first --size 64"
    assert command.replace("first", "first-again") in page.words  # the run's own folder is taken
    assert f"{command} --resume" in page.words
    shutil.copy(run / "log.jsonl", tmp_path)
    for kind, launched in (
        ("cpu", "ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2"),
        ("cuda", "accelerate launch --multi_gpu --num_processes 2"),
    ):
        config = {"command": "python train.py --out=x", "machine": {"processes": 2, "type": kind}}
        (tmp_path / "config.json").write_text(json.dumps(config))
        words = Page(write_report(tmp_path)).words
        assert f"{launched} train.py --out x-again" in words
        assert f"{launched} train.py --out x --resume" in words
    (tmp_path / "config.json").write_text(json.dumps({"command": "python train.py --data 'my photos' --resume"}))
    words = Page(write_report(tmp_path)).words
    assert "python train.py --data 'my photos'Copy" in words
    assert f"python train.py --data 'my photos' --out {tmp_path} --resume" in words


def test_the_table_for_a_terminal(run):
    head, *rows = phase_table(run).splitlines()
    assert head.split() == ["Phase", "Steps", "Time", "l1", "psnr", "ssim", "saturation", "saturation_target"]
    assert [row.split()[0] for row in rows] == ["pretrain-generator", "pretrain-critic", "adversarial"]
    assert rows[0].split()[1:6] == ["1,200", "2", "min", "12", "s"]
    assert len({len(row) for row in rows}) == 1
    validations = [json.loads(line) for line in (run / "log.jsonl").open() if '"validation"' in line]
    assert f"{validations[-1]['psnr']:.4g}" in rows[2]


def test_a_folder_without_a_log_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"no log\.jsonl.*--out"):
        write_report(tmp_path)


def test_an_older_report_is_replaced_and_nothing_else_is_left(run):
    (run / "report.html").write_text("old")
    write_report(run)
    assert (run / "report.html").stat().st_size > 50_000
    assert sorted(path.name for path in run.iterdir()) == [
        "config.json", "log.jsonl", "report.html", "samples", "timing.jsonl"
    ]  # fmt: skip


def browse(path: Path, profile: Path) -> str:
    """Return the page's DOM after its script has run in a real browser, with what the console said."""
    chromium = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None
    )
    if chromium is None:
        pytest.skip("no chromium or chrome on PATH: the page's script is not run")
    quiet = ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    flags = ["--headless", "--no-sandbox", "--disable-gpu", *quiet, f"--user-data-dir={profile}", "--dump-dom"]
    flags += ["--enable-logging=stderr", "--virtual-time-budget=3000", "--window-size=1300,2000"]
    done = subprocess.run([chromium, *flags, path.resolve().as_uri()], capture_output=True, text=True, timeout=90)
    assert "CONSOLE" not in done.stderr, [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return done.stdout


def test_a_browser_draws_the_curves(run, tmp_path):
    dom = browse(write_report(run), tmp_path)
    assert dom.count('class="plot"') == 11
    drawn = re.findall(r'<path class="curve t\d ([a-z]*)" d="([^"]*)"', dom)
    assert sum(len(d) > 50 for _, d in drawn) >= 16
    assert not any(bad in d for _, d in drawn for bad in ("NaN", "Infinity", "undefined"))
    assert "pretrain-generator</text>" in dom
    assert len(re.findall(r'class="lane t[01]"', dom)) > 11 * 80
    assert "step 2,400 · adversarial, step 900 of it</output>" in dom


def test_a_browser_shows_bad_names_and_gaps_as_text(tmp_path):
    run = tmp_path / "run"
    lines = [begin(EVIL, players=[EVIL])]
    lines += [train(k, k, phase=EVIL) | {f"{EVIL}/{EVIL}": None if k == 5 else 1.0 / k} for k in range(1, 10)]
    write_log(run, lines)
    dom = browse(write_report(run), tmp_path / "profile")
    assert "<img" not in dom
    assert "&lt;img src=x" in dom
    path = re.search(r'<path class="curve t0 " d="([^"]*)"', dom)
    assert path
    assert path[1].count("M") == 2  # the gap breaks the line


def test_a_browser_answers_to_hand(run, tmp_path):
    text = write_report(run).read_text()
    policy = re.search(r'<meta http-equiv="Content-Security-Policy"[^>]*>', text)
    hand = """
    const told = (name, value) => { document.body.dataset[name] = value; };
    const press = (key) => document.dispatchEvent(new KeyboardEvent("keydown", { key }));
    press("ArrowLeft"); press("ArrowLeft");
    told("sample", document.getElementById("sample-name").textContent);
    told("shown", [...document.querySelectorAll("figure")].map((each) => (each.hidden ? 0 : 1)).join(""));
    const svg = document.querySelector(".plot svg"), box = svg.getBoundingClientRect();
    const point = (kind, share) => {
      const clientX = box.left + 54 + share * (box.width - 64);
      svg.dispatchEvent(new MouseEvent(kind, { clientX, clientY: box.top + 50, bubbles: true }));
    };
    point("pointermove", 0.26);
    told("hovered", document.querySelector(".legend i").textContent);
    point("pointerleave", 0.26);
    const before = document.querySelector(".curve").getAttribute("d");
    document.querySelector(".plot .head button").click();
    told("log", before !== document.querySelector(".curve").getAttribute("d"));
    point("pointerdown", 0.5); point("pointermove", 0.75); point("pointerup", 0.75);
    told("zoomed", [view.from, view.to].map(Math.round));
    point("dblclick", 0.5);
    told("whole", [view.from, view.to]);
    point("pointerdown", 0); point("pointerup", 0);
    told("clicked", document.getElementById("sample-name").textContent);
    const search = document.getElementById("search");
    search.value = "critic 0.65";
    search.dispatchEvent(new Event("input"));
    const rows = [...document.querySelectorAll(".settings tr")];
    told("found", rows.filter((row) => !row.hidden).map((row) => row.textContent));
    """
    played = tmp_path / "played.html"
    played.write_text(text.replace(policy[0], "").replace("</body>", f"<script>{{{hand}}}</script></body>"))
    body = Page(browse(played, tmp_path / "profile")).all("body")[0]
    told = {name.removeprefix("data-"): value for name, value in body.items()}
    assert told["sample"].startswith("step 1,960 · adversarial")
    assert told["shown"] == "000000000100"
    validations = [json.loads(line) for line in (run / "log.jsonl").open() if '"validation"' in line]
    assert told["hovered"] == f"{validations[5]['l1']:.4g}"  # step 600 of 2400
    assert told["log"] == "true"
    assert [int(total) for total in told["zoomed"].split(",")] == pytest.approx([1200, 1800], abs=6)
    assert told["whole"] == "0,2400"
    assert told["clicked"] == "step 1 · pretrain-generator"
    assert told["found"] == "critic_threshold0.65"
