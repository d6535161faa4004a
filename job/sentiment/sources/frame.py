"""A source as a Spark DataFrame: the tasks of the plan are read where they run."""

import pickle
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from sentiment.files import sha256_of
from sentiment.folders import shared
from sentiment.sending import Sent, check_size, send
from sentiment.sources.model import FilePart, ReadTask, Refused, Review, Source, Tally
from sentiment.sources.readers import read_part

REVIEWS = (
    "text string, label tinyint, stars tinyint, film string, source string, split string, "
    "time double, row bigint, file string, line bigint, reason string, excerpt string"
)
FILES = "bytes bigint, sha256 string, not_selected bigint"
_ROWS = 1000
_CHARS = 4 << 20
_ARROW = pa.schema(
    [
        pa.field("text", pa.string()),
        pa.field("label", pa.int8()),
        pa.field("stars", pa.int8()),
        pa.field("film", pa.string()),
        pa.field("source", pa.string()),
        pa.field("split", pa.string()),
        pa.field("time", pa.float64()),
        pa.field("row", pa.int64()),
        pa.field("file", pa.string()),
        pa.field("line", pa.int64()),
        pa.field("reason", pa.string()),
        pa.field("excerpt", pa.string()),
    ]
)
_ARROW_FILES = pa.schema(
    [
        *_ARROW,
        pa.field("bytes", pa.int64()),
        pa.field("sha256", pa.string()),
        pa.field("not_selected", pa.int64()),
    ]
)
Row = tuple[object, ...]


def reviews_dataframe(
    spark: SparkSession, source: Source, *, sent: list[Sent] | None = None
) -> DataFrame:
    """The rows of a source: read where they are used if every host sees it, else here, and sent.

    What is sent is added to `sent`, as by `sentiment.sending.send`.

    Columns: REVIEWS. A review has a `text`, and `reason` is null; a refused
    row has a `reason` and an `excerpt`, and `text` is null. `row` is unique
    and sorts the rows as the source has them.

    Raises (here, or when Spark computes it, inside a task):
        InvalidInputError: a file cannot be read as a whole, or it is too much to send.
    """
    if shared(str(spark.sparkContext.master), source.path):
        return _dataframe(spark, source, with_files=False)
    check_size(source.size, where=source.spec)
    batches = (batch for task in source.tasks for batch in task_batches(task, with_files=False))
    return send(spark, batches, _ARROW, sent=sent)


def reviews_and_files(spark: SparkSession, source: Source) -> DataFrame:
    """The same, one partition a task of the plan, and a row for each part of a file that was read.

    Every host must see the source.

    Columns: REVIEWS and FILES. In a file's row `sha256` and `bytes` tell its
    content (null but in the part with its first row), `not_selected` the rows
    that `only` passed over, and `line` is null; in the others FILES are null.
    """
    return _dataframe(spark, source, with_files=True)


def _dataframe(spark: SparkSession, source: Source, *, with_files: bool) -> DataFrame:
    def read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for packed in batch.column("task").to_pylist():
                yield from task_batches(pickle.loads(zlib.decompress(packed)), with_files)  # noqa: S301 - the driver's own plan

    plan = [
        (number, bytearray(zlib.compress(pickle.dumps(task))))
        for number, task in enumerate(source.tasks)
    ]
    tasks = spark.createDataFrame(plan, "number int, task binary")
    schema = f"{REVIEWS}, {FILES}" if with_files else REVIEWS
    return tasks.repartitionById(len(plan), "number").mapInArrow(read, schema)


def task_batches(task: ReadTask, with_files: bool) -> Iterator[pa.RecordBatch]:
    """A task's rows as Arrow batches of at most 1,000 rows and some 4 Mi characters."""
    return _batches(_rows(task, with_files), _ARROW_FILES if with_files else _ARROW)


def review_batches(items: Iterable[Review | Refused]) -> Iterator[pa.RecordBatch]:
    """Reviews and refused rows as such batches: REVIEWS."""
    return _batches((_cells(item) for item in items), _ARROW)


def _batches(found: Iterable[Row], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    rows: list[Row] = []
    chars = 0
    for row in found:
        rows.append(row)
        chars += len(str(row[0] or ""))
        if len(rows) >= _ROWS or chars >= _CHARS:
            yield _batch(rows, schema)
            rows, chars = [], 0
    if rows:
        yield _batch(rows, schema)


def _rows(task: ReadTask, with_files: bool) -> Iterator[Row]:
    none = (None, None, None) if with_files else ()
    for part in task.parts:
        tally = Tally()
        for item in read_part(part, task.options, tally):
            yield (*_cells(item), *none)
        if with_files:
            yield _file_row(part, tally)


def _cells(item: Review | Refused) -> Row:
    if isinstance(item, Refused):
        place = (item.row, item.file, item.line)
        return (None, None, None, None, None, None, None, *place, item.reason, item.excerpt)
    about = (item.label, item.stars, item.film, item.source, item.split, item.time)
    return (item.text, *about, item.row, item.file, item.line, None, None)


def _file_row(part: FilePart, tally: Tally) -> Row:
    empty = (None,) * 7
    place = (part.first_row, part.name, None, None, None)
    if not part.opens_file:
        return (*empty, *place, None, None, tally.not_selected)
    path = Path(part.path)
    return (*empty, *place, path.stat().st_size, sha256_of(path), tally.not_selected)


def _batch(rows: list[Row], schema: pa.Schema) -> pa.RecordBatch:
    columns = [
        pa.array(values, type=field.type)
        for values, field in zip(zip(*rows, strict=True), schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
