"""From a corpus to equal shards of token ids on the cluster.

Every row's shard is fixed before Spark starts: rows keep their places whatever
executor dies, and shards differ by one row at most.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark import RDD, Broadcast
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.storagelevel import StorageLevel

from sentiment.corpus import Corpus
from sentiment.errors import InvalidInputError
from sentiment.examples import UNKNOWN, Examples, join, pack
from sentiment.recipes import TextConfig
from sentiment.table_words import TableWords
from sentiment.table_words import encode as encode_words
from sentiment.text import tokens
from sentiment.vocabulary import Vocabulary

LEFT_OUT = -1


@dataclass(frozen=True)
class Assignment:
    """Which shard each position of the training split belongs to, before the first epoch's deal.

    `shard` int32 [rows of the split]: 0..workers-1 train, workers..2*workers-1
    validate, -1 has no label and is left out. `rows` int64 [2 * workers]: the
    shards' sizes. `without_label`: how many were left out.
    """

    shard: NDArray[np.int32]
    workers: int
    rows: NDArray[np.int64]
    without_label: int

    @property
    def training_positions(self) -> NDArray[np.int64]:
        """The positions of the reviews trained on, ascending, int64 [training_rows]."""
        return np.flatnonzero((self.shard >= 0) & (self.shard < self.workers))

    @property
    def training_rows(self) -> int:
        """Reviews trained on."""
        return int(self.rows[: self.workers].sum())

    @property
    def validation_rows(self) -> int:
        """Reviews held back."""
        return int(self.rows[self.workers :].sum())


def assign(corpus: Corpus, *, workers: int, validation: float) -> Assignment:
    """Deal the rows of the training split out, the last of each label held back.

    The last rows in the source's order: neighbours are often about the same
    film, and a validation row should not have one in training.

    Raises:
        InvalidInputError: too few rows of a label, or fewer than the workers need.
    """
    columns = ["position", "label", "row"]
    table = pa.Table.from_batches(list(corpus.read("train", columns=columns)))
    position = table["position"].to_numpy()
    label = table["label"].fill_null(LEFT_OUT).to_numpy()
    row = table["row"].to_numpy()
    if not (label >= 0).any():
        raise InvalidInputError(
            "its reviews have no labels: there is nothing to learn from",
            where=str(corpus.path),
            todo="ingest labelled reviews (--label-column NAME); to score only: sentiment score",
        )
    held = np.zeros(len(position), dtype=bool)
    for value in (0, 1):
        mine = np.flatnonzero(label == value)
        count = round(validation * len(mine))
        if count == 0 or len(mine) - count < workers:
            raise InvalidInputError(
                f"the training split has {len(mine)} reviews of label {value}: too few for "
                f"{workers} workers with a share of {validation} held back",
                where=str(corpus.path),
                todo="ingest more reviews, or give fewer --workers",
            )
        held[mine[np.argsort(row[mine])][len(mine) - count :]] = True
    shard = np.full(int(position.max()) + 1, LEFT_OUT, dtype=np.int32)
    for mask, first in ((~held & (label >= 0), 0), (held, workers)):
        dealt = np.sort(position[mask])
        shard[dealt] = first + np.arange(len(dealt)) % workers
    rows = np.bincount(shard[shard >= 0], minlength=2 * workers)
    return Assignment(shard, workers, rows.astype(np.int64), int((label < 0).sum()))


def count_words(
    spark: SparkSession, reviews: DataFrame, assignment: Assignment, text: TextConfig
) -> list[tuple[str, int]]:
    """Words of the rows trained on and their counts, most frequent first, ties by spelling."""
    limit, workers = text.max_tokens, assignment.workers
    shard = spark.sparkContext.broadcast(assignment.shard)

    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        counter: Counter[str] = Counter()
        for batch in batches:
            trained = shard.value[batch["position"].to_numpy()]
            for inside, review in zip(trained, batch["text"].to_pylist(), strict=True):
                if 0 <= inside < workers:
                    counter.update(tokens(review, limit=limit))
        yield pa.RecordBatch.from_pydict(
            {"word": list(counter), "n": pa.array(counter.values(), pa.int64())}
        )

    counted = (
        reviews.select("position", "text")
        .mapInArrow(count, "word string, n long")
        .groupBy("word")
        .agg(F.sum("n").alias("n"))
        .where(F.col("n") >= text.min_count)
        .collect()
    )
    shard.unpersist()
    return sorted(((r["word"], r["n"]) for r in counted), key=lambda pair: (-pair[1], pair[0]))


def encode(
    spark: SparkSession,
    reviews: DataFrame,
    assignment: Assignment,
    *,
    vocabulary: Vocabulary,
    max_tokens: int,
    table_words: TableWords | None = None,
) -> RDD[bytes]:
    """The shards: an RDD with one element a partition, Examples.to_bytes() of shard i.

    Its partitions 0..workers-1 are for training, the others for validation. The
    content does not depend on how Spark cut or ordered the input.
    """
    context = spark.sparkContext
    shared = context.broadcast((assignment.shard, vocabulary, table_words))
    shards = 2 * assignment.workers

    def portions(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield _portions(batches, shared, max_tokens)

    def whole(parts: Iterable[tuple[int, bytes]]) -> Iterator[bytes]:
        yield join([Examples.from_bytes(data) for _, data in parts]).to_bytes()

    encoded = reviews.select("position", "text", "label").mapInArrow(
        portions, "shard int, data binary"
    )
    pairs: RDD[tuple[int, bytes]] = encoded.rdd.map(lambda r: (r["shard"], bytes(r["data"])))
    dealt = pairs.partitionBy(shards, int).mapPartitions(whole, preservesPartitioning=True)
    return dealt.persist(StorageLevel.MEMORY_AND_DISK)


def _portions(
    batches: Iterator[pa.RecordBatch],
    shared: Broadcast[tuple[NDArray[np.int32], Vocabulary, TableWords | None]],
    max_tokens: int,
) -> pa.RecordBatch:
    """Each shard's part of one input partition, encoded."""
    assigned, vocabulary, table_words = shared.value
    ids: dict[int, list[list[int]]] = {}
    marks: dict[int, list[tuple[int, int]]] = {}
    for batch in batches:
        columns: list[list[Any]] = [batch[n].to_pylist() for n in ("position", "text", "label")]
        rows = [row for row in zip(*columns, strict=True) if assigned[row[0]] != LEFT_OUT]
        split = [tokens(text, limit=max_tokens) for _, text, _ in rows]
        reviews = encode_words(split, vocabulary, table_words)
        for (position, _, label), encoded in zip(rows, reviews, strict=True):
            shard = int(assigned[position])
            # A text may hold a word for `has_word` and none for `tokens` (odd characters).
            ids.setdefault(shard, []).append(encoded or [UNKNOWN])
            marks.setdefault(shard, []).append((label, position))
    packed = []
    for shard, mine in ids.items():
        labels, positions = zip(*marks[shard], strict=True)
        packed.append(pack(mine, labels=labels, positions=positions).to_bytes())
    return pa.RecordBatch.from_pydict(
        {"shard": pa.array(ids, pa.int32()), "data": pa.array(packed, pa.binary())}
    )
