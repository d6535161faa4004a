"""Ingest: reviews in any of their shapes into a corpus, on the cluster."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from sentiment.corpus import (
    FORMAT,
    MANIFEST,
    Corpus,
    is_corpus,
    open_corpus,
)
from sentiment.errors import InvalidInputError
from sentiment.files import new_directory, refuse_existing, write_json
from sentiment.placing import (
    count_placed,
    labels_of_splits,
    placed_reviews,
    slots_of,
    write_quarantine,
    write_reviews,
)
from sentiment.sources import Source, reason_kind
from sentiment.sources.frame import reviews_and_files
from sentiment.splits import How, SplitOptions, chosen_way, held_out
from sentiment.text import TOKENIZER

PART_BYTES = 64 << 20
"""Text in a file of the corpus, about."""
_LISTED_FILES = 100
_BATCH_BYTES = 32 << 20
Step = Callable[[str], AbstractContextManager[None]]


@dataclass(frozen=True)
class FileRead:
    """A part of a file that was read; `sha256` and `bytes` in the part with its first row."""

    row: int
    file: str
    bytes: int | None
    sha256: str | None
    not_selected: int


@dataclass(frozen=True)
class IngestOptions:
    """What ingest does with what it reads. `part_bytes` of text go into a file, about."""

    split: SplitOptions = field(default_factory=SplitOptions)
    one_label: bool = False
    part_bytes: int = PART_BYTES


def check_before(source: Source, target: Path, options: IngestOptions, *, replace: bool) -> How:
    """Whatever can be refused before the cluster is asked; the way to split.

    Raises:
        SentimentError: `target` exists, or is no corpus to replace.
        InvalidInputError: `target` and the source overlap, or the source has one label only.
    """
    here, there = target.resolve(), Path(source.path).resolve()
    if here == there or there in here.parents or (replace and here in there.parents):
        raise InvalidInputError(
            "the corpus would lie in its source, or replace it",
            where=str(target),
            todo="name a place outside of the source",
        )
    refuse_existing(target, replace=replace)
    if target.exists() and not is_corpus(target) and not _is_empty(target):
        raise InvalidInputError(
            "is no corpus: --force replaces only what ingest made",
            where=str(target),
            todo="name another place",
        )
    if source.kind == "imdb" and source.labelled:
        labels = Counter(part.label for task in source.tasks for part in task.parts)
        _refuse_one_label(source, {k: n for k, n in labels.items() if k is not None}, options)
    return chosen_way(source, options.split)


def _is_empty(target: Path) -> bool:
    return target.is_dir() and not any(target.iterdir())


def _refuse_one_label(
    source: Source,
    labels: Mapping[int, int],
    options: IngestOptions,
    *,
    refused: Counter[str] | None = None,
) -> None:
    if options.one_label or len(labels) != 1:
        return
    others = ", ".join(f"{reason} ({rows:,})" for reason, rows in (refused or {}).items())
    raise InvalidInputError(
        f"has one label only: {labels.get(0, 0):,} pan, {labels.get(1, 0):,} praise"
        + (f"; not usable: {others}" if others else ""),
        where=source.spec,
        todo="name a source with both; or allow it: --one-label",
    )


def ingest(
    spark: SparkSession,
    source: Source,
    target: Path,
    options: IngestOptions,
    *,
    step: Step,
    replace: bool = False,
) -> Corpus:
    """Read a source on the cluster and write it as the corpus `target`.

    Every row of the source is kept or quarantined. The same source, options
    and seed give the same files, byte for byte, on any number of workers.
    `step` is entered with what goes on, for the user to see.

    Raises:
        InvalidInputError: a file cannot be read, no row can be used, one label only.
        SentimentError: `target` exists or cannot be written.
    """
    how = check_before(source, target, options, replace=replace)
    spark.conf.set("spark.sql.execution.arrow.maxBytesPerBatch", str(_BATCH_BYTES))
    spark.conf.set("spark.sql.shuffle.partitions", str(_partitions(spark, source)))
    with new_directory(target, replace=replace) as aside:
        rows = reviews_and_files(spark, source).persist()
        try:
            manifest = _write(rows, source, aside, options, how, step)
        finally:
            rows.unpersist()
        write_json(aside / MANIFEST, manifest)
    return open_corpus(target)


def _partitions(spark: SparkSession, source: Source) -> int:
    cores = spark.sparkContext.defaultParallelism
    return max(2 * cores, source.size // _BATCH_BYTES + 1)


def _write(
    rows: DataFrame, source: Source, aside: Path, options: IngestOptions, how: How, step: Step
) -> dict[str, Any]:
    """Write all files of the corpus but the manifest, which is returned."""
    with step(f"reading {source.files:,} files, {source.size / 1e6:,.1f} MB"):
        reasons, files = _read(rows)
    with step("looking for duplicates"):
        repeats = _repeats(rows).persist()
        duplicates = repeats.count()
    try:
        kept = _kept(rows, repeats if duplicates else None)
        with step("splitting"):
            test = held_out(kept, how, options.split)
            placed = placed_reviews(kept, test, options.split.seed)
            counted = count_placed(placed)
            splits = labels_of_splits(counted)
            _refuse_useless(source, splits, reasons, options)
        with step("shuffling and writing"):
            parts = write_reviews(placed, aside, slots_of(counted, options.part_bytes))
            quarantined = sum(reasons.values()) + duplicates
            if quarantined:
                parts.append(write_quarantine(rows, repeats, aside))
    finally:
        repeats.unpersist()
    if duplicates:
        reasons["duplicate"] = duplicates
    return _manifest(source, options, how, reasons=reasons, files=files, splits=splits, parts=parts)


def _read(rows: DataFrame) -> tuple[Counter[str], list[FileRead]]:
    """Read the whole source: refused rows by kind of reason, and what was read."""
    is_file = F.col("not_selected").isNotNull()
    known = ("row", "file", "bytes", "sha256", "not_selected")
    file = F.when(is_file, F.struct(*known)).alias("read")
    kind = F.regexp_extract("reason", "^[^:]*", 0).alias("kind")
    reasons: Counter[str] = Counter()
    files: list[FileRead] = []
    of_interest = rows.where(is_file | F.col("reason").isNotNull())
    for row in of_interest.groupBy(file, kind).count().collect():
        if row["read"] is None:
            reasons[reason_kind(row["kind"])] += row["count"]
        else:
            files.append(FileRead(**row["read"].asDict()))
    return reasons, sorted(files, key=lambda read: read.row)


def _repeats(rows: DataFrame) -> DataFrame:
    """Reviews whose text an earlier row has: row, and that row's file and line."""
    same = Window.partitionBy("text_sha").orderBy("row")
    keys = rows.where("text is not null").select(
        F.unhex(F.sha2("text", 256)).alias("text_sha"), "row", "file", "line"
    )
    ranked = keys.select(
        "row",
        F.row_number().over(same).alias("rank"),
        F.first("file").over(same).alias("first_file"),
        F.first("line").over(same).alias("first_line"),
    )
    return ranked.where("rank > 1").drop("rank")


def _kept(rows: DataFrame, repeats: DataFrame | None) -> DataFrame:
    reviews = rows.where("text is not null")
    return reviews if repeats is None else reviews.join(repeats, "row", "left_anti")


def _refuse_useless(
    source: Source,
    splits: Mapping[str, Mapping[str, int]],
    reasons: Counter[str],
    options: IngestOptions,
) -> None:
    if not splits:
        top = ", ".join(f"{reason} ({rows:,})" for reason, rows in reasons.most_common(3))
        raise InvalidInputError(
            f"none of its {sum(reasons.values()):,} rows can be used: {top}"
            if reasons
            else "has no rows",
            where=source.spec,
            todo="look at its first rows; name the columns: --text-column, --label-column",
        )
    labels: Counter[int] = Counter()
    for by_label in splits.values():
        labels.update({int(label): n for label, n in by_label.items() if label != "none"})
    if source.labelled:
        _refuse_one_label(source, labels, options, refused=reasons)


def _manifest(
    source: Source,
    options: IngestOptions,
    how: How,
    *,
    reasons: Counter[str],
    files: list[FileRead],
    splits: Mapping[str, Mapping[str, int]],
    parts: list[dict[str, Any]],
) -> dict[str, Any]:
    kept = sum(sum(labels.values()) for labels in splits.values())
    quarantined = sum(reasons.values())
    content = "".join(f"{part['sha256']}  {part['path']}\n" for part in parts)
    return {
        "format": FORMAT,
        "digest": hashlib.sha256(content.encode()).hexdigest(),
        "tokenizer": TOKENIZER,
        "seed": options.split.seed,
        "split": {"how": how, "test": str(options.split.test)},
        "rows": {
            "in": kept + quarantined,
            "kept": kept,
            "quarantined": quarantined,
            "reasons": dict(reasons.most_common()),
            "not_selected": sum(read.not_selected for read in files),
        },
        "splits": {
            split: {"rows": sum(labels.values()), "labels": labels}
            for split, labels in splits.items()
        },
        "source": _source_entry(source, files),
        "parts": parts,
    }


def _source_entry(source: Source, files: list[FileRead]) -> dict[str, Any]:
    """What was read. The digest of a folder is that of its list, as sha256sum prints it."""
    listed = [
        {"path": read.file, "bytes": read.bytes or 0, "sha256": read.sha256}
        for read in files
        if read.sha256
    ]
    lines = "".join(f"{file['sha256']}  {file['path']}\n" for file in listed)
    is_one = len(listed) == 1
    digest = listed[0]["sha256"] if is_one else hashlib.sha256(lines.encode()).hexdigest()
    return {
        "spec": source.spec,
        "path": source.path,
        "kind": source.kind,
        "files": len(listed),
        "bytes": sum(read.bytes or 0 for read in files),
        "sha256": digest,
        "listed": listed if len(listed) <= _LISTED_FILES else [],
        "only": [f"{column}={value}" for column, value in source.options.only],
        "notes": list(source.notes),
    }
