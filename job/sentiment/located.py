"""Tasks on hosts that are named: one here, one there, and nowhere else."""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from pyspark import RDD, SparkContext
from pyspark.serializers import CPickleSerializer

from sentiment.errors import SentimentError

HOSTS: Final = "spark.sparkbundle.hosts"
"""The setting that tells drivers which hosts the cluster's workers are on."""
LOCALITY_WAIT: Final = "spark.locality.wait"
FOR_EVER: Final = "1d"

_PICKLE: Final = CPickleSerializer()
_PATIENCE_SECONDS: Final = 30.0
_PAUSE_SECONDS: Final = 2.0


@dataclass(frozen=True)
class Answer:
    """What a task on a host came to: a value, or the error that it ended with.

    `elsewhere`: it could not be run there, as no executor was left.
    """

    host: str
    value: Any = None
    error: SentimentError | None = None
    elsewhere: bool = False


def executor_hosts(context: SparkContext) -> tuple[str, ...]:
    """The hosts with at least one executor that lives, in order."""
    found = context._jsc.sc().statusStore().executorList(True)
    executors = [found.apply(index) for index in range(found.size())]
    local = str(context.master).startswith("local")
    hosts = {e.hostPort().rsplit(":", 1)[0] for e in executors if e.id() != "driver" or local}
    return tuple(sorted(hosts))


def expected_hosts(context: SparkContext) -> tuple[str, ...]:
    """The hosts that the cluster's workers are on, as its settings say; else those seen here."""
    return hosts_of(context.getConf().get(HOSTS, "")) or executor_hosts(context)


def hosts_of(setting: str | None) -> tuple[str, ...]:
    """The hosts in the setting HOSTS, which has commas between them."""
    return tuple(sorted({host for host in (setting or "").split(",") if host}))


def run_on(
    context: SparkContext, work: Sequence[tuple[str, Any]], function: Callable[[Any], Any]
) -> list[Answer]:
    """Run `function(argument)` for each (host, argument), each on its host.

    What a task raises as a SentimentError is an answer; anything else ends the job. Where the
    last executor of a host is lost, another is waited for, a while. The session must
    wait for ever for a task's place (`LOCALITY_WAIT`), see `placed`.
    """
    answers: list[Answer] = []
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while work:
        done = _run_once(context, work, function)
        lost = [place for place, answer in enumerate(done) if answer.elsewhere]
        if lost and time.monotonic() < deadline:
            answers += [answer for answer in done if not answer.elsewhere]
            work = [work[place] for place in lost]
            time.sleep(_PAUSE_SECONDS)
        else:
            return answers + done
    return answers


def _run_once(
    context: SparkContext, work: Sequence[tuple[str, Any]], function: Callable[[Any], Any]
) -> list[Answer]:
    """An answer for each piece of work, in its order."""
    elsewhere_is_wrong = not str(context.master).startswith("local")

    def run(tasks: Iterable[tuple[str, Any]]) -> Iterator[Answer]:
        for host, argument in tasks:
            if elsewhere_is_wrong and os.environ.get("SPARK_LOCAL_IP", host) != host:
                # Spark gives the task to any other when the last executor of its host is gone.
                lost = SentimentError("its executor was lost", where=host)
                yield Answer(host, error=lost, elsewhere=True)
                continue
            try:
                yield Answer(host, function(argument))
            except SentimentError as error:
                yield Answer(host, error=error)

    return _located(context, work).mapPartitions(run).collect()


def _located(context: SparkContext, work: Sequence[tuple[str, Any]]) -> "RDD[tuple[str, Any]]":
    """An RDD with a partition for each (host, argument) that prefers its host.

    Spark's `makeRDD(Seq[(T, Seq[String])])`, which Python has no words for.
    """
    jvm: Any = context._jvm
    scala = jvm.scala.jdk.javaapi.CollectionConverters
    pairs = jvm.java.util.ArrayList()
    for host, argument in work:
        places = jvm.java.util.ArrayList()
        places.add(host)
        item = bytearray(_PICKLE.dumps((host, argument)))  # type: ignore[no-untyped-call]
        pairs.add(jvm.scala.Tuple2(item, scala.asScala(places).toSeq()))
    tag = getattr(getattr(jvm.scala.reflect, "ClassTag$"), "MODULE$").AnyRef()
    made = context._jsc.sc().makeRDD(scala.asScala(pairs).toSeq(), tag)
    return RDD(jvm.org.apache.spark.api.java.JavaRDD(made, tag), context, _PICKLE)


@contextmanager
def placed(context: SparkContext) -> Iterator[None]:
    """Let tasks wait for their place, in a session that does not do so otherwise."""
    conf = context._jsc.sc().conf()
    before = context.getConf().get(LOCALITY_WAIT, "3s") or "3s"
    conf.set(LOCALITY_WAIT, FOR_EVER)
    try:
        yield
    finally:
        conf.set(LOCALITY_WAIT, before)
