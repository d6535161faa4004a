"""A training run: corpus and word table in, model directory out."""

import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from pyspark.sql import SparkSession

from sentiment.checkpoint import (
    Best,
    Checkpoint,
    Checkpoints,
    check_unfinished,
    locked_checkpoints,
)
from sentiment.corpus import Corpus
from sentiment.errors import SentimentError
from sentiment.events import EventLog
from sentiment.figures import figures, layer_figures, round_figures, start_figures
from sentiment.gpus import NO_GPUS, Gpus
from sentiment.loop import Measured
from sentiment.model import check_target, save_model
from sentiment.plan import Plan
from sentiment.preparation import Prepared, prepare
from sentiment.probe import plan_for
from sentiment.recipes import Recipe, with_changes
from sentiment.rounds import Round, trained_network
from sentiment.shards import Assignment
from sentiment.strategies import strategy_for
from sentiment.strategy import RoundResult, Strategy
from sentiment.text import TOKENIZER
from sentiment.vectors import WordTable

_ROWS_SHOWN = 8


@dataclass(frozen=True)
class Options:
    """How a run deals with what is there; all but two change nothing of what is learned."""

    replace: bool = False
    """A model, and checkpoints of an interrupted run, give way."""
    resume: bool = False
    """Go on from the last checkpoint, if there is one."""
    keep_checkpoints: int = 3
    """How many are kept, beside that of the best epoch."""
    plan: bool = True
    """Measure first what the workers will be worth; with one worker there is nothing to."""
    pick_rounds: bool = False
    """Take the plan's rounds an epoch, not the recipe's: this changes what is learned."""
    listeners: bool = True
    """Tell of each layer's weights, updates and gradients after every round."""
    gpus: Gpus = NO_GPUS
    """What rounds are computed on: a GPU's results differ from a CPU's in their last bits."""


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
    training_seconds: float
    """Of the rounds alone."""
    seconds: float
    """Of everything: reading, the plan, the rounds, validation."""
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

    Every figure goes to `log`: `start`, `round`, `layers`, `epoch`, `end`.

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
        prepared = prepare(
            spark, corpus=corpus, table=table, recipe=recipe, workers=workers, gpus=options.gpus
        )
        _check_slots(options.gpus.slots(spark.sparkContext), workers, log)
        planned = None
        if options.plan and workers > 1:
            log.write("planning")
            planned = plan_for(spark, prepared, warn=log.warn)
            log.write("plan", **planned.to_json())
        if options.pick_rounds:
            prepared = _with_picked_rounds(prepared, planned, directory, resume=options.resume)
        run = {
            "corpus": corpus.digest,
            "word_table": table.digest,
            "tokenizer": TOKENIZER,
            "workers": workers,
            "recipe": prepared.job.recipe.to_json(),
        }
        checkpoints = Checkpoints(directory, run=run, keep=options.keep_checkpoints)
        begun = _begun(checkpoints, options, log)
        strategy = strategy_for(spark, prepared, log.warn)
        _start_workers(strategy, prepared, begun)
        log.write("start", **start_figures(prepared, corpus=corpus, table=table, begun=begun))
        outcome = _run(
            strategy, prepared, checkpoints, begun=begun, log=log, listeners=options.listeners
        )
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
        **figures(outcome.best.validation, prefix="validation_"),
    )
    return result


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


def _start_workers(strategy: Strategy, prepared: Prepared, begun: Checkpoint | None) -> None:
    """A round of no steps: processes start, and load what they need, before the clock does."""
    made = begun.rounds if begun else 0
    parts = prepared.job.recipe.train.rounds_per_epoch
    strategy.train_round(Round(*divmod(made, parts), steps=0), prepared.job.first_state())


def plan_run(
    spark: SparkSession,
    *,
    corpus: Corpus,
    table: WordTable,
    recipe: Recipe,
    workers: int,
    gpus: Gpus = NO_GPUS,
) -> Plan:
    """What a run's workers will be worth; nothing is trained.

    Raises:
        InvalidInputError: as `train`.
    """
    prepared = prepare(spark, corpus=corpus, table=table, recipe=recipe, workers=workers, gpus=gpus)
    try:
        return plan_for(spark, prepared, warn=lambda _: None)
    finally:
        prepared.close()


def _with_picked_rounds(
    prepared: Prepared, planned: Plan | None, directory: Path, *, resume: bool
) -> Prepared:
    """With the plan's rounds an epoch; a run that goes on keeps those that it began with."""
    begun = Checkpoints.recorded_run(directory) if resume else None
    rounds = planned.rounds_per_epoch if planned else None
    if begun:
        rounds = int(begun["recipe"]["train"]["rounds_per_epoch"])
    job = prepared.job
    return replace(
        prepared, job=replace(job, recipe=with_changes(job.recipe, rounds_per_epoch=rounds))
    )


def _checked(planned: Plan, outcome: _Outcome) -> dict[str, float]:
    """The plan beside what came of it: how many times as fast as one worker would have been."""
    alone = planned.measured.alone_step * outcome.steps
    return {
        "predicted_speed_up": round(planned.chosen.speed_up, 3),
        "measured_speed_up": round(alone / max(outcome.training_seconds, 1e-9), 3),
    }


def _run(
    strategy: Strategy,
    prepared: Prepared,
    checkpoints: Checkpoints,
    *,
    begun: Checkpoint | None,
    log: EventLog,
    listeners: bool,
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
        which = Round(*divmod(made, parts), listeners=listeners)
        result = strategy.train_round(which, state)
        _check_finite(which, result, checkpoints)
        before, state, made = state, result.state, made + 1
        outcome.tokens += result.total.tokens
        outcome.steps += result.total.steps
        outcome.training_seconds += result.seconds
        outcome.overhead += result.overhead
        log.write("round", **round_figures(which, job, result))
        if listeners:
            log.write("layers", **layer_figures(which, job, result, before=before))
        if made % parts == 0:
            _validate(outcome, prepared, state, rounds=made, log=log)
        kept = outcome.best if outcome.best.epoch else None
        checkpoints.save(Checkpoint(made, state, kept))
    return outcome


def _validate(
    outcome: _Outcome, prepared: Prepared, state: bytes, *, rounds: int, log: EventLog
) -> None:
    """Measure the state at the end of an epoch; it may be the best so far."""
    validation = prepared.dealing.validate(prepared.shared_job, state)
    outcome.epochs += 1
    better = outcome.best.epoch == 0 or validation.mean_loss < outcome.best.validation.mean_loss
    log.write(
        "epoch",
        epoch=outcome.epochs,
        round=rounds,
        best=better,
        **figures(validation, "validation_"),
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
        training_seconds=outcome.training_seconds,
        seconds=time.perf_counter() - started,
        vocabulary=len(prepared.vocabulary),
        assignment=assignment,
    )


def _check_slots(at_once: int, workers: int, log: EventLog) -> None:
    if at_once < workers:
        log.warn(
            f"{at_once} of {workers} workers run at a time: they take turns (--workers {at_once})"
        )


def _check_finite(which: Round, result: RoundResult, checkpoints: Checkpoints) -> None:
    overflow = result.total.overflow
    if overflow is None:
        return
    shown = ", ".join(map(str, overflow.positions[:_ROWS_SHOWN]))
    rest = len(overflow.positions) - _ROWS_SHOWN
    last = checkpoints.newest
    raise SentimentError(
        f"the loss or its gradient is no number any more in epoch {which.epoch + 1}, part "
        f"{which.part + 1}, step {overflow.step + 1} of the run; the rows of that step have the "
        f"positions {shown}{f' and {rest} more' if rest > 0 else ''} in the training split; "
        f"the last good state: {last or 'none'}",
        todo="give a smaller --learning-rate",
    )
