"""What makes a row a review: the rules every reader applies, one row at a time."""

from collections.abc import Mapping

from sentiment.sources.labels import Unlabelled, label_of, label_of_stars, stars_of_ten
from sentiment.sources.model import Columns, FilePart, Refused, Review, SourceOptions
from sentiment.sources.times import time_of
from sentiment.text import has_word

_EXCERPT = 80


def excerpt(text: str) -> str:
    """How a text begins, on one line, without characters a terminal would obey."""
    start = text[: _EXCERPT + 1]
    shown = "".join(
        char if char.isprintable() else char.encode("unicode_escape", "backslashreplace").decode()
        for char in start[:_EXCERPT]
    )
    return shown + ("…" if len(start) > _EXCERPT else "")


def reason_kind(reason: str) -> str:
    """The kind of a reason, without what differs from row to row: "unknown label", "blank"."""
    return "duplicate" if reason.startswith("duplicate of ") else reason.partition(":")[0]


def refused(part: FilePart, *, row: int, line: int, reason: str, text: str) -> Refused:
    """A refusal that names its file and line. `row` counts from the part's first row."""
    return Refused(
        file=part.name,
        line=line,
        reason=reason,
        excerpt=excerpt(text),
        row=part.first_row + row,
    )


def fault_of(text: str, *, max_chars: int) -> str | None:
    """Why a stripped text is no review; None if it is one."""
    if not text:
        return "blank"
    if "\0" in text:
        return "NUL byte"
    if len(text) > max_chars:
        return f"too long: {len(text):,} characters, at most {max_chars:,} (--max-chars)"
    if not (text[0].isalnum() or has_word(text)):  # most begin with a letter: that is quick
        return "no word in it"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "not valid Unicode: a lone surrogate"
    return None


def review(
    part: FilePart, options: SourceOptions, *, text: str, row: int, line: int
) -> Review | Refused:
    """A review whose label, stars and film the file's path tells."""
    text = text.strip()
    if fault := fault_of(text, max_chars=options.max_chars):
        return refused(part, row=row, line=line, reason=fault, text=text)
    return Review(
        text=text,
        label=part.label if options.labels else None,
        stars=part.stars,
        film=part.film,
        source=part.name,
        row=part.first_row + row,
        file=part.name,
        line=line,
        split=part.split,
    )


def is_selected(record: Mapping[str, str | None], options: SourceOptions) -> bool:
    """Whether a record has the values that `--only` asks for."""
    return all(record.get(column) == value for column, value in options.only)


def record_review(
    part: FilePart,
    options: SourceOptions,
    record: Mapping[str, str | None],
    *,
    row: int,
    line: int,
) -> Review | Refused:
    """A review from a record with columns."""
    columns = part.columns
    assert columns is not None
    raw = record.get(columns.text)
    if raw is None:
        reason = f"no text: column {columns.text!r} holds none"
        return refused(part, row=row, line=line, reason=reason, text="")
    text = raw.strip()
    if fault := fault_of(text, max_chars=options.max_chars):
        return refused(part, row=row, line=line, reason=fault, text=text)
    stars = _stars(part, columns, record, line=line)
    label = _label(columns, record, stars) if options.labels else None
    if isinstance(label, Unlabelled):
        if options.need_labels:
            return refused(part, row=row, line=line, reason=label.reason, text=text)
        label = None
    moment = time_of(record.get(columns.time) or "") if columns.time else None
    if columns.time and moment is None:
        value = excerpt(record.get(columns.time) or "")
        return refused(part, row=row, line=line, reason=f"no time: {value!r}", text=text)
    return Review(
        text=text,
        label=label,
        stars=stars,
        film=_value(record, columns.film),
        source=_value(record, columns.source) or part.name,
        row=part.first_row + row,
        file=part.name,
        line=line,
        split=part.split,
        time=moment,
    )


def _value(record: Mapping[str, str | None], column: str | None) -> str | None:
    value = record.get(column) if column else None
    return value.encode("utf-8", "replace").decode() if value else None


def _stars(
    part: FilePart, columns: Columns, record: Mapping[str, str | None], *, line: int
) -> int | None:
    value = _value(record, columns.stars)
    if value is None:
        return None
    return stars_of_ten(value, stars_of=columns.stars_of, where=f"{part.path}:{line}")


def _label(
    columns: Columns, record: Mapping[str, str | None], stars: int | None
) -> int | Unlabelled | None:
    if columns.label is not None:
        return label_of(record.get(columns.label) or "")
    if columns.stars is None:
        return None
    if stars is None:
        value = record.get(columns.stars) or ""
        return Unlabelled(f"unknown label: {value[:40]!r} stars" if value.strip() else "no label")
    return label_of_stars(stars)
