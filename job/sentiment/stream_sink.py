"""Where a stream's scores go: a file a micro-batch, which a batch that is made again overwrites.

    OUT/
        stream.json                           which stream it is of
        scores/batch-000000012.parquet        its reviews with their scores
        quarantine/batch-000000012.jsonl      its other rows, each with its reason
        events.jsonl                          rates, latencies, shares: one JSON object a batch

A review is scored once: one whose text was scored by an earlier batch is a duplicate of it. Of
how many of the latest reviews that is known is a setting. So is when a review is late: its time is
before that of the newest review of all batches before by more than so many seconds. That newest
time is kept in each batch's own file.
"""

import json
import math
import shutil
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from sentiment.errors import InvalidInputError
from sentiment.files import new_file, write_json
from sentiment.score import json_lines, with_verdicts
from sentiment.sources.times import spelt
from sentiment.stream_files import LOG

DESCRIPTION: Final = "stream.json"
FORMAT: Final = 1
SCORES: Final = "scores"
SPARK: Final = "spark"
"""Spark's own part of a checkpoint."""
DUPLICATE: Final = "duplicate of a review in batch"
LATE: Final = "late"
_NEWEST: Final = b"newest_time"


def claim(directory: Path, about: Mapping[str, Any], *, name: str) -> None:
    """Make a directory one of this stream, or find that it is, or has none of another's batches.

    Raises:
        InvalidInputError: it is another stream's, or has files of something else in it.
    """
    path = directory / DESCRIPTION
    try:
        theirs = json.loads(path.read_bytes())
    except FileNotFoundError:
        if directory.exists() and any(directory.iterdir()):
            raise InvalidInputError(
                f"{name} is not empty, and no stream's",
                where=str(directory),
                todo="name another folder",
            ) from None
        write_json(path, {"format": FORMAT, **about})
        return
    except (OSError, ValueError) as error:
        raise InvalidInputError(
            f"{DESCRIPTION} cannot be read: {error}", where=str(directory), todo="name another one"
        ) from error
    other = sorted(key for key in about if theirs.get(key) != about[key])
    if other and not _has_batches(directory):
        # Of one that never came to a batch: what Spark has planned of it goes as well.
        shutil.rmtree(directory / SPARK, ignore_errors=True)
        write_json(path, {"format": FORMAT, **about})
    elif other:
        raise InvalidInputError(
            f"{name} is another stream's: its {other[0]} is {theirs.get(other[0])}, "
            f"not {about[other[0]]}",
            where=str(directory),
            todo="name another folder, or give what that stream was given",
        )


def _has_batches(directory: Path) -> bool:
    """Of OUT: that are written; of a checkpoint: that have ended."""
    ended = (directory / SPARK / "commits").glob("[0-9]*")
    return last_batch(directory) >= 0 or any(ended) or (directory / LOG).exists()


@dataclass(frozen=True)
class Kept:
    """What a batch came to.

    `praise` counts the scored reviews that praise; `late` ones are among the quarantined.
    """

    scored: int
    praise: int
    quarantined: int
    duplicates: int
    late: int


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What a stream knows of the reviews before.

    It knows the latest `reviews` of them by their texts. One that is older than the newest by more
    than `late` seconds is refused; None takes each.
    """

    reviews: int = 1_000_000
    late: float | None = None


class Sink:
    """The scores of a stream, and which reviews have one."""

    def __init__(self, directory: Path, *, memory: Memory) -> None:
        """Learn what earlier runs have scored."""
        self._scores = directory / SCORES
        self._quarantine = directory / "quarantine"
        self._memory = memory
        for folder in (self._scores, self._quarantine):
            folder.mkdir(parents=True, exist_ok=True)
        self._learn(before=None)

    def _learn(self, *, before: int | None) -> None:
        """What the batches have scored, or those before one; how new their newest review is."""
        self._batch_of: dict[int, int] = {}
        self._order: deque[tuple[int, list[int]]] = deque()
        self._newest: float | None = None
        self._last = -1
        known = 0
        for number, path in _latest_batches(self._scores):
            if before is not None and number >= before:
                continue
            if self._last < 0:
                self._last = number
                kept = (pq.read_schema(path).metadata or {}).get(_NEWEST)
                self._newest = float(kept) if kept else None
            keys = _keys(pq.read_table(path, columns=["id"])["id"])
            self._order.appendleft((number, keys))
            known += len(keys)
            if known >= self._memory.reviews:
                break
        for number, keys in self._order:
            self._batch_of.update(dict.fromkeys(keys, number))

    def has(self, number: int) -> bool:
        """Whether this batch, or one after it, was written before."""
        return number <= self._last

    @property
    def remembered(self) -> int:
        """How many reviews it knows."""
        return len(self._batch_of)

    def write(self, number: int, table: pa.Table, *, model_digest: str) -> Kept:
        """Write a batch: rows as `scoring.SCHEMA` has them, those of one text once.

        A batch that is made again finds its own reviews new.

        Raises:
            SentimentError: the disk refuses; no file of this batch is there then, or the one that
                was.
        """
        self._forget(number)
        table, late = self._without_late(table)
        table, keys, duplicates = self._without_duplicates(number, table)
        refused = table.filter(table["reason"].is_valid())
        with new_file(self._quarantine / f"batch-{number:09d}.jsonl") as file:
            file.write(json_lines(refused.select(["file", "line", "id", "reason"])))
        scored = with_verdicts(table, model_digest).drop_columns(["row"])
        newest = _newest_of(scored["time"], before=self._newest)
        if newest is not None:
            scored = scored.replace_schema_metadata({_NEWEST: repr(newest)})
        # Last: with it the batch is there.
        with new_file(self._scores / f"batch-{number:09d}.parquet") as file:
            pq.write_table(scored, file, compression="zstd")
        self._last, self._newest = number, newest
        self._order.append((number, keys))
        self._batch_of.update(dict.fromkeys(keys, number))
        self._let_go()
        return Kept(
            scored=scored.num_rows,
            praise=scored["verdict"].to_pylist().count("praise"),
            quarantined=refused.num_rows - duplicates,
            duplicates=duplicates,
            late=late,
        )

    def _without_late(self, table: pa.Table) -> tuple[pa.Table, int]:
        """The table with late reviews refused, and their number."""
        if self._memory.late is None:
            return table, 0
        first = -math.inf if self._newest is None else self._newest - self._memory.late
        reasons, late = table["reason"].to_pylist(), 0
        for row, (time, reason) in enumerate(zip(table["time"].to_pylist(), reasons, strict=True)):
            if reason is None and time is None:
                reasons[row] = "no time"
            elif reason is None and time < first:
                reasons[row] = f"{LATE}: {spelt(time)}, taken from {spelt(first)} on"
                late += 1
        return _with_reasons(table, reasons), late

    def _forget(self, number: int) -> None:
        """What earlier tries have left of this batch and of those after it.

        After a repair the batches from one on are made again, of other files than before: a later
        one that stayed would have reviews twice, or lose them when its number comes again.
        """
        if number > self._last:
            return
        self._learn(before=number)
        for last, path in _latest_batches(self._scores):
            if last > number:
                (self._quarantine / f"batch-{last:09d}.jsonl").unlink(missing_ok=True)
                path.unlink()

    def _without_duplicates(self, number: int, table: pa.Table) -> tuple[pa.Table, list[int], int]:
        """The table with duplicates refused; the keys of the reviews that are scored now."""
        reasons = table["reason"].to_pylist()
        mine: dict[int, None] = {}
        duplicates = 0
        for row, (name, reason) in enumerate(zip(table["id"].to_pylist(), reasons, strict=True)):
            if reason is None:
                key = int(name, 16)
                earlier = number if key in mine else self._batch_of.get(key)
                if earlier is None:
                    mine[key] = None
                else:
                    reasons[row] = f"{DUPLICATE} {earlier}"
                    duplicates += 1
        return _with_reasons(table, reasons), list(mine), duplicates

    def _let_go(self) -> None:
        while len(self._batch_of) > self._memory.reviews and len(self._order) > 1:
            number, keys = self._order.popleft()
            for key in keys:
                if self._batch_of.get(key) == number:
                    del self._batch_of[key]


def last_batch(directory: Path) -> int:
    """The number of the last batch that OUT has; -1: none."""
    return next((number for number, _ in _latest_batches(directory / SCORES)), -1)


def _latest_batches(scores: Path) -> Iterator[tuple[int, Path]]:
    for path in sorted(scores.glob("batch-*.parquet"), reverse=True):
        yield int(path.stem.removeprefix("batch-")), path


def _newest_of(times: pa.ChunkedArray, *, before: float | None) -> float | None:
    known = [one for one in (*times.to_pylist(), before) if one is not None]
    return max(known, default=None)


def _with_reasons(table: pa.Table, reasons: list[str | None]) -> pa.Table:
    place = table.schema.get_field_index("reason")
    return table.set_column(place, "reason", pa.array(reasons, pa.string()))


def _keys(ids: pa.ChunkedArray) -> list[int]:
    return [int(one, 16) for one in ids.to_pylist()]
