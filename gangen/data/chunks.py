"""Where streams come from: shards that are read from their beginning to their end, and the Hugging Face hub."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from gangen.data.folders import VALIDATION_NAMES
from gangen.data.shards import PAIR, UNKNOWN, Shards, is_url, join
from gangen.data.streams import Raw
from gangen.errors import DataError


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

    def read(self, chunk: int, start: int = 0) -> Iterator[Raw]:
        """The samples of a shard in their order, from number `start` on; damaged ones tell of their trouble."""
        places = self.shards.places
        own = (places[:, 0, 0] == chunk).nonzero()[0]
        place = join(self.shards.root, self.shards.files[chunk])
        with _opened(place) as file:
            for index in own[places[own, 0, 1].argsort(kind="stable")][start:].tolist():
                found, trouble = [], None
                for _, first, count, checksum in places[index].tolist():
                    file.seek(first)
                    found.append(file.read(count))
                    if len(found[-1]) < count:
                        trouble = "the shard ends before it. Fetch it again."
                    elif checksum not in (UNKNOWN, zlib.crc32(found[-1])):
                        trouble = "its checksum does not hold. Fetch the shard again."
                yield Raw(f"{self.shards.names[index]} in {place}", tuple(found), trouble)

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

    Raises:
        DataError: there is no such column of pictures.
    """

    name: str
    dataset: Any
    columns: Sequence[str]

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

    def only(self, column: str) -> HubChunks:
        """The samples reduced to one of their pictures."""
        return replace(self, columns=(column if column in self.columns else self.columns[-1],))

    def read(self, chunk: int, start: int = 0) -> Iterator[Raw]:
        """The samples of a file in their order, from number `start` on."""
        import datasets

        rows = self.dataset.select_columns(list(self.columns)).shard(num_shards=self.count, index=chunk)
        for column in self.columns:
            rows = rows.cast_column(column, datasets.Image(decode=False))
        rows = rows.skip(start) if start else rows
        # Batches of one, since the library would share out single rows among workers, as we have done already.
        for number, row in enumerate(rows.iter(batch_size=1), start):
            cells = [row[column][0] or {} for column in self.columns]
            name = f"{self.name} {chunk}-{number}"
            try:
                yield Raw(name, tuple(_content(cell) for cell in cells))
            except (OSError, KeyError, TypeError) as error:
                yield Raw(name, (), f"{type(error).__name__}: {error}")

    def fingerprint(self) -> str:
        """Hash of names and of how many files there are; their contents are not read."""
        told = f"{self.name}\n{self.dataset.split}\n{self.count}\n{sorted(self.dataset.column_names or [])}"
        return hashlib.sha256(told.encode()).hexdigest()


def open_hub(name: str, columns: Sequence[str] | None = None) -> tuple[HubChunks, HubChunks | None]:
    """Open a data set of the Hugging Face hub, or a folder with its files, as a stream.

    Args:
        name: OWNER/NAME on the hub, or a folder of parquet files, tar files or pictures, which
            `datasets.load_dataset` knows.
        columns: of the picture, or of input and target; when None the only column of pictures, or those called
            "input" and "target".

    Returns:
        The split "train", or the only one, and the one for validation, or None where there is none. A split "test"
        is never touched.

    Raises:
        DataError: `datasets` is not installed, or there is no such data set or column.
    """
    try:
        import datasets
    except ImportError as error:
        raise DataError('streaming from the hub needs: pip install "gangen[stream]"') from error
    try:
        splits = datasets.load_dataset(name, streaming=True)
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
    return (
        HubChunks(name, training, columns),
        HubChunks(name, held_out, columns) if held_out is not None else None,
    )


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
            "target? Name them by input_folder and target_folder (--input-folder, --target-folder)."
        )
    return known


def _content(cell: dict[str, Any]) -> bytes:
    """The bytes of a picture's file, as the library tells of it undecoded."""
    if cell.get("bytes") is not None:
        return bytes(cell["bytes"])
    path = cell["path"]
    if not is_url(path):
        return Path(path).read_bytes()
    with _opened(path) as file:
        return file.read()


def _opened(place: str) -> IO[bytes]:
    """A file at a path or URL, to be read mostly onwards."""
    if not is_url(place):
        return Path(place).open("rb")
    import fsspec

    system, path = fsspec.core.url_to_fs(place)
    opened: IO[bytes] = system.open(path, "rb")
    return opened
