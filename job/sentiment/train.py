"""A training run: corpus and word table in, model directory out."""

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark import RDD
from pyspark.sql import SparkSession

from sentiment.agreement import default_momentum
from sentiment.allreduce import AllReduce, Said
from sentiment.averaging import Averaging
from sentiment.checkpoint import (
    Best,
    Checkpoint,
    Checkpoints,
    check_unfinished,
    locked_checkpoints,
)
from sentiment.corpus import Corpus
from sentiment.dealing import Dealing, shard_rows
from sentiment.errors import SentimentError
from sentiment.events import EventLog
from sentiment.examples import FIRST_WORD, PADDING
from sentiment.folders import shared
from sentiment.loop import Measured
from sentiment.model import check_target, save_model
from sentiment.plan import Plan, plan
from sentiment.probe import measure
from sentiment.recipes import Recipe, TextConfig, with_changes
from sentiment.rounds import Job, Round, trained_network
from sentiment.sending import split_rows
from sentiment.session import slots
from sentiment.shards import Assignment, assign, count_words, encode
from sentiment.strategy import RoundResult, Strategy
from sentiment.table_on_hosts import require_table
from sentiment.table_words import TableWords
from sentiment.text import TOKENIZER
from sentiment.vectors import WordTable
from sentiment.vocabulary import Vocabulary

NEW_WORD_SCALE = 0.1
"""Standard deviation of a vector for a word that the table does not have."""
VECTOR_SCALE = 0.3
"""Standard deviation that a table's vectors are brought to: tables differ by factors
of ten, and the network's other weights are made for inputs of about this size."""


@dataclass(frozen=True)
class Options:
    """How a run deals with what is there; nothing of it changes what is learned."""

    replace: bool = False
    """A model, and checkpoints of an interrupted run, give way."""
    resume: bool = False
    """Go on from the last checkpoint, if there is one."""
    keep_checkpoints: int = 3
    """How many are kept, beside that of the best epoch."""
    plan: bool = True
    """Measure first what the workers will be worth; with one worker there is nothing to."""


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
    options: Options | None = None,
) -> Trained:
    """Train `recipe` on the corpus' training split with `workers` shards.

    Every figure goes to `log`: `start`, `round`, `epoch`, `end`.

    Raises:
        InvalidInputError: too little to train on, hosts lack a table that is needed there, or
            the checkpoint is of another run.
        SentimentError: the target exists, the loss is no number, or another run has the target.
    """
    options = options or Options()
    check_target(target, replace=options.replace)
    check_unfinished(target, resume=options.resume, replace=options.replace)
    started = time.perf_counter()
    with locked_checkpoints(target) as directory:
        prepared = prepare(spark, corpus=corpus, table=table, recipe=recipe, workers=workers)
        run = {
            "corpus": corpus.digest,
            "word_table": table.digest,
            "tokenizer": TOKENIZER,
            "workers": workers,
            "recipe": prepared.job.recipe.to_json(),
        }
        checkpoints = Checkpoints(directory, run=run, keep=options.keep_checkpoints)
        begun = _begun(checkpoints, options, log)
        _log_start(log, prepared, corpus=corpus, table=table, workers=workers, begun=begun)
        planned = None
        if options.plan and workers > 1:
            planned = _planned(spark, prepared, warn=log.warn)
            log.write("plan", **planned.to_json())
        strategy = _strategy(spark, prepared, log)
        outcome = _run(strategy, prepared, checkpoints, begun=begun, log=log)
        result = _written(prepared, outcome, target, table=table, started=started, options=options)
        checkpoints.clear()
    prepared.close()
    log.write(
        "end",
        **(_checked(planned, outcome) if planned else {}),
        model=str(target),
        digest=result.digest,
        kept_epoch=outcome.best.epoch,
        seconds=round(result.seconds, 3),
        tokens_per_second=round(result.tokens_per_second),
        overhead_seconds=round(outcome.overhead, 3),
        **_figures(outcome.best.validation, prefix="validation_"),
    )
    return result


@dataclass(frozen=True)
class Prepared:
    """What a run trains and on what: the rows are on the executors."""

    job: Job
    vocabulary: Vocabulary
    assignment: Assignment
    dealing: Dealing
    encoded: RDD[bytes] = field(repr=False)

    def close(self) -> None:
        """Let the executors forget the rows."""
        self.dealing.close()
        self.encoded.unpersist()


def prepare(
    spark: SparkSession, *, corpus: Corpus, table: WordTable, recipe: Recipe, workers: int
) -> Prepared:
    """Count the words, encode the reviews, fix the first weights."""
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
    )
    return Prepared(job, vocabulary, assignment, dealing, encoded)


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
    """The best epoch so far and what the run has cost."""

    best: Best
    state: bytes
    """After the best epoch."""
    epochs: int = 0
    tokens: int = 0
    steps: int = 0
    """A worker's steps, of all workers: what one worker would make alone."""
    training_seconds: float = 0.0
    overhead: float = 0.0


def _begun(checkpoints: Checkpoints, options: Options, log: EventLog) -> Checkpoint | None:
    """The checkpoint that the run goes on from, if it does."""
    if not options.resume:
        checkpoints.clear()
        return None
    found = checkpoints.latest(log.warn)
    if found is None:
        log.warn("there is no checkpoint to go on from: the run begins anew")
    return found


def plan_run(
    spark: SparkSession, *, corpus: Corpus, table: WordTable, recipe: Recipe, workers: int
) -> Plan:
    """What a run's workers will be worth; nothing is trained.

    Raises:
        InvalidInputError: as `train`.
    """
    prepared = prepare(spark, corpus=corpus, table=table, recipe=recipe, workers=workers)
    try:
        return _planned(spark, prepared, warn=lambda _: None)
    finally:
        prepared.close()


def _planned(spark: SparkSession, prepared: Prepared, *, warn: Said) -> Plan:
    job = prepared.job
    measured = measure(
        _averaging(spark, prepared),
        _allreduce(spark, prepared, warn),
        state=job.first_state(),
        steps_per_epoch=job.steps_per_epoch,
    )
    return plan(measured, job.recipe, steps_per_epoch=job.steps_per_epoch)


def _checked(planned: Plan, outcome: _Outcome) -> dict[str, float]:
    """The plan beside what came of it: how many times as fast as one worker would have been."""
    alone = planned.measured.alone_step * outcome.steps
    return {
        "predicted_speed_up": round(planned.chosen.speed_up, 3),
        "measured_speed_up": round(alone / max(outcome.training_seconds, 1e-9), 3),
    }


def _strategy(spark: SparkSession, prepared: Prepared, log: EventLog) -> Strategy:
    if prepared.job.recipe.train.strategy == "allreduce":
        return _allreduce(spark, prepared, log.warn)
    return _averaging(spark, prepared)


def _averaging(spark: SparkSession, prepared: Prepared) -> Averaging:
    job = prepared.job
    momentum = job.recipe.train.outer_momentum
    if momentum is None:
        momentum = default_momentum(len(job.rows))
    return Averaging(spark.sparkContext, prepared.dealing, job=job, momentum=momentum)


def _allreduce(spark: SparkSession, prepared: Prepared, warn: Said) -> AllReduce:
    context = spark.sparkContext
    return AllReduce(
        context, prepared.dealing, job=prepared.job, slots=lambda: slots(context), warn=warn
    )


def _run(
    strategy: Strategy,
    prepared: Prepared,
    checkpoints: Checkpoints,
    *,
    begun: Checkpoint | None,
    log: EventLog,
) -> _Outcome:
    """All rounds that are left; the state of the epoch with the lowest validation loss is kept."""
    job = prepared.job
    parts, patience = job.recipe.train.rounds_per_epoch, job.recipe.train.patience
    state = begun.state if begun else job.first_state()
    best = begun.best if begun else None
    best_state = checkpoints.state_after(best.rounds) if best else state
    made = begun.rounds if begun else 0
    outcome = _Outcome(best or Best(0, 0, Measured()), best_state, epochs=made // parts)
    while made < job.recipe.train.epochs * parts:
        if patience is not None and outcome.epochs - outcome.best.epoch >= patience:
            break
        which = Round(*divmod(made, parts))
        result = strategy.train_round(which, state)
        _check_finite(which, result, checkpoints)
        state, made = result.state, made + 1
        outcome.tokens += result.total.tokens
        outcome.steps += result.total.steps
        outcome.training_seconds += result.seconds
        outcome.overhead += result.overhead
        log.write("round", **_round_figures(which, job.recipe, result))
        if made % parts == 0:
            _validate(outcome, prepared, state, rounds=made, log=log)
        kept = outcome.best if outcome.best.epoch else None
        checkpoints.save(Checkpoint(made, state, kept))
    return outcome


def _validate(
    outcome: _Outcome, prepared: Prepared, state: bytes, *, rounds: int, log: EventLog
) -> None:
    """Measure the state at the end of an epoch; it may be the best so far."""
    validation = prepared.dealing.validate(prepared.job, state)
    outcome.epochs += 1
    better = outcome.best.epoch == 0 or validation.mean_loss < outcome.best.validation.mean_loss
    log.write(
        "epoch",
        epoch=outcome.epochs,
        round=rounds,
        best=better,
        **_figures(validation, "validation_"),
    )
    if better:
        outcome.best, outcome.state = Best(outcome.epochs, rounds, validation), state


def _written(
    prepared: Prepared,
    outcome: _Outcome,
    target: Path,
    *,
    table: WordTable,
    started: float,
    options: Options,
) -> Trained:
    """The model of the best epoch, as a directory."""
    job, assignment = prepared.job, prepared.assignment
    about = {
        "recipe": job.recipe.to_json(),
        "word_table": {
            "digest": table.digest,
            "dimensions": table.dimensions,
            "rows": table.rows,
        },
        "trained_on": {
            "rows": assignment.training_rows,
            "validation_rows": assignment.validation_rows,
            "rows_without_label": assignment.without_label,
            "workers": assignment.workers,
            "epochs": outcome.epochs,
            "kept_epoch": outcome.best.epoch,
        },
        "metrics": {
            "validation_accuracy": outcome.best.validation.accuracy,
            "validation_loss": outcome.best.validation.mean_loss,
        },
    }
    digest = save_model(
        target,
        network=trained_network(job, outcome.state),
        vocabulary=prepared.vocabulary,
        max_tokens=job.recipe.text.max_tokens,
        about=about,
        replace=options.replace,
    )
    return Trained(
        digest=digest,
        validation=outcome.best.validation,
        epoch=outcome.best.epoch,
        epochs=outcome.epochs,
        tokens_per_second=outcome.tokens / max(outcome.training_seconds, 1e-9),
        seconds=time.perf_counter() - started,
        vocabulary=len(prepared.vocabulary),
        assignment=assignment,
    )


def _log_start(
    log: EventLog,
    prepared: Prepared,
    *,
    corpus: Corpus,
    table: WordTable,
    workers: int,
    begun: Checkpoint | None,
) -> None:
    recipe, assignment = prepared.job.recipe, prepared.assignment
    log.write(
        "start",
        recipe=recipe.to_json(),
        workers=workers,
        rows=assignment.training_rows,
        validation_rows=assignment.validation_rows,
        rows_without_label=assignment.without_label,
        vocabulary=len(prepared.vocabulary),
        steps_per_epoch=prepared.job.steps_per_epoch,
        rounds=recipe.train.epochs * recipe.train.rounds_per_epoch,
        rounds_made=begun.rounds if begun else 0,
        corpus=str(corpus.path),
        word_table=table.digest,
    )


def _check_finite(which: Round, result: RoundResult, checkpoints: Checkpoints) -> None:
    if np.isfinite(result.total.loss):
        return
    last = checkpoints.newest
    raise SentimentError(
        f"the loss is no number any more in epoch {which.epoch + 1}, part {which.part + 1}"
        f"; the last good state: {last or 'none'}",
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
            for m in result.workers
        ],
    }


def _figures(measured: Measured, prefix: str) -> dict[str, Any]:
    return {
        f"{prefix}loss": round(measured.mean_loss, 6),
        f"{prefix}accuracy": round(measured.accuracy, 6),
        f"{prefix}rows": measured.reviews,
    }
