"""A look at the cluster beside a running job: what it waits for, and whether it is still there.

Spark itself waits for ever, for cores that others hold as for a cluster that has ended.
A master that restarts takes its applications back, so some patience is right.
"""

import socket
import threading
import time
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from py4j.protocol import Py4JError
from pyspark import SparkContext

from sentiment.output import say

_ON_DEMAND: Final = "spark.dynamicAllocation.enabled"
_PROBE_SECONDS = 3.0


def answers(master: str) -> bool:
    """Whether something listens at the address of a Spark master URL."""
    address = urlsplit(master)
    try:
        with socket.create_connection(
            (address.hostname or "", address.port or 7077), timeout=_PROBE_SECONDS
        ):
            return True
    except (OSError, ValueError):
        return False


@dataclass(frozen=True)
class Patience:
    """Seconds: between two looks, until it is said that cores are missing, until it is over.

    `say` begins when Spark has started, for which it has waited for cores itself: up to
    `spark.scheduler.maxRegisteredResourcesWaitingTime`, 30 s. `silent` is for an
    application without executors whose master does not answer, `idle` for one that
    had executors, gets none any more, and whose master answers.
    """

    look: float = 3.0
    say: float = 5.0
    silent: float = 120.0
    idle: float = 600.0


class Watch:
    """Watches from `start` to `end`, in a thread of its own, a cluster at a spark:// master.

    `gone` says why the cluster is given up, and stays None as long as it is not.
    From then on every Spark job is cancelled, so that whoever waits for one goes on.
    An application that takes executors on demand lacks none while no job of it runs.
    """

    def __init__(self, master: str, patience: Patience) -> None:
        """Nothing happens yet."""
        self.gone: str | None = None
        self._master = master
        self._patience = patience
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._on_demand = False
        self._said = False
        self._said_silent = False
        self._had_executors = False
        self._without_since: float | None = None

    def start(self, context: SparkContext) -> None:
        """Begin to look at a Spark that has started."""
        self._on_demand = context.getConf().get(_ON_DEMAND, "false") == "true"
        if self._master.startswith("spark://"):
            self._thread = threading.Thread(target=self._run, args=(context,), daemon=True)
            self._thread.start()

    def end(self) -> None:
        """Stop looking: before Spark is stopped."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(timeout=2 * _PROBE_SECONDS)

    def _run(self, context: SparkContext) -> None:
        started = time.monotonic()
        while not self._ended.wait(self._patience.look):
            try:
                executors = _executors(context)
                if self._on_demand:
                    self._look_on_demand(context, executors)
                    continue
                if time.monotonic() - started >= self._patience.say:
                    self._say_what_is_missing(executors, context)
                self._look(context, executors)
            except (Py4JError, OSError):
                continue  # Spark is busy or ends: the next look tells.

    def _say_what_is_missing(self, executors: int, context: SparkContext) -> None:
        if self._said:
            return
        self._said = True
        settings = context.getConf()
        asked = int(settings.get("spark.cores.max", "0") or 0)
        cores = executors * int(settings.get("spark.executor.cores", "0") or 0)
        if not executors or cores < asked:
            of = f" of {asked}" if asked else ""
            say(f"waiting for cores: {cores}{of} so far; another application may hold the others")

    def _look(self, context: SparkContext, executors: int) -> None:
        if executors:
            self._had_executors, self._without_since = True, None
            self._said_silent = False
            return
        if self._without_since is None and self._had_executors:
            say("all executors are lost: waiting for the cluster")
        seconds = self._seconds_without()
        if answers(self._master):
            if self._had_executors and seconds >= self._patience.idle:
                self.gone = f"it has given no executor for {seconds:.0f} s"
        elif seconds < self._patience.silent:
            self._say_that_it_is_silent()
        else:
            self.gone = f"no executor is left and its master has not answered for {seconds:.0f} s"
        if self.gone:
            context.cancelAllJobs()

    def _say_that_it_is_silent(self) -> None:
        if not self._said_silent:
            self._said_silent = True
            say(f"the master does not answer: waiting {self._patience.silent:.0f} s for it")

    def _look_on_demand(self, context: SparkContext, executors: int) -> None:
        if executors or not context.statusTracker().getActiveJobsIds():
            self._said, self._without_since = False, None
            return
        seconds = self._seconds_without()
        if not answers(self._master):
            if seconds >= self._patience.silent:
                self.gone = f"its master has not answered for {seconds:.0f} s"
                context.cancelAllJobs()
        elif seconds >= self._patience.say and not self._said:
            self._said = True
            say("waiting for cores: another application holds them all (sparkbundle status)")

    def _seconds_without(self) -> float:
        """Since it is known that there is no executor."""
        now = time.monotonic()
        self._without_since = self._without_since or now
        return now - self._without_since


def _executors(context: SparkContext) -> int:
    """How many executors the application has now."""
    status = context._jsc.sc().getExecutorMemoryStatus()
    return max(int(status.size()) - 1, 0)  # The driver counts as one.
