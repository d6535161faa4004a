"""What is ready before the first round: words counted, reviews encoded, the first weights fixed."""

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pyspark import RDD, Broadcast
from pyspark.sql import SparkSession

from sentiment.corpus import Corpus
from sentiment.dealing import Dealing, shard_rows
from sentiment.errors import SentimentError
from sentiment.examples import FIRST_WORD, PADDING
from sentiment.folders import shared
from sentiment.gpus import NO_GPUS, Gpus
from sentiment.recipes import Recipe, TextConfig, for_workers, with_changes
from sentiment.rounds import Job
from sentiment.sending import split_rows
from sentiment.shards import Assignment, assign, count_words, encode
from sentiment.table_on_hosts import require_table
from sentiment.table_words import TableWords
from sentiment.vectors import WordTable
from sentiment.vocabulary import Vocabulary

NEW_WORD_SCALE = 0.1
"""Standard deviation of a vector for a word that the table does not have."""
VECTOR_SCALE = 0.3
"""Standard deviation that a table's vectors are brought to: tables differ by factors
of ten, and the network's other weights are made for inputs of about this size."""


@dataclass(frozen=True)
class Prepared:
    """What a run trains and on what: the rows are on the executors."""

    job: Job
    vocabulary: Vocabulary
    assignment: Assignment
    dealing: Dealing
    encoded: RDD[bytes] = field(repr=False)
    gpus: Gpus = NO_GPUS

    @cached_property
    def shared_job(self) -> Broadcast[Job]:
        """The job, sent to every executor once."""
        return self.encoded.context.broadcast(self.job)

    def close(self) -> None:
        """Let the executors forget the rows."""
        self.dealing.close()
        self.encoded.unpersist()


def prepare(
    spark: SparkSession,
    *,
    corpus: Corpus,
    table: WordTable,
    recipe: Recipe,
    workers: int,
    gpus: Gpus = NO_GPUS,
) -> Prepared:
    """Count the words, encode the reviews, fix the first weights: all of it on CPUs.

    `gpus`: what the run's rounds will compute on.
    """
    recipe = for_workers(recipe, workers)
    table_path = str(table.path) if shared(str(spark.sparkContext.master), table.path) else None
    if recipe.text.table_words:
        require_table(spark.sparkContext, table.digest, path=table_path)
    assignment = assign(corpus, workers=workers, validation=recipe.train.validation)
    reviews = split_rows(spark, corpus, "train", ("position", "text", "label"))
    counted = count_words(spark, reviews, assignment, recipe.text)
    vocabulary, vectors, scale = first_vectors(
        counted, table, text=recipe.text, seed=recipe.train.seed
    )
    table_words = None
    if recipe.text.table_words:
        table_words = TableWords(table.digest, len(vectors), scale, table_path)
    encoded = encode(
        spark,
        reviews,
        assignment,
        vocabulary=vocabulary,
        max_tokens=recipe.text.max_tokens,
        table_words=table_words,
    )
    job = Job(
        recipe=recipe,
        vectors=vectors,
        rows=shard_rows(assignment.training_rows, shards=workers),
        threads=int(spark.conf.get("spark.task.cpus", "1") or 1),
        table_words=table_words,
        device=gpus.device,
    )
    if job.steps_per_epoch < recipe.train.rounds_per_epoch:
        # A round without a step would be no round.
        job = replace(job, recipe=with_changes(recipe, rounds_per_epoch=job.steps_per_epoch))
    dealing = Dealing(
        spark.sparkContext,
        encoded,
        positions=assignment.training_positions,
        shards=workers,
        seed=recipe.train.seed,
        gpus=gpus,
    )
    return Prepared(job, vocabulary, assignment, dealing, encoded, gpus)


def first_vectors(
    counted: list[tuple[str, int]], table: WordTable, *, text: TextConfig, seed: int
) -> tuple[Vocabulary, NDArray[np.float32], float]:
    """The vocabulary, its vectors before training, float32 [words + 2, dimensions], their scale.

    Words the table has get its vectors, brought to a common scale; the others,
    where the recipe takes them, a small random one. Padding's vector is zero.
    """
    words = [word for word, _ in counted]
    rows = table.find(words)
    keep = np.flatnonzero(rows >= 0) if text.known_to_table else np.arange(len(words))
    keep = keep[: text.max_words]
    rows = rows[keep]
    if not (rows >= 0).any():
        raise SentimentError(
            "the word table has none of the training text's words",
            todo="build one for this language: sentiment vectors build --help",
        )
    generator = np.random.default_rng(seed)
    shape = (len(keep) + FIRST_WORD, table.dimensions)
    vectors = generator.normal(scale=NEW_WORD_SCALE, size=shape).astype(np.float32)
    found = table.vectors(rows[rows >= 0])
    scale = VECTOR_SCALE / found.std()
    vectors[FIRST_WORD:][rows >= 0] = found * scale
    vectors[PADDING] = 0
    return Vocabulary(tuple(words[i] for i in keep)), vectors, float(scale)
