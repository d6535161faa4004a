"""The scoring function over a whole source of reviews, on the cluster."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, Protocol

import numpy as np
import pyarrow as pa
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

from sentiment.device import ON_CPU
from sentiment.folders import shared as shared_with_hosts
from sentiment.gpus import NO_GPUS, Gpus, task_device
from sentiment.model import Model, model_digest, model_from_files, needed_table, on
from sentiment.score import MODELS, score_batch
from sentiment.score_parts import ScoreParts
from sentiment.sending import Sent
from sentiment.session import cores
from sentiment.sources import Source, reason_kind
from sentiment.sources.frame import reviews_dataframe
from sentiment.table_on_hosts import require_table

PORTION_BYTES: Final = 16 << 20
"""Bytes of a source, a core, that are scored between two looks at the disk: some 15 s."""
_SMALL_PIECE: Final = 128 << 10
_LARGE_PIECE: Final = 2 << 20

SCHEMA = StructType(
    [
        StructField("row", LongType()),
        StructField("file", StringType()),
        StructField("line", LongType()),
        StructField("id", StringType()),
        StructField("time", DoubleType()),
        StructField("film", StringType()),
        StructField("stars", ByteType()),
        StructField("label", ByteType()),
        StructField("probability", DoubleType()),
        StructField("tokens", LongType()),
        StructField("known", DoubleType()),
        StructField("reason", StringType()),
    ]
)


class Ready(Protocol):
    """Gives a task its model on a device."""

    def __call__(self, device: torch.device = ON_CPU) -> Model:
        """The model, made now if this process has none on that device."""


@dataclass(frozen=True)
class Scored:
    """Every row of a source, scored or with the reason why not, in the source's order.

    `table`: row, file, line, id, time (seconds since 1970), film, stars (of ten), label,
    probability (of praise), tokens, known (share of the tokens read that the model knows), reason
    (null: scored).
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


class Scoring:
    """A model on the cluster, for any number of sources: it travels once, by broadcast.

    No worker needs its path. A model that needs its word table finds it on each host, or at the
    path `table` where hosts see that. Tasks that score get `gpus`.
    """

    def __init__(
        self,
        spark: SparkSession,
        model_files: Mapping[str, bytes],
        *,
        table: str | None = None,
        gpus: Gpus = NO_GPUS,
    ) -> None:
        """Check what the model needs, and send it.

        Raises:
            InvalidInputError: hosts lack the word table that the model needs.
        """
        if table is not None and not shared_with_hosts(str(spark.sparkContext.master), table):
            table = None
        if digest := needed_table(model_files, where="the model"):
            require_table(spark.sparkContext, digest, path=table)
        self.spark = spark
        self.digest = model_digest(model_files, where="the model")
        self._table = table
        self._gpus = gpus
        self._files = spark.sparkContext.broadcast(dict(model_files))
        self._threads = int(spark.conf.get("spark.task.cpus", "1") or 1)

    def score(self, reviews: DataFrame, *, labelled: bool = False) -> DataFrame:
        """What `sentiment.sources.frame.reviews_dataframe` gives, each row with its score: SCHEMA.

        With `labelled` a row without a label is refused, as there is nothing to measure it
        against.
        """
        ready, config = self.model_maker(), self._gpus.device

        def score(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            with task_device(config) as device:
                model = ready(device)
                for batch in batches:
                    yield score_batch(model, batch, labelled=labelled).select(SCHEMA.names)

        return reviews.mapInArrow(score, SCHEMA, profile=self._gpus.profile)

    def model_maker(self) -> Ready:
        """What gives a task its model: made once a Python worker, with a torch thread a core."""
        digest, files, table, threads = self.digest, self._files, self._table, self._threads

        def ready(device: torch.device = ON_CPU) -> Model:
            torch.set_num_threads(threads)

            def make() -> Model:
                where = "the model that was sent"
                return on(model_from_files(files.value, where=where, table=table), device)

            return MODELS.get(digest, make, place=str(device))

        return ready

    def collect(self, reviews: DataFrame, *, labelled: bool = False) -> Scored:
        """All of it, here, in the source's order."""
        return Scored(self.score(reviews, labelled=labelled).toArrow().sort_by("row"))

    def collect_source(self, source: Source, *, labelled: bool = False) -> Scored:
        """A source that fits in memory once it is scored, spread over all cores.

        Raises:
            InvalidInputError: a file cannot be read as a whole, or it is too much to send.
        """
        sent: list[Sent] = []
        try:
            reviews = reviews_dataframe(self.spark, source, sent=sent)
            return self.collect(spread(self.spark, reviews, source), labelled=labelled)
        finally:
            for chunk in sent:
                chunk.destroy()

    def close(self) -> None:
        """Take the model away from the hosts."""
        self._files.destroy()


def spread(spark: SparkSession, reviews: DataFrame, source: Source) -> DataFrame:
    """The rows of a source in as many pieces as keep all cores at work to the end.

    A file is read by one task, and scoring takes a hundred times as long as reading. The same
    row is in the same piece, whenever Spark makes it anew. Each core gets as many pieces as the
    others: the last one would keep a single core at work.
    """
    at_once = cores(spark)
    pieces = max(
        at_once * -(-source.size // (_LARGE_PIECE * at_once)),
        min(2 * at_once, -(-source.size // _SMALL_PIECE)),
    )
    return reviews if pieces <= len(source.tasks) else reviews.repartition(pieces, "row")


def portions(source: Source, *, first: int, size: int) -> Iterator[tuple[int, int]]:
    """Tasks of the source's plan, from `first` on, in runs of about `size` bytes each.

    Each as its first task and the one after its last.
    """
    start, held = first, 0
    for number in range(first, len(source.tasks)):
        if number > start and held + source.tasks[number].size > size:
            yield start, number
            start, held = number, 0
        held += source.tasks[number].size
    if start < len(source.tasks):
        yield start, len(source.tasks)


def score_source(
    scoring: Scoring,
    source: Source,
    parts: ScoreParts,
    *,
    said: Callable[[int, int], None],
    portion_bytes: int = PORTION_BYTES,
) -> None:
    """Score what of a source is not in `parts` yet, portion after portion.

    Memory, here and on the hosts, holds the scores of one portion. `said` hears the
    rows of each portion once it is kept, and the bytes of the source that are done.

    Raises:
        InvalidInputError: a file cannot be read as a whole.
        SentimentError: the disk refuses.
    """
    size = portion_bytes * cores(scoring.spark)
    for first, last in portions(source, first=parts.done, size=size):
        portion = replace(source, tasks=source.tasks[first:last])
        table = scoring.collect_source(portion).table
        parts.add(table, first=first, last=last)
        said(table.num_rows, sum(task.size for task in source.tasks[:last]))
