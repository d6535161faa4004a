"""What a source of reviews is: its options, its plan of reading, and what reading yields."""

from dataclasses import dataclass, field
from typing import Literal

Part = Literal["all", "train", "test", "heldout"]
FileKind = Literal["table", "jsonl", "parquet", "lines", "whole"]

PAN = 0
PRAISE = 1


@dataclass(frozen=True)
class SourceOptions:
    """How to read a source.

    `text_column` and `label_column` name columns that cannot be guessed; `time_column` one that
    tells when a row was made, which no column is taken for unasked.
    `only` keeps the rows whose column has the value: (("source", "imdb"),).
    `labels` False ignores every label: the rows are to be scored, not learned from.
    `need_labels` False keeps a row whose label is missing, unknown or neutral, without one.
    `unlabelled` takes in what a labelled folder holds without a label (aclImdb's unsup).
    `part` chooses among the splits a source brings along; "heldout" is its
    test split if it has one, else all of it.
    `stars_of` is the top of the rating scale, 5 or 10; None guesses.
    """

    text_column: str | None = None
    label_column: str | None = None
    time_column: str | None = None
    only: tuple[tuple[str, str], ...] = ()
    encoding: str = "utf-8"
    max_chars: int = 1_000_000
    labels: bool = True
    need_labels: bool = True
    unlabelled: bool = False
    part: Part = "all"
    stars_of: int | None = None


@dataclass(frozen=True)
class Columns:
    """Where a file of records keeps what is read: a column's index or a record's key.

    `names` are all columns in order (empty: no header, one text a record).
    `stars_of` is 5 or 10 when `stars` is a rating that the label comes from
    or that is kept with it.
    """

    names: tuple[str, ...]
    text: str
    label: str | None = None
    stars: str | None = None
    film: str | None = None
    source: str | None = None
    time: str | None = None
    stars_of: int = 10

    def read(self, options: SourceOptions) -> set[str]:
        """The columns that reading looks at."""
        named = {self.text, self.label, self.stars, self.film, self.source, self.time}
        return {name for name in named if name} | {column for column, _ in options.only}


@dataclass(frozen=True)
class TableFormat:
    """How a CSV or TSV is written."""

    delimiter: str
    quoted: bool
    header: bool


@dataclass(frozen=True)
class FilePart:
    """A file, or a piece of one, that one task reads from end to end.

    A piece is some row groups of a Parquet file, or the bytes of `span` (from, to) of a text file:
    whole records (`sentiment.sources.cut`).

    `name` is the path as messages and the corpus give it: relative to the
    source. `first_row` is the place of its first row in the source's order;
    numbers between two files may stay unused. `label`, `stars`, `film` and
    `split` hold for every row where the path tells them. `rows` is known of Parquet only.
    """

    path: str
    name: str
    kind: FileKind
    size: int
    first_row: int
    gzip: bool = False
    columns: Columns | None = None
    table: TableFormat | None = None
    row_groups: tuple[int, ...] = ()
    rows: int = 0
    first_line: int = 1
    span: tuple[int, int] | None = None
    label: int | None = None
    stars: int | None = None
    film: str | None = None
    split: str | None = None

    @property
    def opens_file(self) -> bool:
        """Whether this is the part with the file's first row."""
        return self.first_line == 1


@dataclass(frozen=True)
class ReadTask:
    """What one task of the cluster reads, in the source's order. Picklable."""

    parts: tuple[FilePart, ...]
    options: SourceOptions

    @property
    def size(self) -> int:
        """Bytes to read."""
        return sum(part.size for part in self.parts)


@dataclass(frozen=True)
class Source:
    """A source that was found and looked at, but not read yet.

    `kind` is "imdb", "corpus", "pypi", "folder" or a file's own kind. `splits`
    are the splits it brings along, "train" and "test" or none. `notes` say
    what was guessed and what was left out.
    """

    spec: str
    path: str
    kind: str
    tasks: tuple[ReadTask, ...]
    labelled: bool
    options: SourceOptions
    splits: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def files(self) -> int:
        """The number of files."""
        return sum(part.opens_file for task in self.tasks for part in task.parts)

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(task.size for task in self.tasks)


@dataclass(frozen=True, slots=True)
class Review:
    """A review that can be used: `text` holds a word and has no white space at its ends.

    `label` is 1 praise, 0 pan or None; `stars` are of ten; `row` is its place
    in the source's order; `line` is the line, or the row of a Parquet file,
    at which it begins, from 1; `split` is the split that the source gives it; `time` is when it
    was made, in seconds since 1970, where the options name a column for it.
    """

    text: str
    label: int | None
    stars: int | None
    film: str | None
    source: str | None
    row: int
    file: str
    line: int
    split: str | None = None
    time: float | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that cannot be used, and why. `excerpt` is how it begins, fit for printing."""

    file: str
    line: int
    reason: str
    excerpt: str
    row: int


@dataclass
class Tally:
    """What reading passed over without yielding it: rows that `only` did not select."""

    not_selected: int = field(default=0)
