"""A look at how a file begins: is it what its name says, and where is what in it."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from sentiment.errors import InvalidInputError
from sentiment.sources.columns import columns_by_name, columns_without_header
from sentiment.sources.lines import BOM, line_limit, opened
from sentiment.sources.model import FilePart, SourceOptions, TableFormat
from sentiment.sources.values import as_text

_HEAD = 1 << 18
_SAMPLE = 200
_CONTROL = bytes(byte for byte in range(32) if byte not in b"\t\n\r\f\x1b")
_MOST_CONTROL = 0.05
_MAGIC: Final = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF89a": "a GIF image",
    b"%PDF-": "a PDF document",
    b"PK\x03\x04": "a ZIP archive or an office document: export it as CSV",
    b"\xd0\xcf\x11\xe0": "an old office document: export it as CSV",
    b"\x7fELF": "a program",
    b"PAR1": "a Parquet file: name it .parquet",
    b"BZh91AY&SY": "a bzip2 file: unpack it",
    b"\xfd7zXZ": "an xz file: unpack it",
    b"\x28\xb5\x2f\xfd": "a zstd file: unpack it",
}
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class Head:
    """How a file begins, cut at the end of a line unless it is all there."""

    text: str
    whole: bool

    @property
    def lines(self) -> list[str]:
        """Its lines with their ends."""
        parts = self.text.split("\n")
        return [part + "\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def read_head(part: FilePart, options: SourceOptions) -> Head:
    """How a text file begins.

    Raises:
        InvalidInputError: it is empty, no text, or cannot be read.
    """
    with opened(part) as file:
        raw = file.read(_HEAD)
        if len(raw) == _HEAD and b"\n" not in raw:
            raw += file.readline(line_limit(options))
        whole = not file.read(1)
    if not raw.strip():
        raise InvalidInputError("is empty", where=part.path, todo="name a file with reviews")
    _refuse_binary(raw, part.path)
    if not whole:
        raw = raw[: raw.rfind(b"\n") + 1] or raw
    text = raw.removeprefix(BOM).decode(options.encoding, "surrogateescape")
    return Head(text=text, whole=whole)


def _refuse_binary(raw: bytes, path: str) -> None:
    for magic, what in _MAGIC.items():
        if raw.startswith(magic):
            raise InvalidInputError(f"is no text but {what}", where=path, todo=_NEED)
    if raw.startswith(_UTF16):
        raise InvalidInputError(
            "is UTF-16", where=path, todo="make it UTF-8: iconv -f UTF-16 -t UTF-8"
        )
    start = raw[:8192]
    if len(start) - len(start.translate(None, _CONTROL)) > _MOST_CONTROL * len(start):
        raise InvalidInputError("is binary, no text", where=path, todo=_NEED)
    if b"\n" not in raw and b"\r" in raw.strip(b"\r"):
        raise InvalidInputError(
            "its lines end in a bare CR", where=path, todo="make them LF: tr '\\r' '\\n'"
        )


_NEED = "give reviews as CSV, TSV, JSON Lines, Parquet or text"


def look_at_lines(part: FilePart, options: SourceOptions) -> FilePart:
    """A file with one review a line: only that it is text is to be seen."""
    read_head(part, options)
    return part


def look_at_jsonl(part: FilePart, options: SourceOptions) -> FilePart:
    """A JSON Lines file with its columns.

    Raises:
        InvalidInputError: none of its first lines is an object, or none has a text.
    """
    head = read_head(part, options)
    if head.text.lstrip().startswith("["):
        raise InvalidInputError(
            "is one JSON array", where=part.path, todo="make it JSON Lines: jq -c '.[]'"
        )
    records = []
    for line in head.lines[:_SAMPLE]:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            records.append(value)
    if not records:
        raise InvalidInputError(
            "none of its first lines is a JSON object",
            where=f"{part.path}:1",
            todo="give JSON Lines: one object a line",
        )
    names = list(dict.fromkeys(name for record in records for name in record))
    rows = [[as_text(record.get(name)) or "" for name in names] for record in records]
    return replace(part, columns=columns_by_name(names, rows, options, where=part.path))


def look_at_table(part: FilePart, options: SourceOptions) -> FilePart:
    """A CSV or TSV file with its columns, its delimiter and its way of quoting.

    Raises:
        InvalidInputError: no column of it is a text.
    """
    csv.field_size_limit(line_limit(options))
    head = read_head(part, options)
    is_tsv = Path(part.name.removesuffix(".gz")).suffix.casefold() in (".tsv", ".tab")
    form = _tsv_format(head) if is_tsv else _csv_format(head)
    records = _records(head, form)
    first, rows = (records[0], records[1:]) if records else ([], [])
    columns = columns_without_header(first, rows or [first], options, where=part.path)
    if columns is not None:
        form = replace(form, header=columns.names == tuple(first))
    else:
        columns = columns_by_name(first, rows, options, where=part.path)
    return replace(part, columns=columns, table=form)


def _csv_format(head: Head) -> TableFormat:
    """The delimiter that gives the most even table of two columns or more, else a comma."""
    forms = [TableFormat(delimiter=d, quoted=True, header=True) for d in ",;\t|"]
    tables = [(_records(head, form), form) for form in forms]
    wide = [(_evenness(rows), form) for rows, form in tables if rows and len(rows[0]) > 1]
    return max(wide, key=lambda pair: pair[0])[1] if wide else forms[0]


def _tsv_format(head: Head) -> TableFormat:
    """With quotes if they come in pairs around fields, else a quote is a character.

    Some files are even in both readings: a field that begins with a quote may be one of several
    lines, or of one that has a quote at its start.
    """
    quoted = TableFormat(delimiter="\t", quoted=True, header=True)
    plain = replace(quoted, quoted=False)
    as_quoted, as_plain = _records(head, quoted), _records(head, plain)
    if _evenness(as_quoted) != _evenness(as_plain):
        return max((quoted, plain), key=lambda form: _evenness(_records(head, form)))
    around = sum(f[:1] == '"' and f[-1:] == '"' and len(f) > 2 for row in as_plain for f in row)  # noqa: PLR2004
    return quoted if around and _is_well_quoted(head) else plain


def _is_well_quoted(head: Head) -> bool:
    """Whether each quote that opens a field is closed, before a tab or the end of a line."""
    reader = csv.reader(iter(head.lines), delimiter="\t", strict=True)
    try:
        for _ in reader:
            pass
    except csv.Error as error:
        return not head.whole and str(error) == "unexpected end of data"
    return True


def _evenness(rows: Sequence[Sequence[str]]) -> float:
    return sum(len(row) == len(rows[0]) for row in rows) / len(rows) if rows else 0.0


def _records(head: Head, form: TableFormat) -> list[list[str]]:
    reader = csv.reader(
        iter(head.lines),
        delimiter=form.delimiter,
        quoting=csv.QUOTE_MINIMAL if form.quoted else csv.QUOTE_NONE,
    )
    records: list[list[str]] = []
    while True:
        try:
            records.append(next(reader))
        except StopIteration:
            # The last one may be cut off in the middle of a quoted field.
            return records if head.whole or len(records) <= 1 else records[:-1]
        except csv.Error:
            continue
    return records
