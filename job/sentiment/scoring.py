"""The scoring function over a whole source of reviews, on the cluster."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import (
    ByteType,
    DoubleType,
    LongType,
    StringType,
    StructField,
    StructType,
)

from sentiment.files import write_file
from sentiment.folders import shared as shared_with_hosts
from sentiment.model import model_from_files, needed_table
from sentiment.score import score_texts, verdict
from sentiment.sources import reason_kind
from sentiment.table_on_hosts import require_table
from sentiment.text import text_id

NO_LABEL = "no label"

SCHEMA = StructType(
    [
        StructField("row", LongType()),
        StructField("file", StringType()),
        StructField("line", LongType()),
        StructField("id", StringType()),
        StructField("label", ByteType()),
        StructField("probability", DoubleType()),
        StructField("tokens", LongType()),
        StructField("known", DoubleType()),
        StructField("reason", StringType()),
    ]
)


@dataclass(frozen=True)
class Scored:
    """Every row of a source, scored or with the reason why not, in the source's order.

    `table`: row, file, line, id, label, probability (of praise), tokens, known
    (share of the tokens read that the model knows), reason (null: scored).
    """

    table: pa.Table

    @cached_property
    def accepted(self) -> pa.Table:
        """The rows that have a score."""
        return self.table.filter(self.table["reason"].is_null())

    @cached_property
    def refused(self) -> pa.Table:
        """The rows that have none."""
        return self.table.filter(self.table["reason"].is_valid())

    def reasons(self) -> dict[str, int]:
        """How many rows were refused for which kind of reason, the most frequent first."""
        kinds = Counter(reason_kind(reason) for reason in self.refused["reason"].to_pylist())
        return dict(kinds.most_common())

    def column(self, name: str) -> NDArray[np.generic]:
        """A column of the accepted rows."""
        values: NDArray[np.generic] = self.accepted[name].to_numpy()
        return values


def score_reviews(
    spark: SparkSession,
    reviews: DataFrame,
    *,
    model_files: dict[str, bytes],
    labelled: bool,
    table: str | None = None,
) -> Scored:
    """Score what `sentiment.sources.frame.reviews_dataframe` gives.

    The model travels by broadcast: no worker needs its path. With `labelled` a
    row without a label is refused, as there is nothing to measure it against. A model that
    needs its word table finds it on each host, or at the path `table` where hosts see that.

    Raises:
        InvalidInputError: hosts lack the word table that the model needs.
    """
    if table is not None and not shared_with_hosts(str(spark.sparkContext.master), table):
        table = None
    if digest := needed_table(model_files, where="the model"):
        require_table(spark.sparkContext, digest, path=table)
    shared = spark.sparkContext.broadcast(model_files)
    threads = int(spark.conf.get("spark.task.cpus", "1") or 1)

    def score(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        torch.set_num_threads(threads)
        model = model_from_files(shared.value, where="the model that was sent", table=table)
        for batch in batches:
            texts = batch["text"].to_pylist()
            reasons = batch["reason"].to_pylist()
            labels = batch["label"].to_pylist()
            if labelled:
                reasons = [
                    r or (NO_LABEL if y is None else None)
                    for r, y in zip(reasons, labels, strict=True)
                ]
            usable = [i for i, reason in enumerate(reasons) if reason is None]
            scores = score_texts(model, [texts[i] for i in usable])
            for i, reason in zip(usable, scores.reason, strict=True):
                reasons[i] = reason
            yield pa.RecordBatch.from_pydict(
                {
                    "row": batch["row"],
                    "file": batch["file"],
                    "line": batch["line"].cast(pa.int64()),
                    "id": pa.array([None if t is None else text_id(t) for t in texts], pa.string()),
                    "label": batch["label"].cast(pa.int8()),
                    "probability": _spread(scores.probability, usable, len(texts), pa.float64()),
                    "tokens": _spread(scores.tokens, usable, len(texts), pa.int64()),
                    "known": _spread(scores.known, usable, len(texts), pa.float64()),
                    "reason": pa.array(reasons, pa.string()),
                }
            )

    return Scored(reviews.mapInArrow(score, SCHEMA).toArrow().sort_by("row"))


def _spread(values: NDArray[np.generic], rows: list[int], size: int, kind: pa.DataType) -> pa.Array:
    """`values` at `rows` of a column of `size`; null elsewhere and where a value is NaN."""
    column: list[float | int | None] = [None] * size
    for row, value in zip(rows, values.tolist(), strict=True):
        column[row] = value if value == value else None  # noqa: PLR0124 - NaN
    return pa.array(column, kind)


def write_scores(scored: Scored, out: Path, *, model_digest: str) -> Path | None:
    """Write the accepted rows to `out` (.jsonl, .csv or .parquet), the refused beside it.

    Returns the path of the quarantine, None if nothing was refused.

    Raises:
        SentimentError: the disk refuses.
    """
    accepted = scored.accepted.drop_columns(["reason"])
    words = [verdict(p) for p in accepted["probability"].to_pylist()]
    accepted = accepted.append_column("verdict", pa.array(words, pa.string()))
    digests = pa.array([model_digest] * accepted.num_rows, pa.string())
    accepted = accepted.append_column("model_digest", digests)
    quarantine = out.with_name(f"{out.name}.quarantine.jsonl")
    if scored.refused.num_rows:
        refused = scored.refused.select(["row", "file", "line", "reason"])
        write_file(quarantine, _encoded(refused, ".jsonl"))
    else:
        quarantine.unlink(missing_ok=True)  # of an earlier run: it would tell of other rows
    write_file(out, _encoded(accepted, out.suffix))
    return quarantine if scored.refused.num_rows else None


def _encoded(table: pa.Table, suffix: str) -> bytes:
    if suffix == ".jsonl":
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in table.to_pylist())
        return "".join(lines).encode()
    buffer = pa.BufferOutputStream()
    if suffix == ".csv":
        pa_csv.write_csv(table, buffer)
    else:
        pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue().to_pybytes()  # type: ignore[no-any-return]
