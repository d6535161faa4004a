"""The driver of the smoke job, a process of its own: python -P smoke_job.py TASKS RESULT.

It starts its JVM at once, so that this costs no time later, and waits for a
line on stdin before it asks the cluster for anything. Then a barrier stage with
as many tasks as the cluster has cores runs on all of them at the same time.
Each task tells the worker that it ran on (executors have its name in their
environment, from their worker) and the sum of the squares of its numbers. RESULT gets
{"workers": {name: tasks}, "total": …, "expected": …} as JSON. Is it "-", the job does
not wait, and prints.

It imports nothing of sparkbundle: what its tasks need travels with them.
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from pyspark import SparkConf, SparkContext
from pyspark.java_gateway import launch_gateway

NUMBERS = 100_000


def run(context: SparkContext, *, tasks: int) -> dict[str, object]:
    """Run the stage and gather what its tasks say."""

    def one_task(numbers: Iterable[int]) -> Iterator[tuple[str, int]]:
        yield os.environ["SPARKBUNDLE_ROLE"], sum(number * number for number in numbers)

    answers = context.parallelize(range(NUMBERS), tasks).barrier().mapPartitions(one_task).collect()
    last = NUMBERS - 1
    return {
        "workers": Counter(worker for worker, _ in answers),
        "total": sum(part for _, part in answers),
        "expected": last * (last + 1) * (2 * last + 1) // 6,
    }


def main() -> None:
    """Wait for the word, run the stage, write the result."""
    tasks, result = int(sys.argv[1]), sys.argv[2]
    gateway = launch_gateway()  # type: ignore[no-untyped-call]
    if result != "-" and not sys.stdin.readline():
        return  # whoever started this process is gone
    context = SparkContext(conf=SparkConf().setAppName("sparkbundle-smoke"), gateway=gateway)
    try:
        answer = run(context, tasks=tasks)
    finally:
        context.stop()
    if result == "-":
        print(json.dumps(answer))
    else:
        Path(result).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main()
