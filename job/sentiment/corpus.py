"""A corpus: reviews as `sentiment ingest` leaves them, in a few Parquet files and a manifest."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from sentiment.errors import InvalidInputError
from sentiment.files import sha256_of

FORMAT: Final = "sentiment-corpus-1"
MANIFEST: Final = "manifest.json"
SCHEMA: Final = pa.schema(
    [
        pa.field("position", pa.int64(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("label", pa.int8()),
        pa.field("stars", pa.int8()),
        pa.field("film", pa.string()),
        pa.field("source", pa.string()),
        pa.field("row", pa.int64(), nullable=False),
    ]
)
"""The columns of train/ and test/. `position` counts from 0 within the split."""
QUARANTINE_SCHEMA: Final = pa.schema(
    [
        pa.field("file", pa.string(), nullable=False),
        pa.field("line", pa.int64(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("excerpt", pa.string(), nullable=False),
    ]
)
QUARANTINE: Final = "quarantine"


@dataclass(frozen=True)
class PartFile:
    """A Parquet file with the rows `first_position` to `first_position + rows - 1`, in order."""

    path: Path
    first_position: int
    rows: int


@dataclass(frozen=True)
class Corpus:
    """A corpus on disk, as its manifest describes it."""

    path: Path
    manifest: Mapping[str, Any]

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits it has: ("train",) or ("train", "test")."""
        return tuple(self.manifest["splits"])

    @property
    def digest(self) -> str:
        """The sha256 that names the corpus' content: rows, order and splits."""
        return str(self.manifest["digest"])

    def part_files(self, split: str) -> list[PartFile]:
        """The files of a split in the order of their positions; none if it has no such split."""
        return [
            PartFile(
                path=self.path / part["path"],
                first_position=part["first_position"],
                rows=part["rows"],
            )
            for part in self.manifest["parts"]
            if part["split"] == split
        ]

    def rows(self, split: str) -> int:
        """The number of rows of a split."""
        return sum(part.rows for part in self.part_files(split))

    def labels(self, split: str) -> dict[int, int]:
        """Rows by label, 0 pan and 1 praise; rows without a label are in neither."""
        counts = self.manifest["splits"].get(split, {}).get("labels", {})
        return {0: counts.get("0", 0), 1: counts.get("1", 0)}

    @property
    def labelled(self) -> bool:
        """Whether any row has a label."""
        return any(sum(self.labels(split).values()) for split in self.splits)

    def read(
        self, split: str, *, columns: Sequence[str] | None = None, batch_rows: int = 1024
    ) -> Iterator[pa.RecordBatch]:
        """The rows of a split by position, at most `batch_rows` a batch.

        Raises:
            InvalidInputError: there is no such split, or a file cannot be read.
        """
        if split not in self.splits:
            raise InvalidInputError(
                f"has no {split} split",
                where=str(self.path),
                todo="make one: sentiment ingest … --split contiguous",
            )
        for part in self.part_files(split):
            try:
                with pq.ParquetFile(part.path) as file:
                    yield from file.iter_batches(
                        batch_size=batch_rows, columns=list(columns) if columns else None
                    )
            except (OSError, pa.ArrowException) as error:
                raise InvalidInputError(
                    f"cannot be read: {str(error).splitlines()[0]}",
                    where=str(part.path),
                    todo=_AGAIN,
                ) from error


_AGAIN = "make the corpus anew: sentiment ingest SOURCE OUT --force"


def is_corpus(path: Path) -> bool:
    """Whether a directory says that it is a corpus, of whatever version."""
    try:
        return str(json.loads((path / MANIFEST).read_text())["format"]).startswith(
            "sentiment-corpus-"
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def open_corpus(path: Path | str, *, verify: bool = False) -> Corpus:
    """Open a corpus; `verify` reads every file to compare its sha256.

    Raises:
        InvalidInputError: it is no corpus, of another version, or a file is missing or altered.
    """
    path = Path(path).absolute()
    try:
        manifest = json.loads((path / MANIFEST).read_text())
    except (FileNotFoundError, NotADirectoryError) as error:
        source, out = (path.name, "CORPUS") if path.is_file() else ("SOURCE", path.name)
        raise InvalidInputError(
            "is no corpus: it has no manifest.json",
            where=str(path),
            todo=f"make one: sentiment ingest {source} {out}",
        ) from error
    except (OSError, ValueError) as error:
        raise InvalidInputError(
            f"its manifest cannot be read: {error}", where=str(path / MANIFEST), todo=_AGAIN
        ) from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else None
        if not str(found).startswith("sentiment-corpus-"):
            raise InvalidInputError(
                "is no corpus's manifest",
                where=str(path / MANIFEST),
                todo="name a folder that sentiment ingest made",
            )
        raise InvalidInputError(
            f"is of format {found!r}, this version reads {FORMAT!r}",
            where=str(path / MANIFEST),
            todo=_AGAIN,
        )
    for part in manifest["parts"]:
        _check_part(path / part["path"], part, verify=verify)
    return Corpus(path=path, manifest=manifest)


def _check_part(file: Path, part: Mapping[str, Any], *, verify: bool) -> None:
    try:
        size = file.stat().st_size
    except OSError as error:
        raise InvalidInputError("is missing", where=str(file), todo=_AGAIN) from error
    if size != part["bytes"] or (verify and sha256_of(file) != part["sha256"]):
        raise InvalidInputError(
            "is not as ingest wrote it (size or sha256 differs)", where=str(file), todo=_AGAIN
        )
