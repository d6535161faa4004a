"""Who trains on which review in which epoch: the training rows are dealt anew for each.

The deal is a function of the seed, the epoch and the number of shards alone. Every shard gets as
many rows as the others, or one more, wherever the rows were before: an input that is sorted,
skewed or in one piece is as good as any.
"""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from pyspark import RDD, SparkContext
from pyspark.storagelevel import StorageLevel

from sentiment.examples import Examples, join
from sentiment.loop import Measured
from sentiment.rounds import Job, Shards, run_validation

Dealt = tuple[int, bytes]
"""A shard's number and its examples, as they travel."""


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
    ) -> None:
        """Nothing is dealt before it is asked for."""
        self._context = context
        self._encoded = encoded
        self._positions = context.broadcast(positions)
        self._shards = shards
        self._seed = seed
        self._last: tuple[int, int] | None = None
        self._rows: RDD[Dealt] | None = None

    def epoch(self, epoch: int, *, tasks: int | None = None) -> RDD[Dealt]:
        """The epoch's shards in so many partitions, by default one a shard.

        They are kept until another epoch is asked for.
        """
        tasks = tasks or self._shards
        if self._last != (epoch, tasks):
            self.close()
            self._last, self._rows = (epoch, tasks), self._dealt(epoch, tasks)
        assert self._rows is not None
        return self._rows

    def close(self) -> None:
        """Let the executors forget the epoch."""
        if self._rows is not None:
            self._rows.unpersist()
        self._last, self._rows = None, None

    def validate(self, job: Job, state: bytes) -> Measured:
        """The state's loss and accuracy on all validation rows."""
        shared = self._context.broadcast((job, state))

        def check(parts: Iterable[bytes]) -> Iterator[Measured]:
            job, state = shared.value
            for data in parts:
                yield run_validation(job, Examples.from_bytes(data), state=state)

        partitions = list(range(self._shards, 2 * self._shards))
        results = self._context.runJob(self._encoded, check, partitions)
        shared.destroy()
        return sum(results, Measured())

    def _dealt(self, epoch: int, tasks: int) -> RDD[Dealt]:
        positions, shards, seed = self._positions, self._shards, (self._seed, epoch)

        def split(parts: Iterable[bytes]) -> Iterator[tuple[int, Dealt]]:
            dealt = deal(len(positions.value), shards=shards, seed=seed)
            for data in parts:
                for shard, part in parted(Examples.from_bytes(data), positions.value, dealt):
                    yield shard % tasks, (shard, part.to_bytes())

        def whole(pairs: Iterable[tuple[int, Dealt]]) -> Iterator[Dealt]:
            parts: dict[int, list[Examples]] = {}
            for _, (shard, data) in pairs:
                parts.setdefault(shard, []).append(Examples.from_bytes(data))
            for shard in sorted(parts):
                yield shard, join(parts[shard]).to_bytes()

        pairs = self._encoded.mapPartitions(split)
        return (
            pairs.partitionBy(tasks, _itself)
            .mapPartitions(whole)
            .persist(StorageLevel.MEMORY_AND_DISK)
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
    """The shards that a task got, as it trains on them."""
    return [(shard, Examples.from_bytes(data)) for shard, data in dealt]


def _itself(task: int) -> int:
    return task
