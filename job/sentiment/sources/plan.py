"""From files to tasks: small files together, big ones alone, in the source's order."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from sentiment.sources.model import FilePart, ReadTask, SourceOptions

TASK_BYTES = 16 << 20
TASK_FILES = 2000
_UNPACKED = 4  # how much bigger text usually is than its .gz
_MOST_UNPACKED = 1032  # the highest ratio that deflate reaches (RFC 1951)


def in_order(parts: Iterable[FilePart]) -> Iterator[FilePart]:
    """Give each part its first row: after every row the parts before can have.

    A text file cannot have more rows than bytes, so no file must be read for it.
    """
    row = 0
    for part in parts:
        yield replace(part, first_row=row)
        row += _most_rows(part)


def _most_rows(part: FilePart) -> int:
    if part.kind == "whole":
        return 1
    if part.kind == "parquet":
        return part.rows
    return part.size * (_MOST_UNPACKED if part.gzip else 1) + 1


def packed(
    parts: Iterable[FilePart], options: SourceOptions, *, task_bytes: int = TASK_BYTES
) -> tuple[ReadTask, ...]:
    """Tasks of at most 16 MiB or 2,000 files each; a bigger file is a task of its own."""
    tasks: list[ReadTask] = []
    group: list[FilePart] = []
    size = 0
    for part in parts:
        cost = part.size * (_UNPACKED if part.gzip else 1)
        if group and (size + cost > task_bytes or len(group) >= TASK_FILES):
            tasks.append(ReadTask(parts=tuple(group), options=options))
            group, size = [], 0
        group.append(part)
        size += cost
    if group:
        tasks.append(ReadTask(parts=tuple(group), options=options))
    return tuple(tasks)
