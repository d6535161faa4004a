"""Who trains on which review in which epoch: the training rows are dealt anew for each.

The deal is a function of the seed, the epoch and the number of shards alone. Every shard gets as
many rows as the others, or one more, wherever the rows were before: an input that is sorted,
skewed or in one piece is as good as any.
"""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from pyspark import RDD, Broadcast, SparkContext
from pyspark.storagelevel import StorageLevel

from sentiment.examples import Examples, join
from sentiment.gpus import NO_GPUS, Gpus, task_device
from sentiment.loop import Measured
from sentiment.rounds import Job, Shards, run_validation

Dealt = tuple[int, tuple[int, bytes]]
"""What travels: a task's number; a shard's, and a part of its examples."""


class Dealing:
    """The encoded rows of a run, by epoch.

    `encoded` has elements of `Examples.to_bytes()`: partitions 0..shards-1 are trained on, the
    others validate. `positions`: those of the training rows, ascending.
    """

    def __init__(
        self,
        context: SparkContext,
        encoded: RDD[bytes],
        *,
        positions: NDArray[np.int64],
        shards: int,
        seed: int,
        gpus: Gpus = NO_GPUS,
    ) -> None:
        """Nothing is dealt before it is asked for. Tasks that train or validate get `gpus`."""
        self._context = context
        self._encoded = encoded
        self._positions = context.broadcast(positions)
        self.shards = shards
        self._seed = seed
        self._gpus = gpus
        self._epoch: int | None = None
        self._rows: dict[int, RDD[Dealt]] = {}

    def epoch(self, epoch: int, *, tasks: int | None = None) -> RDD[Dealt]:
        """The epoch's shards in so many partitions, by default one a shard.

        They are kept until another epoch is asked for.
        """
        tasks = tasks or self.shards
        if self._epoch != epoch:
            self.close()
            self._epoch = epoch
        if tasks not in self._rows:
            self._rows[tasks] = self._dealt(epoch, tasks)
        return self._rows[tasks]

    def close(self) -> None:
        """Let the executors forget the epoch."""
        for rows in self._rows.values():
            rows.unpersist()
        self._rows.clear()

    def validate(self, job: Broadcast[Job], state: bytes) -> Measured:
        """The state's loss and accuracy on all validation rows."""
        sent = self._context.broadcast(state)

        def check(parts: Iterable[bytes]) -> Iterator[Measured]:
            with task_device(job.value.device) as device:
                for data in parts:
                    examples = Examples.from_bytes(data)
                    yield run_validation(job.value, examples, state=sent.value, device=device)

        partitions = list(range(self.shards, 2 * self.shards))
        results = self._gpus.run(self._encoded, check, partitions)
        sent.destroy()
        return sum(results, Measured())

    def _dealt(self, epoch: int, tasks: int) -> RDD[Dealt]:
        positions, shards, seed = self._positions, self.shards, (self._seed, epoch)

        def split(index: int, parts: Iterable[bytes]) -> Iterator[Dealt]:
            if index >= shards:
                return  # they validate
            dealt = deal(len(positions.value), shards=shards, seed=seed)
            for data in parts:
                for shard, part in parted(Examples.from_bytes(data), positions.value, dealt):
                    yield shard % tasks, (shard, part.to_bytes())

        # Kept as they come out of the shuffle, the parts not yet joined: no Python is asked then.
        parts = self._encoded.mapPartitionsWithIndex(split)
        return self._gpus.given_to(parts.partitionBy(tasks, int)).persist(
            StorageLevel.MEMORY_AND_DISK
        )


def deal(rows: int, *, shards: int, seed: tuple[int, ...]) -> NDArray[np.int64]:
    """The shard of each training row, int64 [rows]: all shards get as many, or one more."""
    dealt = np.empty(rows, dtype=np.int64)
    dealt[np.random.default_rng(seed).permutation(rows)] = np.arange(rows) % shards
    return dealt


def shard_rows(rows: int, *, shards: int) -> tuple[int, ...]:
    """How many rows `deal` gives each shard."""
    return tuple(len(range(shard, rows, shards)) for shard in range(shards))


def parted(
    examples: Examples, positions: NDArray[np.int64], dealt: NDArray[np.int64]
) -> Iterator[tuple[int, Examples]]:
    """The examples by the shard that they were dealt to; rows that are not dealt are left out."""
    places = np.searchsorted(positions, examples.positions)
    places = np.minimum(places, len(positions) - 1)
    mine = np.where(positions[places] == examples.positions, dealt[places], -1)
    for shard in np.unique(mine[mine >= 0]).tolist():
        yield shard, examples.select(np.flatnonzero(mine == shard))


def unpacked(dealt: Iterable[Dealt]) -> Shards:
    """The shards that a task got, as it trains on them: the same in whatever order parts come."""
    parts: dict[int, list[Examples]] = {}
    for _, (shard, data) in dealt:
        parts.setdefault(shard, []).append(Examples.from_bytes(data))
    return [(shard, join(parts[shard])) for shard in sorted(parts)]
