"""Writing the files of a corpus where their rows are: on the executors."""

import os
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sentiment.errors import SentimentError
from sentiment.files import sha256_of
from sentiment.folders import SHARE_A_FOLDER

_LEVEL = 3


@dataclass(frozen=True)
class WrittenFile:
    """A file that was written, as its writer saw it."""

    name: str
    rows: int
    bytes: int
    sha256: str
    host: str


def write_parquet(
    root: Path, name: str, batches: Iterable[pa.RecordBatch], schema: pa.Schema
) -> WrittenFile:
    """Write one Parquet file below `root`, whole or not at all, a row group a batch.

    Two attempts of one task may run at once: each writes a file of its own, the
    last to end gives the name. The same batches give the same bytes.

    Raises:
        SentimentError: this host does not see `root`, or the disk refuses the write.
    """
    target = root / name
    aside = target.with_name(f".{target.name}.{socket.gethostname()}.{os.getpid()}")
    rows = 0
    try:
        with pq.ParquetWriter(aside, schema, compression="zstd", compression_level=_LEVEL) as file:
            for batch in batches:
                file.write_batch(batch)
                rows += batch.num_rows
        digest, size = sha256_of(aside), aside.stat().st_size
        aside.rename(target)
    except OSError as error:
        raise _cannot_write(target, error) from error
    finally:
        aside.unlink(missing_ok=True)
    return WrittenFile(name=name, rows=rows, bytes=size, sha256=digest, host=socket.gethostname())


def _cannot_write(target: Path, error: OSError) -> SentimentError:
    host = socket.gethostname()
    if isinstance(error, FileNotFoundError):
        return SentimentError(
            f"host {host} does not see this folder",
            where=str(target.parent),
            todo=SHARE_A_FOLDER,
        )
    return SentimentError(
        f"host {host} cannot write it: {os.strerror(error.errno) if error.errno else error}",
        where=str(target),
        todo="make room there, or name another place; nothing half-written was left",
    )


def check_written(root: Path, files: Iterable[WrittenFile]) -> None:
    """See that what the executors wrote is here.

    Raises:
        SentimentError: a file is not, so the hosts do not share this path.
    """
    for file in files:
        path = root / file.name
        if not path.is_file() or path.stat().st_size != file.bytes:
            raise SentimentError(
                f"host {file.host} wrote it, host {socket.gethostname()} does not see it",
                where=str(path),
                todo=SHARE_A_FOLDER,
            )


def with_positions(
    batches: Iterable[pa.RecordBatch], schema: pa.Schema, *, first: int
) -> Iterator[pa.RecordBatch]:
    """The columns of `schema` out of `batches`, with `position` counted from `first`."""
    position = first
    for batch in batches:
        numbers = pa.array(range(position, position + batch.num_rows), pa.int64())
        columns = [
            numbers if field.name == "position" else batch.column(field.name).cast(field.type)
            for field in schema
        ]
        position += batch.num_rows
        yield pa.RecordBatch.from_arrays(columns, schema=schema)
