"""One reader a kind of file: rows out of bytes, each one a review or refused with its line."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping

from sentiment.sources.lines import (
    BOM,
    OverlongLineError,
    TextLines,
    encoding_fault,
    line_limit,
    opened,
)
from sentiment.sources.model import FilePart, ReadTask, Refused, Review, SourceOptions, Tally
from sentiment.sources.parquet import parquet_records
from sentiment.sources.rules import is_selected, record_review, refused, review
from sentiment.sources.values import as_text

Row = Review | Refused
Reader = Callable[[FilePart, SourceOptions, Tally], Iterator[Row]]


def read_task(task: ReadTask, *, tally: Tally | None = None) -> Iterator[Row]:
    """The rows of a task's files in the source's order, read as they are asked for.

    `tally` counts the rows passed over.

    Raises:
        InvalidInputError: a file as a whole cannot be read: unseen by this host, broken .gz …
    """
    tally = Tally() if tally is None else tally
    for part in task.parts:
        yield from read_part(part, task.options, tally)


def read_part(part: FilePart, options: SourceOptions, tally: Tally) -> Iterator[Row]:
    """The rows of one file, or of a piece of it."""
    return _READERS[part.kind](part, options, tally)


def _whole(part: FilePart, options: SourceOptions, _: Tally) -> Iterator[Row]:
    """A file that is one review."""
    limit = line_limit(options)
    with opened(part) as file:
        raw = file.read(limit + 1)
    try:
        text = raw.removeprefix(BOM).decode(options.encoding)
    except UnicodeDecodeError as error:
        reason = encoding_fault(error, encoding=options.encoding)
        shown = raw.decode(options.encoding, "replace")
        yield refused(part, row=0, line=1, reason=reason, text=shown)
        return
    yield review(part, options, text=text, row=0, line=1)


def _lines(part: FilePart, options: SourceOptions, _: Tally) -> Iterator[Row]:
    """A file with one review a line."""
    for row, (lines, text, reason) in enumerate(each_line(part, options)):
        if reason:
            yield refused(part, row=row, line=lines.number, reason=reason, text=lines.head)
        else:
            yield review(part, options, text=text, row=row, line=lines.number)


def _jsonl(part: FilePart, options: SourceOptions, tally: Tally) -> Iterator[Row]:
    """A file with one JSON object a line."""
    assert part.columns is not None
    for row, (lines, text, fault) in enumerate(each_line(part, options)):
        record, reason = ({}, fault) if fault else _json_record(text, part.columns.text)
        yield from _record_row(
            part, options, tally, record, row=row, line=lines.number, reason=reason,
            shown=lines.head.strip(),
        )  # fmt: skip


def each_line(
    part: FilePart, options: SourceOptions
) -> Iterator[tuple[TextLines, str, str | None]]:
    """The reader behind each line, the line, and why it cannot be used (or None)."""
    with opened(part) as file:
        lines = TextLines(file, part, options)
        while True:
            lines.begin()
            try:
                text = next(lines)
            except StopIteration:
                return
            except OverlongLineError as error:
                yield lines, "", error.reason
                continue
            yield lines, text, lines.fault


def _json_record(line: str, text_key: str) -> tuple[Mapping[str, str | None], str | None]:
    """A line's record, or an empty one and why."""
    if not line.strip():
        return {}, "blank"
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return {}, f"malformed JSON: {error}"
    if not isinstance(value, dict):
        return {}, "malformed JSON: not an object"
    # A text must be a string; of other values their usual spelling counts.
    record = {key: as_text(item) for key, item in value.items()}
    if not isinstance(value.get(text_key), str):
        record[text_key] = None
    return record, None


def _table(part: FilePart, options: SourceOptions, tally: Tally) -> Iterator[Row]:
    """A CSV or TSV file."""
    assert part.columns is not None and part.table is not None
    names = part.columns.names
    first = -1 if part.table.header and part.opens_file else 0
    for row, (lines, fields, fault) in enumerate(each_record(part, options), start=first):
        if row < 0:
            continue
        reason = fault or lines.fault or _field_fault(fields, names, lines)
        record = dict(zip(names, fields, strict=False))
        yield from _record_row(
            part, options, tally, record, row=row, line=lines.first, reason=reason,
            shown=lines.head.rstrip(),
        )  # fmt: skip


def each_record(
    part: FilePart, options: SourceOptions
) -> Iterator[tuple[TextLines, list[str], str | None]]:
    """The reader behind each record of a table, its fields, and why it is none (or None)."""
    form = part.table
    assert form is not None
    csv.field_size_limit(line_limit(options))
    with opened(part) as file:
        lines = TextLines(file, part, options)
        records = csv.reader(
            lines,
            delimiter=form.delimiter,
            quoting=csv.QUOTE_MINIMAL if form.quoted else csv.QUOTE_NONE,
        )
        while True:
            lines.begin()
            fields: list[str] = []
            fault: str | None = None
            try:
                fields = next(records)
            except StopIteration:
                return
            except OverlongLineError as error:
                fault = error.reason
            except csv.Error as error:
                fault = f"malformed CSV: {error}"
            yield lines, fields, fault


def _field_fault(fields: list[str], names: tuple[str, ...], lines: TextLines) -> str | None:
    if not fields:
        return "blank"
    if len(fields) == len(names):
        return None
    is_long = lines.number > lines.first
    span = f", to line {lines.number:,}: does a quote not close?" if is_long else ""
    return f"wrong number of fields: {len(fields)}, not {len(names)}{span}"


def _parquet(part: FilePart, options: SourceOptions, tally: Tally) -> Iterator[Row]:
    """Row groups of a Parquet file."""
    for row, (record, reason, shown) in enumerate(parquet_records(part, options)):
        line = part.first_line + row
        yield from _record_row(
            part, options, tally, record, row=row, line=line, reason=reason, shown=shown
        )


def _record_row(
    part: FilePart,
    options: SourceOptions,
    tally: Tally,
    record: Mapping[str, str | None],
    *,
    row: int,
    line: int,
    reason: str | None,
    shown: str,
) -> Iterator[Row]:
    """The row of a record; refused with the `reason`, if there is one; none, if not selected."""
    if reason:
        yield refused(part, row=row, line=line, reason=reason, text=shown)
    elif not is_selected(record, options):
        tally.not_selected += 1
    else:
        yield record_review(part, options, record, row=row, line=line)


_READERS: dict[str, Reader] = {
    "whole": _whole,
    "lines": _lines,
    "table": _table,
    "jsonl": _jsonl,
    "parquet": _parquet,
}
