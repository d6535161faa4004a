"""The strategies of a run: those that `strategy` describes, made for what is prepared."""

from typing import Final

from pyspark.sql import SparkSession

from sentiment import allreduce
from sentiment.agreement import default_momentum
from sentiment.allreduce import AllReduce, Said
from sentiment.averaging import Averaging
from sentiment.preparation import Prepared
from sentiment.session import Place, setting
from sentiment.strategy import Strategy

_SETTINGS: Final = {
    **allreduce.SETTINGS,
    # A worker's state comes back in its task's answer, not by a second way.
    "spark.task.maxDirectResultSize": "32m",
    # Every worker has torch in memory from its start.
    "spark.python.daemon.module": "sentiment.daemon",
    # Else the tasks of SQL have another environment than those of RDDs, and by that a daemon of
    # their own on each executor, which loads torch again.
    "spark.sql.execution.pyspark.udf.simplifiedTraceback.enabled": "false",
    # Between JVM and Python: over TCP each task waits 40 ms for an acknowledgement (Nagle).
    "spark.python.unix.domain.socket.enabled": "true",
    # An executor's JVM only passes bytes on; the threads of other collectors take time from torch.
    "spark.executor.extraJavaOptions": "-XX:+UseSerialGC",
}


def settings_for(place: Place) -> dict[str, str]:
    """What a session of training is told, where the place itself says nothing of it."""
    return {key: value for key, value in _SETTINGS.items() if setting(place, key) is None}


def strategy_for(spark: SparkSession, prepared: Prepared, warn: Said) -> Strategy:
    """The one that the recipe names."""
    if prepared.job.recipe.train.strategy == "allreduce":
        return allreduce_for(spark, prepared, warn)
    return averaging_for(spark, prepared)


def averaging_for(spark: SparkSession, prepared: Prepared) -> Averaging:
    """Averaging, with the recipe's outer momentum."""
    job = prepared.job
    momentum = job.recipe.train.outer_momentum
    if momentum is None:
        momentum = default_momentum(len(job.rows))
    return Averaging(
        spark.sparkContext, prepared.dealing, job=prepared.shared_job, momentum=momentum
    )


def allreduce_for(spark: SparkSession, prepared: Prepared, warn: Said) -> AllReduce:
    """Allreduce on as many workers as there are at each round."""
    context = spark.sparkContext
    return AllReduce(
        context,
        prepared.dealing,
        job=prepared.shared_job,
        slots=lambda: prepared.gpus.slots(context),
        warn=warn,
    )
