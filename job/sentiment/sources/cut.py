"""Large text files cut at the ends of their records, so that several tasks read one.

Parquet files come cut at their row groups (`sentiment.sources.parquet`); a .gz can only be
read from its beginning.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from sentiment.sources.model import FilePart, Source, SourceOptions
from sentiment.sources.plan import TASK_BYTES, packed
from sentiment.sources.readers import each_line, each_record

_KINDS: Final = ("table", "jsonl", "lines")


def cut_files(source: Source, *, task_bytes: int = TASK_BYTES) -> Source:
    """The same rows in tasks of about `task_bytes` at most, also those of a larger text file.

    Such a file is read once to find where its records end, by its own reader: a line may end
    within a field in quotes.

    Raises:
        InvalidInputError: a file cannot be read.
    """
    parts = [
        piece
        for task in source.tasks
        for part in task.parts
        for piece in (
            _pieces(part, task.options, task_bytes // 2)
            if part.kind in _KINDS and not part.gzip and part.size > task_bytes
            else (part,)
        )
    ]
    return replace(source, tasks=packed(parts, source.options, task_bytes=task_bytes))


def _pieces(part: FilePart, options: SourceOptions, size: int) -> Iterator[FilePart]:
    """Runs of records of at least so many bytes each, and what is left."""
    start, first_line, rows = 0, 1, 0
    header = part.table is not None and part.table.header
    count = -1 if header else 0
    lines = None
    for lines, *_ in each_record(part, options) if part.table else each_line(part, options):
        count += 1
        if lines.offset - start >= size:
            yield _piece(part, (start, lines.offset), first_line=first_line, rows=rows)
            start, first_line, rows = lines.offset, lines.number + 1, count
    if lines is not None and lines.offset > start:
        yield _piece(part, (start, lines.offset), first_line=first_line, rows=rows)


def _piece(part: FilePart, span: tuple[int, int], *, first_line: int, rows: int) -> FilePart:
    """The records within `span`, before which there are so many rows."""
    return replace(
        part,
        span=span,
        size=span[1] - span[0],
        first_line=first_line,
        first_row=part.first_row + rows,
    )
