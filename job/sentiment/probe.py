"""Some seconds of a job on its cluster, measured for the plan (`sentiment.plan`).

What is measured are the run's own rounds, made of their first steps only. Their states are
thrown away.
"""

from typing import Final

from sentiment.allreduce import AllReduce
from sentiment.averaging import Averaging
from sentiment.errors import SentimentError
from sentiment.plan import Measurements
from sentiment.rounds import Round
from sentiment.strategy import RoundResult, Strategy

SECONDS: Final = 3.0
"""Of each measurement: a step's seconds are then about what they will be."""
WARM_UP_STEPS: Final = 3


def measure(
    averaging: Averaging, allreduce: AllReduce | None, *, state: bytes, steps_per_epoch: int
) -> Measurements:
    """Measure steps and agreements, beginning with a state that stays as it is."""
    first = averaging.train_round(Round(0, 0, steps=WARM_UP_STEPS), state)
    steps = _steps(first, steps_per_epoch)
    together = averaging.train_round(Round(0, 0, steps=steps), state)
    alone = averaging.train_alone(Round(0, 0, steps=steps), state)
    empty = averaging.train_round(Round(0, 0, steps=0), state)
    seconds = [worker.seconds / worker.steps for worker in together.workers]
    mean = sum(seconds) / len(seconds)
    return Measurements(
        workers=len(seconds),
        alone_step=alone.seconds / alone.steps,
        step=mean,
        skew=max(seconds) / mean,
        round=empty.seconds,
        sync=_sync(allreduce, state, steps) if allreduce else None,
    )


def _steps(first: RoundResult, steps_per_epoch: int) -> int:
    """How many steps take about SECONDS."""
    slowest = max(worker.seconds for worker in first.workers) / WARM_UP_STEPS
    return max(1, min(steps_per_epoch, int(SECONDS / max(slowest, 1e-3))))


def _sync(allreduce: Strategy, state: bytes, steps: int) -> float | None:
    try:
        result = allreduce.train_round(Round(0, 0, steps=max(1, steps // 3)), state)
    except SentimentError:
        return None
    return max(worker.sync_seconds / worker.steps for worker in result.workers)
