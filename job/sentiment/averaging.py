"""The averaging strategy: workers train apart for a round, then their states are averaged.

Each round is one Spark job of ordinary tasks, one a shard. A task that is lost
with its executor runs again elsewhere and returns the same bytes, so a failure
changes when the run ends and not what it learns.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pyspark import RDD, SparkContext, TaskContext

from sentiment.examples import Examples
from sentiment.loop import Measured, average, state_from_bytes, state_to_bytes
from sentiment.rounds import Job, Round, run_round, run_validation


@dataclass(frozen=True)
class RoundResult:
    """The state after a round, each shard's measurements, and the clock's seconds.

    What `seconds` exceeds the slowest shard's by is the round's overhead.
    """

    state: bytes
    shards: list[Measured]
    seconds: float

    @property
    def total(self) -> Measured:
        """All shards together."""
        return sum(self.shards, Measured())

    @property
    def overhead(self) -> float:
        """Seconds of the round in which the slowest worker did not train."""
        return self.seconds - max(m.seconds for m in self.shards)


class Averaging:
    """Runs rounds on shards as `sentiment.shards.encode` made them."""

    def __init__(
        self, context: SparkContext, shards: RDD[bytes], *, workers: int, job: Job
    ) -> None:
        """Send every executor what no round changes."""
        self._context = context
        self._shards = shards
        self._workers = workers
        self._job = context.broadcast(job)

    def train_round(self, which: Round, state: bytes) -> RoundResult:
        """One round on every training shard, the new states averaged by reviews seen."""
        started = time.perf_counter()
        job, before = self._job, self._context.broadcast(state)

        def train(shards: Iterable[bytes]) -> Iterator[tuple[bytes, Measured]]:
            for data in shards:
                examples = Examples.from_bytes(data)
                yield run_round(job.value, examples, which, shard=_partition(), state=before.value)

        results = self._context.runJob(self._shards, train, list(range(self._workers)))
        before.destroy()
        states = [state_from_bytes(after) for after, _ in results]
        measured = [m for _, m in results]
        agreed = average(states, weights=[m.reviews for m in measured])
        return RoundResult(state_to_bytes(agreed), measured, time.perf_counter() - started)

    def validate(self, state: bytes) -> Measured:
        """The state's loss and accuracy on all validation shards."""
        job, before = self._job, self._context.broadcast(state)

        def check(shards: Iterable[bytes]) -> Iterator[Measured]:
            for data in shards:
                yield run_validation(job.value, Examples.from_bytes(data), state=before.value)

        partitions = list(range(self._workers, 2 * self._workers))
        results = self._context.runJob(self._shards, check, partitions)
        before.destroy()
        return sum(results, Measured())


def _partition() -> int:
    """The number of the shard that the running task works on."""
    context = TaskContext.get()
    assert context is not None
    return context.partitionId()
