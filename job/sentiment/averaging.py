"""The averaging strategy: workers train apart for a round, then their states are averaged.

Each round is one Spark job of ordinary tasks, one a shard. A task that is lost
with its executor runs again elsewhere and returns the same bytes, so a failure
changes when the run ends and not what it learns. A worker that joins or leaves between rounds
changes as little.
"""

import time
from collections.abc import Iterable, Iterator

from pyspark import Broadcast, SparkContext

from sentiment.agreement import average, outer_step, without_outer
from sentiment.dealing import Dealing, Dealt, unpacked
from sentiment.gpus import task_device
from sentiment.loop import Measured, State, state_from_bytes, state_to_bytes
from sentiment.rounds import Job, Round, run_round
from sentiment.strategy import RoundResult


class Averaging:
    """Runs rounds on the shards of each epoch; `momentum` is the outer one."""

    def __init__(
        self, context: SparkContext, dealing: Dealing, *, job: Broadcast[Job], momentum: float
    ) -> None:
        """`job`: what no round changes is on the executors."""
        self._context = context
        self._dealing = dealing
        self._momentum = momentum
        self._job = job

    def train_round(self, which: Round, state: bytes) -> RoundResult:
        """One round on every shard; the new states averaged by reviews seen, an outer step."""
        started = time.perf_counter()
        before = state_from_bytes(state)
        results = self._train(which, before)
        measured = [m for _, m in results]
        agreed = average(
            [state_from_bytes(after) for after, _ in results],
            weights=[max(m.reviews, 1) for m in measured],  # none in a round of no steps
        )
        after = outer_step(before, agreed, momentum=self._momentum)
        return RoundResult(state_to_bytes(after), measured, time.perf_counter() - started)

    def train_alone(self, which: Round, state: bytes) -> Measured:
        """The first shard's part of a round, while no other worker works."""
        [(_, measured)] = self._train(which, state_from_bytes(state), shards=[0])
        return measured

    def _train(
        self, which: Round, before: State, *, shards: list[int] | None = None
    ) -> list[tuple[bytes, Measured]]:
        """The state after the round and what was measured, of each of these shards."""
        job, sent = self._job, self._context.broadcast(state_to_bytes(without_outer(before)))

        def train(dealt: Iterable[Dealt]) -> Iterator[tuple[bytes, Measured]]:
            with task_device(job.value.device) as device:
                yield run_round(job.value, unpacked(dealt), which, state=sent.value, device=device)

        try:
            return self._context.runJob(self._dealing.epoch(which.epoch), train, shards)
        finally:
            sent.destroy()
