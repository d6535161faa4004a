"""Some seconds of a job on its cluster, measured for the plan (`sentiment.plan`).

What is measured are the run's own rounds, made of their first steps only. Their states are
thrown away.
"""

from dataclasses import dataclass
from statistics import median
from typing import Final

from pyspark.sql import SparkSession

from sentiment.allreduce import AllReduce, Said
from sentiment.averaging import Averaging
from sentiment.errors import SentimentError
from sentiment.loop import Measured
from sentiment.plan import Measurements, Plan, plan
from sentiment.preparation import Prepared
from sentiment.rounds import Round
from sentiment.strategies import allreduce_for, averaging_for
from sentiment.strategy import RoundResult

SECONDS: Final = 1.5
"""Of each measurement. While a task begins, its JVM works beside it and slows down the steps of all
workers that share its cores: so their second half is the measure of a step, and what the first one
took beyond that is a part of what a round costs."""
TURNS: Final = 3
"""What is compared is measured within one turn, so that what else a machine does disturbs all of
it. The turn in which the workers disturb each other least counts: in its first seconds Spark itself
is busy, and slows down those that work at once."""
WARM_UP_STEPS: Final = 3


def measure(
    averaging: Averaging,
    allreduce: AllReduce | None,
    *,
    state: bytes,
    steps_per_epoch: int,
    at_once: int,
) -> Measurements:
    """Measure steps and agreements, beginning with a state that stays as it is.

    `at_once`: how many tasks run at the same time.
    """
    steps = WARM_UP_STEPS
    for _ in range(2):  # the first steps of a process are no measure of those to come
        warm = averaging.train_round(Round(0, 0, steps=steps), state)
        steps = _steps(warm, steps_per_epoch)
    which, nothing = Round(0, 0, steps=steps), Round(0, 0, steps=0)
    turns: list[_Turn] = []
    empty: list[float] = []
    summing = allreduce
    for _ in range(TURNS):
        together = averaging.train_round(which, state)
        alone = averaging.train_alone(which, state)
        empty.append(averaging.train_round(nothing, state).seconds)
        summed = None
        if summing is not None:
            try:
                summed = summing.train_round(which, state)
            except SentimentError:  # it cannot be had here
                summing = None
        turns.append(_Turn(together, alone, summed))
    best = max(turns, key=_scaling)
    seconds = [worker.late_step_seconds for worker in best.together.workers]
    mean = sum(seconds) / len(seconds)
    sums = [turn for turn in turns if turn.summed is not None] if summing is not None else []
    return Measurements(
        workers=len(seconds),
        alone_step=best.alone.late_step_seconds,
        step=mean,
        skew=max(seconds) / mean,
        round=median(empty) + median(_start(turn.together) for turn in turns),
        turns=-(-len(seconds) // max(at_once, 1)),
        sync=median(map(_sync, sums)) if sums else None,
        meeting=median(map(_meeting, sums)) if sums else 0.0,
    )


@dataclass(frozen=True)
class _Turn:
    """The same steps of all workers at once, of one alone, of all adding gradients up."""

    together: RoundResult
    alone: Measured
    summed: RoundResult | None
    """None where it cannot be had."""


def _scaling(turn: _Turn) -> float:
    """How fast the slowest of all workers is, in times of one that works alone."""
    return turn.alone.late_step_seconds / _slowest(turn.together)


def _slowest(result: RoundResult) -> float:
    """Seconds of a step of the slowest worker."""
    return max(worker.late_step_seconds for worker in result.workers)


def _start(result: RoundResult) -> float:
    """Seconds that the steps of a round took beyond what they take when all of them work."""
    seconds = max(worker.seconds for worker in result.workers)
    return max(0.0, seconds - result.workers[0].steps * _slowest(result))


def _steps(warm: RoundResult, steps_per_epoch: int) -> int:
    """How many steps take about SECONDS."""
    return max(1, min(steps_per_epoch, int(SECONDS / max(_slowest(warm), 1e-3))))


def _sync(turn: _Turn) -> float:
    """What a step takes longer with the gradients of all workers added up, in seconds."""
    assert turn.summed is not None
    return max(0.0, _slowest(turn.summed) - _slowest(turn.together))


def _meeting(turn: _Turn) -> float:
    """Seconds of a round of allreduce beside its steps and sums."""
    assert turn.summed is not None
    steps = turn.summed.workers[0].steps * _slowest(turn.summed)
    return max(0.0, turn.summed.seconds - steps)


def plan_for(spark: SparkSession, prepared: Prepared, *, warn: Said) -> Plan:
    """Measure, and say what the run's workers will be worth."""
    job = prepared.job
    measured = measure(
        averaging_for(spark, prepared),
        allreduce_for(spark, prepared, warn),
        state=job.first_state(),
        steps_per_epoch=job.steps_per_epoch,
        at_once=prepared.gpus.slots(spark.sparkContext),
    )
    return plan(measured, job.recipe, steps_per_epoch=job.steps_per_epoch)
