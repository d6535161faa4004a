"""From reviews to the files of a corpus: the global shuffle, cut into parts, written."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from sentiment.corpus import QUARANTINE, QUARANTINE_SCHEMA, SCHEMA
from sentiment.sources.rules import excerpt
from sentiment.splits import shuffle_key
from sentiment.writing import WrittenFile, check_written, with_positions, write_parquet

_BUCKET_BITS = 12  # the shuffle's order has 63 bits, its first 12 are the bucket
_SHOWN = 100  # characters, more than an excerpt has
_WRITTEN = "name string, rows bigint, bytes bigint, sha256 string, host string"


@dataclass(frozen=True)
class Slot:
    """A file to write, with its rows and the position of the first; one without rows is not."""

    split: str
    name: str
    first: int
    rows: int


def placed_reviews(kept: DataFrame, test: Column, seed: int) -> DataFrame:
    """The reviews with their split, their id and their place in the shuffle."""
    order = shuffle_key(seed)
    return kept.select(
        F.when(test, "test").otherwise("train").alias("split"),
        order.alias("order"),
        F.shiftright(order, 63 - _BUCKET_BITS).alias("bucket"),
        F.substring(F.sha2("text", 256), 1, 16).alias("id"),
        *("text", "label", "stars", "film", "source", "row"),
    )


def count_placed(placed: DataFrame) -> list[Row]:
    """Rows and bytes of text of each split, label and bucket of the shuffle."""
    by_bucket = placed.groupBy("split", "label", "bucket").agg(
        F.count("*").alias("rows"), F.sum(F.octet_length("text")).alias("bytes")
    )
    return sorted(
        by_bucket.collect(),
        key=lambda row: (row["split"] == "test", str(row["label"]), row["bucket"]),
    )


def labels_of_splits(counted: list[Row]) -> dict[str, dict[str, int]]:
    """Rows of each split by label: "0", "1" and "none"."""
    labels: dict[str, Counter[str]] = {}
    for row in counted:
        name = "none" if row["label"] is None else str(row["label"])
        labels.setdefault(row["split"], Counter())[name] += row["rows"]
    return {split: dict(by_label) for split, by_label in labels.items()}


def slots_of(counted: list[Row], part_bytes: int) -> list[Slot]:
    """The files to write: each split's buckets in equal runs of about `part_bytes` of text."""
    sizes: Counter[str] = Counter()
    for row in counted:
        sizes[row["split"]] += row["bytes"]
    slots: list[Slot] = []
    for split, size in sizes.items():
        files = min(size // part_bytes + 1, 1 << _BUCKET_BITS)
        rows: Counter[int] = Counter()
        for row in counted:
            if row["split"] == split:
                rows[row["bucket"] * files >> _BUCKET_BITS] += row["rows"]
        first = 0
        for number in range(files):
            name = f"{split}/part-{number:05d}.parquet"
            slots.append(Slot(split=split, name=name, first=first, rows=rows[number]))
            first += rows[number]
    return slots


def write_reviews(placed: DataFrame, aside: Path, slots: list[Slot]) -> list[dict[str, Any]]:
    """Write train/ and test/, a file a slot, in the order of the shuffle."""
    number = F.lit(None).cast("int")
    ahead = 0
    for split, files in Counter(slot.split for slot in slots).items():
        (aside / split).mkdir()
        within = F.shiftright(F.col("bucket") * files, _BUCKET_BITS).cast("int")
        number = F.when(F.col("split") == split, within + ahead).otherwise(number)
        ahead += files
    in_order = (
        placed.withColumn("slot", number)
        .repartitionById(len(slots), "slot")
        .sortWithinPartitions("order", "row")
    )
    written = {file.name: file for file in _written(in_order, _review_writer(aside, slots))}
    check_written(aside, written.values())
    return [_part_entry(written[slot.name], slot.split, slot.first) for slot in slots if slot.rows]


def _review_writer(
    aside: Path, slots: list[Slot]
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def write(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for head in batches:
            if head.num_rows:
                slot = slots[head.column("slot")[0].as_py()]
                every = with_positions(_with(head, batches), SCHEMA, first=slot.first)
                yield _as_batch(write_parquet(aside, slot.name, every, SCHEMA))

    return write


def _with(head: pa.RecordBatch, rest: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield head
    yield from rest


def write_quarantine(rows: DataFrame, repeats: DataFrame, aside: Path) -> dict[str, Any]:
    """Write what was refused, in the source's order."""
    (aside / QUARANTINE).mkdir()
    duplicates = rows.where("text is not null").join(repeats, "row")
    of = F.concat(F.lit("duplicate of "), "first_file", F.lit(":"), "first_line")
    start = F.substring("text", 1, _SHOWN).alias("text")
    columns = [*map(F.col, ("row", "file", "line", "reason", "excerpt")), start]
    refused = rows.where("reason is not null").select(*columns)
    every = refused.unionByName(duplicates.withColumn("reason", of).select(*columns))
    name = f"{QUARANTINE}/part-00000.parquet"

    def write(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        shown = (_with_excerpts(batch) for batch in batches)
        yield _as_batch(write_parquet(aside, name, shown, QUARANTINE_SCHEMA))

    written = _written(every.coalesce(1).sortWithinPartitions("row"), write)
    check_written(aside, written)
    return _part_entry(written[0], QUARANTINE, 0)


def _with_excerpts(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The columns of the quarantine; an excerpt of the text where there is none yet."""
    pairs = zip(batch["excerpt"].to_pylist(), batch["text"].to_pylist(), strict=True)
    excerpts = pa.array([excerpt(text) if given is None else given for given, text in pairs])
    columns = [batch["file"], batch["line"], batch["reason"], excerpts]
    return pa.RecordBatch.from_arrays(columns, schema=QUARANTINE_SCHEMA)


def _written(
    frame: DataFrame, write: Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]
) -> list[WrittenFile]:
    found = frame.mapInArrow(write, _WRITTEN).collect()
    return [WrittenFile(**row.asDict()) for row in found]


def _as_batch(file: WrittenFile) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([vars(file)])


def _part_entry(file: WrittenFile, split: str, first: int) -> dict[str, Any]:
    return {
        "path": file.name,
        "split": split,
        "first_position": first,
        "rows": file.rows,
        "bytes": file.bytes,
        "sha256": file.sha256,
    }
