"""Parquet files, row group by row group."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from sentiment.errors import InvalidInputError
from sentiment.sources.columns import columns_by_name
from sentiment.sources.lines import encoding_fault, opened
from sentiment.sources.model import FilePart, SourceOptions
from sentiment.sources.values import as_text

_BATCH_ROWS = 256
_PART_BYTES = 16 << 20
_FIVE = 5
_TEN = 10
_TEXT_TYPES = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_binary,
    pa.types.is_large_binary,
)
Record = tuple[Mapping[str, str | None], str | None, str]


@contextmanager
def parquet_file(part: FilePart) -> Iterator[pq.ParquetFile]:
    """A Parquet file, open; a .gz of one is unpacked into a temporary file first.

    Raises:
        InvalidInputError: it cannot be read, also when that shows only in the `with` block.
    """
    try:
        with opened(part) as file, _seekable(file, part) as readable:
            yield pq.ParquetFile(readable)
    except pa.ArrowException as error:
        first = str(error).splitlines()[0]
        raise InvalidInputError(
            f"is no Parquet file that can be read: {first}", where=part.path, todo="get it anew"
        ) from error


@contextmanager
def _seekable(file: IO[bytes], part: FilePart) -> Iterator[IO[bytes]]:
    if not part.gzip:
        yield file
        return
    with tempfile.TemporaryFile() as unpacked:
        shutil.copyfileobj(file, unpacked)
        unpacked.seek(0)
        yield unpacked


def look_at_parquet(part: FilePart, options: SourceOptions) -> list[FilePart]:
    """A Parquet file with its columns, cut into parts of whole row groups of about 16 MiB.

    Raises:
        InvalidInputError: no column of it is a text, or it holds no row.
    """
    with parquet_file(part) as file:
        schema, meta = file.schema_arrow, file.metadata
        columns = columns_by_name(schema.names, [], options, where=part.path)
        if columns.stars and options.stars_of is None:
            columns = replace(columns, stars_of=_scale(file, columns.stars))
        groups = [meta.row_group(i) for i in range(meta.num_row_groups)]
    kind = schema.field(columns.text).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not any(check(kind) for check in _TEXT_TYPES):
        raise InvalidInputError(
            f"column {columns.text!r} is no text but {kind}",
            where=part.path,
            todo="name the text: --text-column NAME",
        )
    part = replace(part, columns=columns)
    if part.gzip:  # unpacking it once is enough
        rows = sum(group.num_rows for group in groups)
        return [replace(part, row_groups=tuple(range(len(groups))), rows=rows)]
    return list(_cut(part, groups))


def _cut(part: FilePart, groups: Sequence[Any]) -> Iterator[FilePart]:
    """Runs of row groups; the file's bytes are shared out by what they hold."""
    total = sum(group.total_byte_size for group in groups) or 1
    line, run, rows, size = 1, [], 0, 0
    for index, group in enumerate(groups):
        run.append(index)
        rows += group.num_rows
        size += group.total_byte_size
        if size >= _PART_BYTES or index == len(groups) - 1:
            share = part.size * size // total
            yield replace(part, row_groups=tuple(run), rows=rows, first_line=line, size=share)
            line, run, rows, size = line + rows, [], 0, 0


def _scale(file: pq.ParquetFile, column: str) -> int:
    """5 if the ratings of the whole file say so."""
    highest = 0.0
    for batch in file.iter_batches(columns=[column]):
        for value in batch.column(column).to_pylist():
            if isinstance(value, int | float) and not isinstance(value, bool):
                highest = max(highest, value)
    return _FIVE if 0 < highest <= _FIVE else _TEN


def parquet_records(part: FilePart, options: SourceOptions) -> Iterator[Record]:
    """Of each row the record, why it cannot be read (or None), and what to show of it then."""
    assert part.columns is not None
    read = part.columns.read(options)
    wanted = [name for name in part.columns.names if name in read]
    with parquet_file(part) as file:
        for batch in file.iter_batches(
            batch_size=_BATCH_ROWS, row_groups=list(part.row_groups), columns=wanted
        ):
            yield from batch_records(batch, part.columns.text, options)


def batch_records(
    batch: pa.RecordBatch, text_name: str, options: SourceOptions
) -> Iterator[Record]:
    """The same of the rows of an Arrow batch, whose texts are bytes or strings."""
    texts = _as_bytes(batch.column(text_name)).to_pylist()
    others = {
        name: batch.column(name).to_pylist() for name in batch.schema.names if name != text_name
    }
    for index, raw in enumerate(texts):
        record: dict[str, str | None] = {
            name: as_text(values[index]) for name, values in others.items()
        }
        try:
            record[text_name] = None if raw is None else raw.decode(options.encoding)
        except UnicodeDecodeError as error:
            reason = encoding_fault(error, encoding=options.encoding)
            yield record, reason, raw[:200].decode(options.encoding, "replace")
        else:
            yield record, None, ""


def _as_bytes(column: Any) -> Any:
    """A text column without Arrow's trust that it is UTF-8."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string(column.type):
        return column.cast(pa.binary())
    if pa.types.is_large_string(column.type):
        return column.cast(pa.large_binary())
    return column
