"""Spark's own ways to bring a word table to every host: an application for ship.py.

    sparkbundle submit ship_peers.py (addFile | broadcast) DIGEST HOSTS

addFile: each executor fetches every file from the driver. broadcast: words and matrix, pickled,
as users write it first. Both end when as many hosts as are expected have all of it.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from pyspark import SparkConf, SparkContext, SparkFiles

from sentiment.vectors.manifest import VECTORS, WORDS

STORE = Path("/var/lib/sparkbundle/vectors")
SLOTS_A_HOST = 2


def by_file(context: SparkContext, table: Path, hosts: int) -> set[str]:
    names = sorted(path.name for path in table.iterdir() if path.is_file())
    for name in names:
        context.addFile(str(table / name))

    def look(_: Iterator[int]) -> Iterator[tuple[str, int]]:
        size = sum(Path(SparkFiles.get(name)).stat().st_size for name in names)
        time.sleep(2)  # so that each slot gets one of the tasks
        yield os.environ["SPARK_LOCAL_IP"], size

    return _hosts(context, look, hosts)


def by_broadcast(context: SparkContext, table: Path, hosts: int) -> set[str]:
    matrix = np.load(table / VECTORS)
    words = (table / WORDS).read_text().splitlines()
    row_of = {word: row for row, word in enumerate(words)}
    shared = context.broadcast((row_of, matrix))

    def look(_: Iterator[int]) -> Iterator[tuple[str, int]]:
        rows, values = shared.value
        time.sleep(2)
        yield os.environ["SPARK_LOCAL_IP"], len(rows) + values.nbytes

    return _hosts(context, look, hosts)


def _hosts(
    context: SparkContext,
    look: Callable[[Iterator[int]], Iterator[tuple[str, int]]],
    hosts: int,
) -> set[str]:
    slots = SLOTS_A_HOST * hosts
    found = context.parallelize(range(slots), slots).mapPartitions(look).collect()
    assert len({size for _, size in found}) == 1, found
    return {host for host, _ in found}


def main() -> None:
    way, digest, hosts = sys.argv[1], sys.argv[2], int(sys.argv[3])
    # Every executor is there before the first task is given.
    context = SparkContext(
        conf=SparkConf().set("spark.scheduler.minRegisteredResourcesRatio", "1.0")
    )
    bring = {"addFile": by_file, "broadcast": by_broadcast}[way]
    found = bring(context, STORE / digest, hosts)
    assert len(found) == hosts, f"only {sorted(found)} have it"
    print(f"on {sorted(found)}")


if __name__ == "__main__":
    main()
