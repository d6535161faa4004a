"""Rows of a source of Spark's that is no folder of files, as reviews: by the rules of files."""

from collections.abc import Iterator
from dataclasses import replace

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import BinaryType, StringType, TimestampNTZType, TimestampType

from sentiment.errors import InvalidInputError
from sentiment.sources.columns import columns_by_name
from sentiment.sources.frame import REVIEWS, review_batches
from sentiment.sources.model import FilePart, Refused, Review, SourceOptions
from sentiment.sources.parquet import batch_records
from sentiment.sources.rules import is_selected, record_review, refused


def reviews_of(rows: DataFrame, options: SourceOptions, *, place: str) -> DataFrame:
    """Rows with any columns as reviews and refused rows: REVIEWS. `file` is `place`, `line` null.

    Raises:
        InvalidInputError: it is not clear which column is the text, or it is of another type.
    """
    options = replace(options, text_column=options.text_column or _text_column(rows.columns))
    columns = columns_by_name(rows.columns, [], options, where=place)
    part = FilePart(path=place, name=place, kind="lines", size=0, first_row=0, columns=columns)
    kind = rows.schema[columns.text].dataType
    if not isinstance(kind, StringType | BinaryType):
        raise InvalidInputError(
            f"column {columns.text!r} is no text but {kind.simpleString()}",
            where=place,
            todo="name the text: --text-column NAME",
        )
    others = sorted(columns.read(options) - {columns.text})
    text = F.col(f"`{columns.text}`").cast("binary").alias(columns.text)
    kept = rows.select(text, *(_spelt(rows, name).alias(name) for name in others))

    def read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in review_batches(_items(batches, part, options)):
            lines = pa.nulls(batch.num_rows, pa.int64())
            yield batch.set_column(batch.schema.get_field_index("line"), "line", lines)

    return kept.mapInArrow(read, REVIEWS)


def _items(
    batches: Iterator[pa.RecordBatch], part: FilePart, options: SourceOptions
) -> Iterator[Review | Refused]:
    assert part.columns is not None
    text, row = part.columns.text, 0
    for batch in batches:
        for record, reason, shown in batch_records(batch, text, options):
            if reason:
                yield refused(part, row=row, line=0, reason=reason, text=shown)
            elif is_selected(record, options):
                yield record_review(part, options, record, row=row, line=0)
            row += 1


def _text_column(names: list[str]) -> str:
    """`text`, else `value`, else the only column there is."""
    for name in ("text", "value"):
        if name in names:
            return name
    if len(names) == 1:
        return names[0]
    raise InvalidInputError(
        f"the text is in none of the columns text and value: there are {', '.join(names)}",
        todo="name it: --text-column NAME",
    )


def _spelt(rows: DataFrame, name: str) -> Column:
    """A column as text; a point in time as seconds since 1970."""
    column = F.col(f"`{name}`")
    if isinstance(rows.schema[name].dataType, TimestampType | TimestampNTZType):
        column = column.cast("timestamp").cast("double")
    return column.cast("string")
