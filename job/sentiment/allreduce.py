"""The allreduce strategy: the workers add their gradients up at every step.

A round is one barrier stage of Spark: all its workers start together. Spark never begins such a
stage again, so the driver does: a worker that is lost ends the round for all, and it is made
again, from the state that it began with, on the workers that are left. Shards are dealt out to
these, and a step is of the same reviews as before.
"""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final

import torch
from py4j.protocol import Py4JJavaError
from pyspark import BarrierTaskContext, Broadcast, SparkContext

from sentiment.dealing import Dealing, Dealt, unpacked
from sentiment.errors import SentimentError
from sentiment.gpus import task_device
from sentiment.loop import Measured, SumGradients
from sentiment.network import SentimentNetwork
from sentiment.peers import Meeting, MeetingPlace, met
from sentiment.rounds import Job, Round, run_round
from sentiment.strategy import RoundResult

SETTINGS: Final = {
    # A worker that waits for others at the barrier: a year, else.
    "spark.barrier.sync.timeout": "120s",
    # Fewer cores than workers: said at once, else after ten minutes.
    "spark.scheduler.barrier.maxConcurrentTasksCheck.interval": "1s",
    "spark.scheduler.barrier.maxConcurrentTasksCheck.maxFailures": "3",
    # A worker that was cancelled and does not end: its Python process is killed.
    "spark.task.reaper.enabled": "true",
    "spark.task.reaper.killTimeout": "20s",
}
"""What a session for this strategy needs to be told."""
TRIES: Final = 4
"""How often a round is begun."""
PATIENCE: Final = 60.0
"""Seconds in which at least one worker comes back."""

_TOO_FEW_SLOTS: Final = "SPARK-24819"

Said = Callable[[str], None]


class AllReduce:
    """Runs rounds on the shards of each epoch; `warn` is told of each that is begun again."""

    def __init__(
        self,
        context: SparkContext,
        dealing: Dealing,
        *,
        job: Broadcast[Job],
        slots: Callable[[], int],
        warn: Said,
    ) -> None:
        """`job`: what no round changes is on the executors. `slots`: tasks that run at once now."""
        self._context = context
        self._dealing = dealing
        self._slots = slots
        self._warn = warn
        self._job = job
        conf = context.getConf()  # Spark itself has set the host
        self._place = MeetingPlace(
            conf.get("spark.driver.host", "127.0.0.1"), bind=conf.get("spark.driver.bindAddress")
        )

    def train_round(self, which: Round, state: bytes) -> RoundResult:
        """One round on every shard, begun again on the workers that are left if one is lost.

        Raises:
            SentimentError: it failed too often, or no worker is left.
        """
        started = time.perf_counter()
        for _ in range(TRIES):
            size = self._workers()
            try:
                after, measured = self._try(which, state, size)
            except Py4JJavaError as error:
                why = _reason(error)
                self._warn(f"a worker was lost or failed ({why}): the round is begun again")
            else:
                return RoundResult(after, measured, time.perf_counter() - started)
        raise SentimentError(
            f"epoch {which.epoch + 1}, part {which.part + 1} failed {TRIES} times: {why}",
            todo="look at the cluster: sparkbundle status; then go on with --resume",
        )

    def _workers(self) -> int:
        """How many workers the round can have: a shard each at most."""
        deadline = time.monotonic() + PATIENCE
        while not (slots := self._slots()):
            if time.monotonic() > deadline:
                raise SentimentError(
                    "no worker is left",
                    todo="look at the cluster: sparkbundle status; then go on with --resume",
                )
            time.sleep(1)
        return min(slots, self._dealing.shards)

    def _try(self, which: Round, state: bytes, size: int) -> tuple[bytes, list[Measured]]:
        job, sent = self._job, self._context.broadcast(state)
        # NCCL takes a GPU a worker; those that share one meet over the CPU.
        nccl = job.value.device.kind == "cuda" and job.value.device.share == 1
        meeting = self._place.meeting(size, nccl=nccl)

        def train(dealt: Iterable[Dealt]) -> Iterator[tuple[bytes, str, Measured]]:
            context = BarrierTaskContext.get()
            rank = context.partitionId()
            with (
                task_device(job.value.device) as device,
                _meeting(context, meeting, device) as sum_gradients,
            ):
                after, measured = run_round(
                    job.value,
                    unpacked(dealt),
                    which,
                    state=sent.value,
                    device=device,
                    sum_gradients=sum_gradients,
                )
            yield after if rank == 0 else b"", hashlib.sha256(after).hexdigest(), measured

        try:
            shards = self._dealing.epoch(which.epoch, tasks=size)
            results = shards.barrier().mapPartitions(train).collect()
        finally:
            sent.destroy()
        if len({digest for _, digest, _ in results}) != 1:
            raise SentimentError(
                "the workers ended a round with different weights",
                todo="report it, with the event file",
            )
        return results[0][0], [measured for _, _, measured in results]


@contextmanager
def _meeting(
    context: BarrierTaskContext, meeting: Meeting, device: torch.device
) -> Iterator[SumGradients]:
    """The tasks of a barrier stage meet at the driver's place.

    Not by the stage's own allGather: it looks for an answer once a second.
    """
    if meeting.size == 1:
        yield _alone
        return
    rank = context.partitionId()
    address = context.getTaskInfos()[rank].address.partition(":")[0]
    with met(meeting, rank=rank, address=address, device=device) as sum_gradients:
        yield sum_gradients


def _alone(_: SentimentNetwork) -> float:
    """One worker has every shard: its gradients are the sum already."""
    return 0.0


def _reason(error: Py4JJavaError) -> str:
    """What Spark gives as the reason, without the classes of Java and their traces."""
    text = str(error.java_exception)
    if _TOO_FEW_SLOTS in text:
        return "fewer cores are left than the round needs"
    reason = text.rpartition("Most recent failure reason:")[2]
    line = next((line for line in reason.splitlines() if line.strip()), "unknown").strip()
    return line.rpartition("Exception: ")[2][:200]
