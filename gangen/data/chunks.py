"""Where streams come from: shards that are read from their beginning to their end, and the Hugging Face hub."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gangen.data import remote
from gangen.data.folders import VALIDATION_NAMES
from gangen.data.shards import PAIR, Shards, damage
from gangen.data.streams import Raw
from gangen.errors import DataError, PictureError


@dataclass(frozen=True)
class ShardChunks:
    """Shards as the chunks of a stream.

    Attributes:
        shards: whose samples are read.

    Raises:
        DataError: a pair lies in two shards.
    """

    shards: Shards

    def __post_init__(self) -> None:
        files = self.shards.places[:, :, 0]
        if (files != files[:, :1]).any():
            raise DataError(f"{self.shards.root}: the pictures of a pair lie in two shards. Pack them again.")

    @property
    def count(self) -> int:
        """How many shards there are."""
        return len(self.shards.files)

    def read(self, chunk: int, start: int = 0, step: int = 1) -> Iterator[Raw]:
        """The samples of a shard in their order, those of number `start`, `start + step` and so on.

        Damaged ones tell of their trouble.
        """
        places = self.shards.places
        own = (places[:, 0, 0] == chunk).nonzero()[0]
        place = self.shards.shard(chunk)
        with remote.opened(place) as file:
            for index in own[places[own, 0, 1].argsort(kind="stable")][start::step].tolist():
                found, troubles = [], []
                for _, first, count, checksum in places[index].tolist():
                    file.seek(first)
                    found.append(file.read(count))
                    troubles.append(damage(found[-1], count, checksum))
                name = f"{self.shards.names[index]} in {place}"
                yield Raw(name, tuple(found), next(filter(None, troubles), None))

    def fingerprint(self) -> str:
        """That of the shards."""
        return self.shards.fingerprint()


@dataclass(frozen=True)
class HubChunks:
    """A split of a data set of the Hugging Face hub, or of files that its library reads.

    Attributes:
        name: of the data set.
        dataset: a streaming `datasets.IterableDataset`; its files (`num_shards`) are the chunks.
        columns: of the picture, or of input and target.
        revision: a text that changes when the data set does, for the fingerprint.

    Raises:
        DataError: there is no such column of pictures.
    """

    name: str
    dataset: Any
    columns: Sequence[str]
    revision: str = ""

    def __post_init__(self) -> None:
        known = pictures_of(self.dataset)
        absent = [column for column in self.columns if column not in known]
        if absent:
            raise DataError(
                f"{self.name} has no column of pictures {absent[0]!r}, but {', '.join(known) or 'none at all'}."
            )

    @property
    def count(self) -> int:
        """How many files the split has."""
        return int(self.dataset.num_shards)

    def read(self, chunk: int, start: int = 0, step: int = 1) -> Iterator[Raw]:
        """The samples of a file in their order, those of number `start`, `start + step` and so on."""
        import datasets

        rows = self.dataset.select_columns(list(self.columns)).shard(num_shards=self.count, index=chunk)
        for column in self.columns:
            rows = rows.cast_column(column, datasets.Image(decode=False))
        rows = rows.skip(start) if start else rows
        # Batches of one, since the library would share out single rows among workers, as we have done already.
        for number, row in enumerate(rows.iter(batch_size=1), start):
            if (number - start) % step:
                continue
            files, trouble = [], None
            for column in self.columns:
                try:
                    files.append(self._content(row[column][0]))
                except PictureError as error:
                    trouble = str(error)
            yield Raw(f"{self.name} {chunk}-{number}", tuple(files), trouble)

    def _content(self, cell: Any) -> bytes:
        """The bytes of a picture's file, as the library tells of it undecoded. What a row names is not trusted."""
        if isinstance(cell, dict) and cell.get("bytes") is not None:
            return bytes(cell["bytes"])
        path = cell.get("path") if isinstance(cell, dict) else None
        if not path:
            raise PictureError("the row has no picture.")
        folder = Path(self.name)
        if remote.is_url(path):
            inside = path.rpartition("::")[2].startswith("hf://")
        else:
            inside = folder.is_dir() and Path(path).resolve().is_relative_to(folder.resolve())
        if not inside:
            raise PictureError(f"the row names {path}, which lies outside the data set.")
        try:
            with remote.opened(path) as file:
                return file.read()
        except FileNotFoundError as error:
            raise PictureError(f"the row names {path}, which does not exist.") from error

    def fingerprint(self) -> str:
        """Hash of the revision, of names and of how many files there are; their contents are not read."""
        told = [self.name, self.revision, self.dataset.split, self.count, *self.columns]
        return hashlib.sha256("\n".join(map(str, told)).encode()).hexdigest()


def open_hub(
    name: str, columns: Sequence[str] | None = None, target: bool = False
) -> tuple[HubChunks, HubChunks | None]:
    """Open a data set of the Hugging Face hub, or a folder with its files, as a stream.

    Args:
        name: OWNER/NAME on the hub, or a folder of parquet files, tar files or pictures, which
            `datasets.load_dataset` knows.
        columns: of the picture, or of input and target; when None the only column of pictures, or those called
            "input" and "target".
        target: take the targets alone.

    Returns:
        The split "train", or the only one, and the one for validation, or None where there is none. A split "test"
        is never touched.

    Raises:
        DataError: `datasets` is not installed, or there is no such data set or column.
    """
    datasets = _library()
    try:
        builder = datasets.load_dataset_builder(name)
        splits = builder.as_streaming_dataset()
    except Exception as error:  # of the network, of the hub, of each format
        raise DataError(
            f"hf:{name} cannot be opened: {type(error).__name__}: {error}. Expected OWNER/NAME on the Hugging "
            "Face hub or a folder."
        ) from error
    held_out = next((splits[split] for split in VALIDATION_NAMES if split in splits), None)
    others = [split for split in splits if split not in (*VALIDATION_NAMES, "test")]
    if "train" not in splits and len(others) != 1:
        raise DataError(f"hf:{name} has no split called train, but {', '.join(splits)}.")
    training = splits["train" if "train" in splits else others[0]]
    columns = columns or _usual_columns(name, training)
    columns, revision = columns[-1:] if target else columns, _revision(builder)
    return (
        HubChunks(name, training, columns, revision),
        HubChunks(name, held_out, columns, revision) if held_out is not None else None,
    )


def _library() -> Any:
    """The package `datasets`, of a version that runs no scripts of data sets."""
    try:
        import datasets
    except ImportError as error:
        raise DataError('streaming from the hub needs: pip install "gangen[stream]"') from error
    if int(datasets.__version__.split(".")[0]) < 4:
        raise DataError(
            f"datasets {datasets.__version__} may run what a data set brings along. Install 4 or later: pip "
            'install "gangen[stream]"'
        )
    return datasets


def _revision(builder: Any) -> str:
    """The data set's files: of the hub by their addresses, which have the commit in them; else by their sizes."""
    told = []
    for files in (builder.config.data_files or {}).values():
        for file in map(str, files):
            own = not remote.is_url(file) and Path(file).is_file()
            told.append(f"{Path(file).name} {Path(file).stat().st_size}" if own else file)
    return hashlib.sha256("\n".join(sorted(told)).encode()).hexdigest()


def pictures_of(dataset: Any) -> list[str]:
    """Names of the columns that hold pictures."""
    import datasets

    features = dataset.features or {}
    return [column for column, feature in features.items() if isinstance(feature, datasets.Image)]


def _usual_columns(name: str, dataset: Any) -> Sequence[str]:
    known = pictures_of(dataset)
    if set(PAIR) <= set(known):
        return PAIR
    if len(known) != 1:
        raise DataError(
            f"hf:{name} has {len(known)} columns of pictures ({', '.join(known) or 'none'}): which are input and "
            "target? Name them by input_folder and target_folder (--input-folder, --target-folder, in recipes "
            "that learn from pairs)."
        )
    return known
