"""Scores on disk while a run makes them, so that it goes on where it ended.

    OUT.parts/
        run.json                 what is scored, and with which model
        000000-000008.parquet    the rows of these tasks of the source's plan, scored or refused

Each part is written aside, flushed and renamed. At the end they become OUT and its quarantine,
in the source's order, and are removed. Memory holds one part at a time.
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Final, Protocol

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from sentiment.errors import InvalidInputError
from sentiment.files import locked_directory, new_file, write_file, write_json
from sentiment.score import json_lines, with_verdicts
from sentiment.sources.model import Source
from sentiment.sources.rules import reason_kind

RUN: Final = "run.json"
FORMAT: Final = 1
SUFFIXES: Final = (".jsonl", ".csv", ".parquet")
_REFUSED: Final = ("row", "file", "line", "reason")


@dataclass(frozen=True)
class Counts:
    """How many rows are scored and refused, and the refused ones by kind of reason."""

    rows: int = 0
    quarantined: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)


def run_of(source: Source, *, model_digest: str) -> dict[str, Any]:
    """What tells a run from another one: the model, how the source is read, and its files."""
    files = [part for task in source.tasks for part in task.parts if part.opens_file]
    return {
        "format": FORMAT,
        "model": model_digest,
        "source": source.spec,
        "options": json.loads(json.dumps(asdict(source.options))),
        "tasks": len(source.tasks),
        "files": len(files),
        "changed": max((Path(part.path).stat().st_mtime_ns for part in files), default=0),
        "bytes": source.size,
    }


def parts_directory(out: Path) -> Path:
    """Where the parts are of a run that writes `out`."""
    return out.with_name(f"{out.name}.parts")


def quarantine_of(out: Path) -> Path:
    """Where the rows go that have no score."""
    return out.with_name(f"{out.name}.quarantine.jsonl")


@contextmanager
def score_parts(out: Path, run: Mapping[str, Any], *, replace: bool) -> Iterator["ScoreParts"]:
    """The parts of a run into `out`, those that an interrupted one has left included.

    No other run has them as long as the block runs. With `replace` those of another run go.

    Raises:
        SentimentError: another run has them, or the disk refuses.
        InvalidInputError: they are of another run.
    """
    directory = parts_directory(out.absolute())
    with locked_directory(directory):
        parts = ScoreParts(directory, out)
        try:
            parts.begin(run, replace=replace)
            yield parts
        finally:
            parts.leave()


class ScoreParts:
    """Parts of a run, in its directory (`score_parts`)."""

    def __init__(self, directory: Path, out: Path) -> None:
        """Nothing is read or written yet."""
        self.directory = directory
        self._out = out
        self._mine = False

    def begin(self, run: Mapping[str, Any], *, replace: bool) -> None:
        """Go on with the parts that are there, or begin anew."""
        theirs = self._run()
        if theirs is None and any(self.directory.iterdir()):
            raise InvalidInputError(
                "is in the way, and no run of sentiment score has made it",
                where=str(self.directory),
                todo="move it away, or name another OUT",
            )
        self._mine = True
        if theirs is not None and theirs != dict(run) and not replace:
            raise _other_run(self.directory, theirs, run)
        if theirs != dict(run):
            for path in self.directory.iterdir():
                path.unlink()
            write_json(self.directory / RUN, dict(run))

    def _run(self) -> dict[str, Any] | None:
        try:
            return dict(json.loads((self.directory / RUN).read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError):
            return {}

    @property
    def done(self) -> int:
        """How many of the source's tasks are done, from the first one on."""
        spans = self._spans()
        return spans[-1][1] if spans else 0

    def _spans(self) -> list[tuple[int, int, Path]]:
        """First task, the task after the last one, and the file of each part, without a gap."""
        spans: list[tuple[int, int, Path]] = []
        for path in sorted(self.directory.glob("*-*.parquet")):
            first, _, last = path.stem.partition("-")
            if int(first) == (spans[-1][1] if spans else 0):
                spans.append((int(first), int(last), path))
        return spans

    def add(self, table: pa.Table, *, first: int, last: int) -> None:
        """Keep the rows of the tasks from `first` on, up to `last`, which is not one of them.

        Raises:
            SentimentError: the disk refuses; the parts before are as they were.
        """
        buffer = pa.BufferOutputStream()
        pq.write_table(table, buffer, compression="zstd")
        target = self.directory / f"{first:06d}-{last:06d}.parquet"
        write_file(target, buffer.getvalue().to_pybytes())

    def tables(self) -> Iterator[pa.Table]:
        """The rows of each part, in the source's order."""
        for _, _, path in self._spans():
            yield pq.read_table(path)

    def counts(self) -> Counts:
        """What all parts together hold."""
        rows = refused = 0
        kinds: Counter[str] = Counter()
        for _, _, path in self._spans():
            reasons = pq.read_table(path, columns=["reason"])["reason"]
            rows += reasons.null_count
            refused += len(reasons) - reasons.null_count
            kinds.update(reason_kind(reason) for reason in reasons.drop_null().to_pylist())
        return Counts(rows, refused, dict(kinds.most_common()))

    def finish(self, *, model_digest: str) -> Path | None:
        """Write OUT and its quarantine, and remove the parts; the quarantine's path, if any.

        Raises:
            SentimentError: the disk refuses; the parts stay.
        """
        quarantine = quarantine_of(self._out)
        if self.counts().quarantined:
            with new_file(quarantine) as file:
                for table in self.tables():
                    refused = table.filter(table["reason"].is_valid()).select(list(_REFUSED))
                    file.write(json_lines(refused))
        else:
            quarantine.unlink(missing_ok=True)  # of an earlier run: it would tell of other rows
        with new_file(self._out) as file:
            writer: _Writer | None = None
            for table in self.tables():
                accepted = with_verdicts(table, model_digest)
                writer = writer or _writer(file, self._out.suffix, accepted.schema)
                writer.write_table(accepted)
            if writer is not None:
                writer.close()
        shutil.rmtree(self.directory, ignore_errors=True)
        return quarantine if quarantine.exists() else None

    def leave(self) -> None:
        """Without a part it is nothing."""
        if self._mine and self.directory.is_dir() and not self._spans():
            shutil.rmtree(self.directory, ignore_errors=True)


class _Writer(Protocol):
    def write_table(self, table: pa.Table) -> None: ...

    def close(self) -> None: ...


class _JsonLines:
    """A table a call, as one JSON object a row."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write_table(self, table: pa.Table) -> None:
        self._file.write(json_lines(table))

    def close(self) -> None:
        """Nothing is held back."""


def _writer(file: IO[bytes], suffix: str, schema: pa.Schema) -> _Writer:
    if suffix == ".jsonl":
        return _JsonLines(file)
    if suffix == ".csv":
        return pa_csv.CSVWriter(file, schema)  # type: ignore[no-any-return]
    return pq.ParquetWriter(file, schema, compression="zstd")  # type: ignore[no-any-return]


def _other_run(path: Path, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> InvalidInputError:
    names = {"changed": "the time of its files", "bytes": "its size", "model": "the model"}
    other = sorted(
        names.get(key, key) for key in {*theirs, *ours} if theirs.get(key) != ours.get(key)
    )
    return InvalidInputError(
        f"an interrupted run of another kind has left its scores here: not the same is "
        f"{', '.join(other)}",
        where=str(path),
        todo="give the same source, options and model to go on with it, or --force to begin anew",
    )
