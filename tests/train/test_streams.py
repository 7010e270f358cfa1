"""Trainings on streams: cut anywhere they go on to the same bits, alone and with several processes."""

import io
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gangen.data import Augment, Prepare, Raw, Stream, itself
from gangen.train import Alternate, Callback, Health, Trainer
from gangen.weights import fingerprint
from tests.conftest import ROOT
from tests.forked import forked
from tests.train.test_resume import Cut, final_state
from tests.train.toys import Game, differences

STEPS = (8, 6, 12)


class Dots:
    """Twelve chunks of some pictures of 8x8 pixels."""

    count = 12

    def read(self, chunk: int, start: int = 0, step: int = 1) -> Iterator[Raw]:
        for number in range(start, 3 + chunk % 4, step):
            content = io.BytesIO()
            Image.new("RGB", (8, 8), (20 * chunk, 40 * number, 90)).save(content, "PNG")
            yield Raw(f"{chunk}-{number}", (content.getvalue(),))

    def fingerprint(self) -> str:
        return "dots"


def dots() -> Stream:
    return Stream(Dots(), Prepare(Augment(8, jitter=0.2), itself), window=2)


def trainer(run: Path, *callbacks: Callback, **options: Any) -> Trainer:
    options = {"batch_size": 4, "log_every": 5, "save_every": 3, "seed": 1, **options}
    return Trainer(run, dots(), callbacks=callbacks, **options)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_training_on_a_stream_goes_on_to_the_same_bits(tmp_path: Path, workers: int) -> None:
    trainer(tmp_path / "whole", Callback(), workers=workers).fit(
        Game(Alternate(critic=2, generator=1), steps=STEPS).phases
    )
    for at in (2, 9, 13, 20):
        cut = trainer(tmp_path / "cut", Cut(at), workers=workers)
        with pytest.raises(ConnectionError):
            cut.fit(Game(Alternate(critic=2, generator=1), steps=STEPS).phases, resume=True)
    rest = trainer(tmp_path / "cut", Callback(), workers=workers)
    rest.fit(Game(Alternate(critic=2, generator=1), steps=STEPS).phases, resume=True)
    assert differences(final_state(tmp_path / "whole"), final_state(tmp_path / "cut")) == []


SCRIPT = """
import sys
from pathlib import Path
from gangen.train import Alternate, Callback, launch
from tests.train.test_resume import Cut
from tests.train.test_streams import STEPS, trainer
from tests.train.toys import Game, bits

out, cut = Path(sys.argv[1]), int(sys.argv[2])
accelerator = launch(threads=1)
game = Game(Alternate(critic=2, generator=1), steps=STEPS)
watch = Cut(cut) if cut >= 0 else Callback()
trainer(out, watch, batch_size=2, workers=1, accelerator=accelerator).fit(game.phases, resume=True)
"""


def run(out: Path, cut: int = -1, processes: int = 2) -> subprocess.CompletedProcess[str]:
    script = out.parent / "script.py"
    script.write_text(SCRIPT)
    return forked(str(script), str(out), str(cut), processes=processes)


@pytest.mark.slow
def test_two_processes_on_a_stream_go_on_to_the_same_bits(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr[-2000:]
    assert run(tmp_path / "cut", 17).returncode != 0
    assert (tmp_path / "cut" / "checkpoints").is_dir()
    rest = run(tmp_path / "cut")
    assert rest.returncode == 0, rest.stderr[-2000:]
    one, other = final_state(tmp_path / "whole"), final_state(tmp_path / "cut")
    assert differences(one, other) == []
    assert set(one["positions"][0]["places"]) == set(range(12))  # of the lanes of both processes


@pytest.mark.slow
def test_one_process_goes_on_where_two_were(tmp_path: Path) -> None:
    assert run(tmp_path / "run", 17).returncode != 0
    alone = run(tmp_path / "run", processes=1)
    assert alone.returncode == 0, alone.stderr[-2000:]
    assert "saved by 2 process(es), and 1 go on" in alone.stderr


@pytest.mark.slow
def test_a_recipe_learns_from_a_server(tmp_path: Path) -> None:
    """Packed photographs, read and streamed by the sketch recipe from a server; judged there, too."""
    pytest.importorskip("aiohttp", reason="fsspec needs it for https")
    from http.server import ThreadingHTTPServer
    from threading import Thread

    from gangen.data import pack
    from tests.data.pictures import landscape, write

    write(tmp_path / "pictures", [f"{n}.png" for n in range(40)], lambda number: landscape(number, (64, 48)))
    pack(tmp_path / "pictures", tmp_path / "shards", shard_size=20_000)
    server = ThreadingHTTPServer(("127.0.0.1", 0), ranges_of(tmp_path / "shards"))
    Thread(target=server.serve_forever, daemon=True).start()
    place = f"http://127.0.0.1:{server.server_address[1]}"
    ends = {}
    try:
        for name, data in (("far", place), ("near", str(tmp_path / "shards")), ("stream", f"stream:{place}")):
            flags = "--size 32 --batch-size 4 --weights none --generator-steps 6 --critic-steps 2 --workers 2"
            recipe = str(ROOT / "recipes" / "sketch_to_image.py"), "--data", data, *flags.split()
            out = tmp_path / name
            done = forked(*recipe, "--adversarial-steps", "4", "--out", str(out))
            assert done.returncode == 0, done.stderr[-3000:]
            ends[name] = fingerprint(out / "pipeline" / "model.safetensors")
    finally:
        server.shutdown()
    assert ends["far"] == ends["near"]
    assert ends["stream"] != ends["near"]  # in another order


def ranges_of(folder: Path) -> type:
    """A server of a folder's files by ranges of bytes, as storage behind a URL offers them."""
    from http.server import BaseHTTPRequestHandler

    class Files(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer(False)

        def do_GET(self) -> None:
            self.answer(True)

        def answer(self, with_body: bool) -> None:
            path = folder / self.path.strip("/")
            if not path.is_file():
                self.send_error(404)
                return
            content, size = path.read_bytes(), path.stat().st_size
            first, last, code = 0, size - 1, 200
            if "Range" in self.headers:
                begin, end = self.headers["Range"].removeprefix("bytes=").split("-")
                first, last, code = int(begin), min(int(end or last), size - 1), 206
            part = content[first : last + 1]
            self.send_response(code)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(part)))
            if code == 206:
                self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
            self.end_headers()
            if with_body:
                self.wfile.write(part)

        def log_message(self, *_: Any) -> None:
            pass

    return Files


def test_games_on_streams_are_watched(tmp_path: Path) -> None:
    trainer(tmp_path, Health(every=4)).fit(Game(Alternate(critic=2, generator=1), steps=(0, 0, 12)).phases)
    events = [json.loads(line)["event"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert "health" in events
