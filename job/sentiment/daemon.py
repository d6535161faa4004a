"""Spark's Python daemon (`pyspark.daemon`) with torch in memory before it forks a worker.

An executor keeps several Python workers and hands tasks out to them in turn: each that has not
yet loaded torch and its optimizers takes three seconds for that, in the middle of a training.
Loaded before the fork they are there in all of them, and in memory once.

Spark setting: `spark.python.daemon.module`.
"""

import torch
from pyspark.daemon import manager

import sentiment.dealing  # noqa: F401  (what tasks are made of, and torch)


def load() -> None:
    """Load what torch loads late, with the first optimizer. Nothing is computed.

    A process that has computed has threads, and those are not there after a fork.
    """
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])


if __name__ == "__main__":
    load()
    manager()
