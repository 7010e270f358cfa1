"""What reading costs from a folder, from shards of it, and from streams: pictures a second of one process.

    pip install "gangen[stream]"
    python benchmarks/reading.py --data photographs

The folder's pictures are packed into a temporary folder, as shards and as the parquet files of the Hugging Face
hub. Then batches are taken in turn from each, decoded, cropped and mirrored as a training does it, some at a time,
round after round, so that a busy machine meets all of them alike. Everything lies on this machine's disk, mostly
in its cache: what a network adds is not measured.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import tyro
from reporting import Found, Table, tell

from gangen.data import find_pictures, open_pictures, pack
from gangen.train.feed import Feed


@dataclass(kw_only=True)
class Settings:
    """What is measured."""

    data: Path
    """A folder of pictures."""
    size: int = 128
    """Side of the pictures that come out, in pixels."""
    batch_size: int = 8
    """Pictures a batch."""
    batches: int = 128
    """Batches of a round from each: by default as many as the windows of a stream's lanes hold, so that each round
    has its share of filling them."""
    rounds: int = 5
    """Rounds; the medians count."""
    shard_mib: int = 16
    """Size of a shard and of a parquet file, about."""
    pictures: int = 2000
    """Pictures of the folder that are used, at most."""
    out: Path | None = None
    """JSON file for the result."""


def write_parquet(paths: list[Path], folder: Path, size: int) -> None:
    """The pictures in files of about `size` bytes, as the hub keeps them."""
    import datasets

    features = datasets.Features({"image": datasets.Image()})
    total = sum(path.stat().st_size for path in paths)
    count = max(1, round(total / size))
    folder.mkdir()
    for file in range(count):
        rows = [{"bytes": path.read_bytes(), "path": path.name} for path in paths[file::count]]
        made = datasets.Dataset.from_dict({"image": rows}, features=features)
        made.to_parquet(folder / f"train-{file:05d}-of-{count:05d}.parquet")


def batches(place: str | Path, settings: Settings) -> Iterator[Any]:
    train, _ = open_pictures(place, size=settings.size)
    return Feed(train, settings.batch_size, seed=0)


def main(settings: Settings) -> None:
    torch.set_num_threads(1)
    paths = find_pictures(settings.data)[: settings.pictures]
    with tempfile.TemporaryDirectory() as temporary:
        places = {name: Path(temporary) / name for name in ("folder", "shards", "parquet")}
        places["folder"].mkdir()
        for number, path in enumerate(paths):
            (places["folder"] / f"{number:06d}{path.suffix}").symlink_to(path.resolve())
        size = settings.shard_mib * 2**20
        pack(places["folder"], places["shards"], shard_size=size)
        write_parquet(paths, places["parquet"], size)
        ways: dict[str, str | Path] = {
            "folder": places["folder"],
            "shards": places["shards"],
            "stream: of shards": f"stream:{places['shards']}",
            "hf: of parquet files": f"hf:{places['parquet']}",
        }
        feeds = {name: batches(place, settings) for name, place in ways.items()}
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(settings.rounds + 1):
            for name, feed in feeds.items():
                begun = time.perf_counter()
                for _ in islice(feed, settings.batches):
                    pass
                if turn:  # the first fills windows and caches
                    seconds[name].append(time.perf_counter() - begun)
    taken = settings.batch_size * settings.batches
    speeds = {name: taken / statistics.median(each) for name, each in seconds.items()}
    ratios = {
        name: statistics.median(f / s for f, s in zip(seconds["folder"], each, strict=True))
        for name, each in seconds.items()
    }
    rows = [[name, f"{speed:.0f}", f"{ratios[name]:.2f}"] for name, speed in speeds.items()]
    about = f"{len(paths)} pictures, at {settings.size} pixels, one process."
    table = Table(["from", "pictures a second", "of the folder's"], rows, about)
    tell(Found("Reading", [table], {"speeds": speeds, "ratios": ratios}, ("datasets",)), settings.out)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
