"""The command that prepares data: `gangen pack`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from gangen.errors import UserError


def pack(
    folder: Annotated[Positional[Path], arg(metavar="FOLDER")],
    /,
    out: Path,
    input_folder: Path | None = None,
    target_folder: Path | None = None,
    shard_mib: int = 256,
) -> int:
    """Pack a folder of pictures into a few large files (shards), which storage and networks like better than
    millions.

    The pictures go in as they are. What lies in train/ and val/ stays apart. The --data of every recipe that
    learns from pictures or pairs, not from labels, takes the shards, from a folder or a URL, and trains on them as
    on the folder, to the bit; WebDataset's own tools read them too.

    Example: gangen pack openmoji --input-folder sketch --target-folder color --out shards

    Args:
        folder: pictures, laid out as for --data.
        out: a new folder for the shards and their index.
        input_folder: the inputs' folder inside it, where pairs lie in two folders.
        target_folder: the targets' folder, likewise.
        shard_mib: size of a shard, about.
    """
    from tqdm import tqdm

    from gangen.cli import NOT_ALL
    from gangen.data import Arranged, pack

    if (input_folder is None) != (target_folder is None):
        raise UserError("--input-folder and --target-folder: give both or neither.")
    if shard_mib < 1:
        raise UserError(f"--shard-mib {shard_mib}: expected 1 or more; 64 to 1024 are usual.")
    with tqdm(unit="sample", disable=None) as bar:
        done = pack(folder, out, Arranged(input_folder, target_folder), shard_mib * 2**20, bar.update)
    told = " and ".join(f"{count} samples ({name})" for name, count in done.samples.items())
    left_out = f", {len(done.skipped)} left out" if done.skipped else ""
    sys.stdout.write(f"{told} in {done.shards} shards of {done.size / 2**20:.1f} MiB in all: {out}{left_out}\n")
    return NOT_ALL if done.skipped else 0
