"""A training run: corpus and word table in, model directory out."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import SparkSession

from sentiment.averaging import Averaging, RoundResult
from sentiment.corpus import Corpus
from sentiment.errors import SentimentError
from sentiment.events import EventLog
from sentiment.examples import FIRST_WORD, PADDING
from sentiment.folders import shared
from sentiment.loop import Measured
from sentiment.model import check_target, save_model
from sentiment.recipes import Recipe, TextConfig, with_changes
from sentiment.rounds import Job, Round, trained_network
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
class Trained:
    """What a run came to."""

    digest: str
    validation: Measured
    epoch: int
    """The epoch (from 1) whose state was kept."""
    epochs: int
    """Epochs that were run."""
    tokens_per_second: float
    seconds: float
    vocabulary: int
    assignment: Assignment = field(repr=False)


def train(
    spark: SparkSession,
    *,
    corpus: Corpus,
    table: WordTable,
    recipe: Recipe,
    target: Path,
    workers: int,
    log: EventLog,
    replace: bool = False,
) -> Trained:
    """Train `recipe` on the corpus' training split with `workers` shards.

    Every figure goes to `log`: `start`, `round`, `epoch`, `end`.

    Raises:
        InvalidInputError: too little to train on, or hosts lack a table that is needed there.
        SentimentError: the target exists, or the loss is no number.
    """
    check_target(target, replace=replace)
    started = time.perf_counter()
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
    shards = encode(
        spark,
        reviews,
        assignment,
        vocabulary=vocabulary,
        max_tokens=recipe.text.max_tokens,
        table_words=table_words,
    )
    steps = -(-int(assignment.rows[:workers].max()) // recipe.train.batch_size)
    fewest = -(-int(assignment.rows[:workers].min()) // recipe.train.batch_size)
    if fewest < recipe.train.rounds_per_epoch:
        # A round without a step on some worker would be no round.
        recipe = with_changes(recipe, rounds_per_epoch=fewest)
    job = Job(
        recipe=recipe,
        vectors=vectors,
        steps_per_epoch=steps,
        threads=int(spark.conf.get("spark.task.cpus", "1") or 1),
        table_words=table_words,
    )
    log.write(
        "start",
        recipe=recipe.to_json(),
        workers=workers,
        rows=assignment.training_rows,
        validation_rows=assignment.validation_rows,
        rows_without_label=assignment.without_label,
        vocabulary=len(vocabulary),
        steps_per_epoch=steps,
        rounds=recipe.train.epochs * recipe.train.rounds_per_epoch,
        corpus=str(corpus.path),
        word_table=table.digest,
    )
    strategy = Averaging(spark.sparkContext, shards, workers=workers, job=job)
    outcome = _run(strategy, job, log)
    network = trained_network(job, outcome.state)
    seconds = time.perf_counter() - started
    about = {
        "recipe": recipe.to_json(),
        "word_table": {
            "digest": table.digest,
            "dimensions": table.dimensions,
            "rows": table.rows,
        },
        "trained_on": {
            "rows": assignment.training_rows,
            "validation_rows": assignment.validation_rows,
            "rows_without_label": assignment.without_label,
            "workers": workers,
            "epochs": outcome.epochs,
            "kept_epoch": outcome.epoch,
        },
        "metrics": {
            "validation_accuracy": outcome.validation.accuracy,
            "validation_loss": outcome.validation.mean_loss,
        },
    }
    digest = save_model(
        target,
        network=network,
        vocabulary=vocabulary,
        max_tokens=recipe.text.max_tokens,
        about=about,
        replace=replace,
    )
    shards.unpersist()
    result = Trained(
        digest=digest,
        validation=outcome.validation,
        epoch=outcome.epoch,
        epochs=outcome.epochs,
        tokens_per_second=outcome.tokens / outcome.training_seconds,
        seconds=seconds,
        vocabulary=len(vocabulary),
        assignment=assignment,
    )
    log.write(
        "end",
        model=str(target),
        digest=digest,
        kept_epoch=outcome.epoch,
        seconds=round(seconds, 3),
        tokens_per_second=round(result.tokens_per_second),
        overhead_seconds=round(outcome.overhead, 3),
        **_figures(outcome.validation, prefix="validation_"),
    )
    return result


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


@dataclass
class _Outcome:
    """The best state so far and what the run has cost."""

    state: bytes
    validation: Measured = field(default_factory=Measured)
    epoch: int = 0
    epochs: int = 0
    tokens: int = 0
    training_seconds: float = 0.0
    overhead: float = 0.0


def _run(strategy: Averaging, job: Job, log: EventLog) -> _Outcome:
    """All rounds; the state of the epoch with the lowest validation loss is kept."""
    train_config = job.recipe.train
    state = job.first_state()
    outcome = _Outcome(state)
    for epoch in range(train_config.epochs):
        for part in range(train_config.rounds_per_epoch):
            which = Round(epoch, part)
            result = strategy.train_round(which, state)
            state = result.state
            _check_finite(which, result)
            outcome.tokens += result.total.tokens
            outcome.training_seconds += result.seconds
            outcome.overhead += result.overhead
            log.write("round", **_round_figures(which, job.recipe, result))
        validation = strategy.validate(state)
        outcome.epochs = epoch + 1
        better = outcome.epoch == 0 or validation.mean_loss < outcome.validation.mean_loss
        log.write("epoch", epoch=epoch + 1, best=better, **_figures(validation, "validation_"))
        if better:
            outcome.state, outcome.validation, outcome.epoch = state, validation, epoch + 1
        patience = train_config.patience
        if patience is not None and epoch + 1 - outcome.epoch >= patience:
            break
    return outcome


def _check_finite(which: Round, result: RoundResult) -> None:
    if np.isfinite(result.total.loss):
        return
    raise SentimentError(
        f"the loss is no number any more in epoch {which.epoch + 1}, part {which.part + 1}",
        todo="give a smaller --learning-rate",
    )


def _round_figures(which: Round, recipe: Recipe, result: RoundResult) -> dict[str, Any]:
    total = result.total
    return {
        "round": which.number(recipe) + 1,
        "epoch": which.epoch + 1,
        **_figures(total, prefix="train_"),
        "gradient_norm": round(total.gradient_norm / max(total.steps, 1), 4),
        "steps": total.steps,
        "tokens": total.tokens,
        "seconds": round(result.seconds, 3),
        "overhead_seconds": round(result.overhead, 3),
        "tokens_per_second": round(total.tokens / result.seconds),
        "shards": [
            {"rows": m.reviews, "tokens": m.tokens, "seconds": round(m.seconds, 3)}
            for m in result.shards
        ],
    }


def _figures(measured: Measured, prefix: str) -> dict[str, Any]:
    return {
        f"{prefix}loss": round(measured.mean_loss, 6),
        f"{prefix}accuracy": round(measured.accuracy, 6),
        f"{prefix}rows": measured.reviews,
    }
