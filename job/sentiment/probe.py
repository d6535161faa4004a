"""Some seconds of a job on its cluster, measured for the plan (`sentiment.plan`).

What is measured are the run's own rounds, made of their first steps only. Their states are
thrown away.
"""

from typing import Final

from pyspark.sql import SparkSession

from sentiment.allreduce import AllReduce, Said
from sentiment.averaging import Averaging
from sentiment.errors import SentimentError
from sentiment.plan import Measurements, Plan, plan
from sentiment.preparation import Prepared
from sentiment.rounds import Round
from sentiment.session import slots
from sentiment.strategies import allreduce_for, averaging_for
from sentiment.strategy import RoundResult

SECONDS: Final = 0.6
"""Of each measurement."""
FEWEST_TURNS: Final = 3
TURNS: Final = 5
"""Of each measurement the fastest of so many counts: in the first seconds Spark itself is busy,
and what else a machine does makes a step slower, never faster."""
SETTLED: Final = 0.97
"""A turn that is faster than all before it by less than this is the last one."""
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
    together, alone, empty, summed = [], [], [], []
    summing = allreduce
    for turn in range(1, TURNS + 1):  # in turn, so that what disturbs them disturbs all
        together.append(averaging.train_round(which, state))
        alone.append(averaging.train_alone(which, state))
        empty.append(averaging.train_round(nothing, state).seconds)
        if summing is not None:
            try:
                summed.append(summing.train_round(which, state))
            except SentimentError:  # it cannot be had here
                summing, summed = None, []
        took = ([_slowest(one) for one in together], [one.step_seconds for one in alone], empty)
        if turn >= FEWEST_TURNS and all(map(_settled, took)):
            break
    seconds = [worker.step_seconds for worker in min(together, key=_slowest).workers]
    mean = sum(seconds) / len(seconds)
    return Measurements(
        workers=len(seconds),
        alone_step=min(one.step_seconds for one in alone),
        step=mean,
        skew=max(seconds) / mean,
        round=min(empty),
        turns=-(-len(seconds) // max(at_once, 1)),
        sync=min(map(_sync, summed), default=None),
        meeting=min(map(_meeting, summed), default=0.0),
    )


def _settled(took: list[float]) -> bool:
    """The last turn has not become the fastest by far."""
    return took[-1] >= SETTLED * min(took[:-1])


def _slowest(result: RoundResult) -> float:
    return max(worker.step_seconds for worker in result.workers)


def _steps(warm: RoundResult, steps_per_epoch: int) -> int:
    """How many steps take about SECONDS."""
    return max(1, min(steps_per_epoch, int(SECONDS / max(_slowest(warm), 1e-3))))


def _sync(result: RoundResult) -> float:
    """Seconds of a step to sum gradients, of the worker that waits least for the others."""
    return min(worker.sync_seconds / worker.steps for worker in result.workers)


def _meeting(result: RoundResult) -> float:
    """Seconds of a round of allreduce beside its steps and sums."""
    return result.seconds - max(worker.seconds for worker in result.workers)


def plan_for(spark: SparkSession, prepared: Prepared, *, warn: Said) -> Plan:
    """Measure, and say what the run's workers will be worth."""
    job = prepared.job
    measured = measure(
        averaging_for(spark, prepared),
        allreduce_for(spark, prepared, warn),
        state=job.first_state(),
        steps_per_epoch=job.steps_per_epoch,
        at_once=slots(spark.sparkContext),
    )
    return plan(measured, job.recipe, steps_per_epoch=job.steps_per_epoch)
