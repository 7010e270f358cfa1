"""Damaged pictures, checkpoints, pipelines, shards: each is read, or refused by an error that names it.

    python benchmarks/fuzz.py
    python benchmarks/fuzz.py --pictures 20000 --seed 3

Files of every kind that gangen reads are made, and copies of them damaged at random: bits flipped, ends cut off,
stretches overwritten, headers that claim absurd sizes, names that promise another kind. Then each is read in
another process, which may neither die nor take longer than a limit. What may come of it:

    whole     it was read, and holds what it held before
    read      a picture was read, if not the same one: some damage to pixels cannot be told from a picture
    refused   a UserError that names the file

Anything else counts as a failure: another exception, a death, a hang, or weights that are not those that were
saved.
"""

from __future__ import annotations

import io
import multiprocessing
import random
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import tyro
from PIL import Image

from gangen import Pipeline, images, weights
from gangen.data import ShardChunks, Shards, open_shards, pack
from gangen.errors import PictureError, UserError
from gangen.nets import StyleNet
from gangen.train.checkpoint import FORMAT, Checkpoints

Damage = Callable[[bytes, random.Random], bytes]
Outcome = tuple[str, str]
"""What came of a file, and what was said."""


@dataclass(kw_only=True)
class Settings:
    """How many files of each kind."""

    pictures: int = 2000
    """Pictures."""
    weights: int = 200
    """Files of weights, checkpoints, and pipelines, of each as many."""
    configs: int = 200
    """config.json of pipelines."""
    shards: int = 200
    """Shards, and their indexes, of each as many."""
    seconds: int = 10
    """How long reading one file may take."""
    seed: int = 0
    """Of the damage."""


def flip_bits(content: bytes, chance: random.Random) -> bytes:
    """One bit to 64."""
    damaged = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 8, 64))):
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
    return bytes(damaged)


def cut(content: bytes, chance: random.Random) -> bytes:
    """The end is missing."""
    return content[: chance.randrange(len(content))]


def overwrite(content: bytes, chance: random.Random) -> bytes:
    """A stretch of zeros or of noise, as a failing disk leaves."""
    start, length = chance.randrange(len(content)), chance.randrange(1, 1 + len(content) // 2)
    noise = bytes(length) if chance.random() < 0.5 else chance.randbytes(length)
    return content[:start] + noise + content[start + length :]


ABSURD = (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\0\1\x86\xa0")


def claim(content: bytes, chance: random.Random) -> bytes:
    """Absurd numbers in the header."""
    damaged = bytearray(content)
    for _ in range(chance.randrange(1, 5)):
        place = chance.randrange(min(len(damaged), 128))
        damaged[place : place + 4] = chance.choice(
            (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\0\1\x86\xa0")
        )
    return bytes(damaged)


DAMAGE: tuple[Damage, ...] = (flip_bits, cut, overwrite, claim)


def some_pictures() -> dict[str, bytes]:
    """A picture of each format and mode that people have."""
    noise = Image.effect_noise((48, 32), 80)
    colours = Image.merge(
        "RGB", (noise, noise.rotate(90).resize(noise.size), noise.transpose(Image.Transpose.ROTATE_180))
    )
    kinds = {
        "rgb.png": colours,
        "grey.png": noise,
        "palette.png": colours.quantize(16),
        "alpha.png": colours.convert("RGBA"),
        "deep.png": noise.convert("I;16"),
        "photo.jpg": colours,
        "print.jpg": colours.convert("CMYK"),
        "grey.jpg": noise,
        "web.webp": colours,
        "moving.gif": colours.quantize(16),
        "scan.tif": colours,
        "deep.tif": noise.convert("I;16"),
        "plain.bmp": colours,
        "plain.ppm": colours,
        "plain.pgm": noise,
    }
    made = {}
    with TemporaryDirectory() as folder:
        for name, picture in kinds.items():
            picture.save(Path(folder) / name)
            made[name] = (Path(folder) / name).read_bytes()
    return made


def damaged_pictures(settings: Settings, folder: Path) -> Iterator[Path]:
    """Pictures, one in ten of them under the name of another format."""
    chance, whole = random.Random(f"pictures {settings.seed}"), list(some_pictures().items())
    for number in range(settings.pictures):
        name, content = whole[number % len(whole)]
        if number % 10 == 9:
            name = f"{Path(name).stem}{chance.choice(images.SUFFIXES)}"
        path = folder / f"{number}-{name}"
        path.write_bytes(chance.choice(DAMAGE)(content, chance))
        yield path


def copies(content: bytes, name: str, count: int, seed: int, folder: Path) -> Iterator[Path]:
    """Damaged copies of a file, each in a folder of its own."""
    chance = random.Random(f"{name} {seed}")
    for number in range(count):
        path = folder / str(number) / name
        path.parent.mkdir(parents=True)
        path.write_bytes(chance.choice(DAMAGE)(content, chance))
        yield path


def read_picture(path: Path) -> Outcome:
    """As training reads it."""
    images.to_tensor(images.read(path))
    return "read", ""


def read_weights(path: Path, state: dict[str, Any]) -> Outcome:
    """As a body reads its weights. Neither format has a checksum over them that is looked at."""
    found = weights.read(path)
    return ("whole", "") if _same(found, state) else ("read", "")


def read_checkpoint(path: Path, state: dict[str, Any]) -> Outcome:
    """As a resumed training reads it."""
    checkpoints = Checkpoints(path.parent)
    sound = checkpoints.newest_sound()
    if sound is None:
        raise FileNotFoundError(path)
    return _unchanged(checkpoints.load(sound), state)


def read_pipeline(path: Path, state: dict[str, Any]) -> Outcome:
    """As `gangen predict` reads it; either of its two files is damaged."""
    return _unchanged(Pipeline.from_pretrained(path.parent).network.state_dict(), state)


def read_index(path: Path, size: int) -> Outcome:
    """As a training on shards opens them and reads each sample; their index is damaged."""
    return _read_samples(open_shards(path.parent)[0], size)


def read_shard(path: Path, size: int) -> Outcome:
    """The same, of a shard that came without an index, read both at random and as a stream."""
    found, _ = open_shards(path.parent)
    for chunk in range(ShardChunks(found).count):
        for raw in ShardChunks(found).read(chunk):
            with suppress(PictureError):
                raw.decoded()
    return _read_samples(found, size)


def _read_samples(found: Shards, size: int) -> Outcome:
    unreadable = 0
    for index in range(len(found.names)):
        try:
            images.to_tensor(found.read(index)[0])
        except PictureError:  # this sample is left out and counted, as in a folder
            unreadable += 1
    return ("read", "") if unreadable or len(found.names) != size else ("whole", "")


def _unchanged(found: Any, state: Any) -> Outcome:
    return ("whole", "") if _same(found, state) else ("FAILED", "what was read is not what was saved")


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(_same(one[k], other[k]) for k in one)
    return bool(one == other)


def attempt(path: Path, read: Callable[[Path], Outcome], seconds: int) -> Outcome:
    """Read a file within a limit of time; in another process."""

    def late(*_: Any) -> None:
        raise TimeoutError(f"longer than {seconds} s")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    warnings.simplefilter("ignore")
    sys.stderr = io.StringIO()
    try:
        return read(path)
    except UserError as error:
        named = str(path) in str(error) or str(path.parent) in str(error)
        return ("refused", str(error)) if named else ("FAILED", f"the error names no file: {error}")
    except BaseException as error:
        return "FAILED", f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)


def fuzz(kind: str, paths: Iterator[Path], read: Callable[[Path], Outcome], seconds: int) -> bool:
    """Read them all, print a row of the table; whether nothing failed."""
    outcomes: Counter[str] = Counter()
    troubles = []
    pool = _pool()
    for path in paths:
        try:
            outcome, told = pool.submit(attempt, path, read, seconds).result(timeout=3 * seconds)
        except (BrokenProcessPool, TimeoutError) as error:
            outcome, told = "FAILED", f"the process that read it died or hangs ({type(error).__name__})"
            for process in list((pool._processes or {}).values()):  # one that hangs would be waited for at the end
                process.kill()
            pool.shutdown(wait=False, cancel_futures=True)
            pool = _pool()
        outcomes[outcome] += 1
        if outcome == "FAILED":
            troubles.append(f"{path.parent.name}/{path.name}: {told}")
    pool.shutdown()
    cells = [str(outcomes[name]) for name in ("whole", "read", "refused", "FAILED")]
    print(f"| {kind} | {outcomes.total()} | {' | '.join(cells)} |", flush=True)
    for trouble in troubles[:20]:
        print(f"  {trouble}")
    return not troubles


def _pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork"))


@contextmanager
def _folder(name: str) -> Iterator[Path]:
    with TemporaryDirectory(prefix=f"fuzz-{name}-") as folder:
        yield Path(folder)


def main(settings: Settings) -> None:
    torch.set_num_threads(1)
    print("| what | files | whole | read | refused | FAILED |\n|---|---|---|---|---|---|")
    fine, seconds, seed = True, settings.seconds, settings.seed
    with _folder("pictures") as folder:
        fine &= fuzz("pictures", damaged_pictures(settings, folder), read_picture, seconds)
    torch.manual_seed(0)
    network = StyleNet()
    small = network.state_dict()
    state = {"format": FORMAT, "step": 3, "networks": {"generator": small}}
    with _folder("weights") as folder:
        torch.save(small, folder / "w.pth")
        content = (folder / "w.pth").read_bytes()
        paths = copies(content, "w.pth", settings.weights, seed, folder)
        fine &= fuzz("weights (.pth)", paths, partial(read_weights, state=small), seconds)
    with _folder("checkpoints") as folder:
        torch.save(state, folder / "saved")
        content = (folder / "saved").read_bytes()
        paths = copies(content, "step-00000003.pt", settings.weights, seed, folder)
        fine &= fuzz("checkpoints", paths, partial(read_checkpoint, state=state), seconds)
    with _folder("pipelines") as folder:
        Pipeline(network).save(folder / "saved")
        names = ("model.safetensors", settings.weights), ("config.json", settings.configs)
        for name, count in names:
            other = next(n for n, _ in names if n != name)
            content = (folder / "saved" / name).read_bytes()
            paths = beside(copies(content, name, count, seed, folder / name), folder / "saved" / other)
            fine &= fuzz(f"pipelines ({name})", paths, partial(read_pipeline, state=small), seconds)
    with _folder("shards") as folder:
        (folder / "pictures").mkdir()
        for name, content in some_pictures().items():
            (folder / "pictures" / name).write_bytes(content)
        pack(folder / "pictures", folder / "saved")
        size = len(some_pictures())
        index, shard = folder / "saved" / "index.json", folder / "saved" / "all-00000.tar"
        paths = beside(copies(index.read_bytes(), index.name, settings.shards, seed, folder / "index"), shard)
        fine &= fuzz("indexes of shards", paths, partial(read_index, size=size), seconds)
        paths = copies(shard.read_bytes(), shard.name, settings.shards, seed, folder / "shard")
        fine &= fuzz("shards without index", paths, partial(read_shard, size=size), seconds)
    sys.exit(0 if fine else 1)


def beside(paths: Iterator[Path], other: Path) -> Iterator[Path]:
    """The same paths, each with a whole file beside it, and removed once it was read."""
    for path in paths:
        (path.parent / other.name).symlink_to(other)
        yield path
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
