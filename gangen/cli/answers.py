"""Answers instead of pictures: what `gangen predict` does with a network that classifies."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gangen import files
from gangen.cli.telling import telling
from gangen.errors import PictureError, StorageError, UserError

if TYPE_CHECKING:
    from PIL import Image

    from gangen.answers import Answer
    from gangen.pipeline import Pipeline
    from gangen.views import Views


def write_answers(
    pipeline: Pipeline, pictures: list[Path], out: Path, batch_size: int, views: Views | None = None
) -> int:
    """Classify pictures, print each answer, and write them to `out`/answers.csv; gives how many were skipped.

    The table has the columns picture, label, probability, and each class's probability by its name.

    Raises:
        UserError: the network compares pairs.
        PictureError: not one of the pictures can be read.
        StorageError: the storage failed for two in a row; what was found before is written.
    """
    from tqdm import tqdm

    from gangen import images
    from gangen.data.readable import Careful
    from gangen.nets import Siamese

    if isinstance(pipeline.network, Siamese):
        raise UserError(
            "this network compares two pictures: Pipeline.from_pretrained(RUN).compare([(one, other)])."
        )
    found: list[tuple[Path, Answer]] = []
    careful = Careful()
    with (
        telling(),
        _written(found, out / "answers.csv"),
        tqdm(total=len(pictures), unit="picture", disable=None) as bar,
    ):
        for first in range(0, len(pictures), max(1, batch_size)):
            readable: list[tuple[Path, Image.Image]] = []
            for path in pictures[first : first + max(1, batch_size)]:
                try:
                    readable.append((path, careful(images.read, path)))
                except StorageError:
                    raise
                except PictureError as error:
                    bar.write(f"skipped: {error}", file=sys.stderr)
                bar.update()
            answers = pipeline.classify([picture for _, picture in readable], batch_size=batch_size, views=views)
            found += zip((path for path, _ in readable), answers, strict=True)
    if not found:
        raise PictureError(f"none of the {len(pictures)} pictures could be read, so nothing was classified.")
    for path, answer in found:
        sys.stdout.write(f"{path}  {answer.label}  {100 * answer.probability:.1f}%\n")
    return len(pictures) - len(found)


@contextmanager
def _written(found: list[tuple[Path, Answer]], file: Path) -> Iterator[None]:
    """Write the table of what was found, also where it ends before its time: in Ctrl-C, or without memory."""
    try:
        yield
    finally:
        if found:
            names = list(found[0][1].probabilities)
            text = io.StringIO()
            table = csv.writer(text, lineterminator="\n")
            table.writerow(["picture", "label", "probability", *names])
            for path, answer in found:
                sure = [f"{answer.probabilities[name]:.4f}" for name in names]
                table.writerow([path, answer.label, f"{answer.probability:.4f}", *sure])
            files.write_text(file, text.getvalue())
