"""What a driver does when its cluster makes it wait, restarts, or goes away."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from sentiment import session
from sentiment.errors import UNREACHABLE, SentimentError
from sentiment.session import Place, find_place, spark_session
from sentiment.watch import Patience, Watch
from tests.conftest import Sentiment

HURRY = Patience(look=0.2, say=1.0, silent=2.5)
# How long Spark's start waits for cores: these tests do not wait 30 s.
IMPATIENT = "spark.scheduler.maxRegisteredResourcesWaitingTime=1s\n"
SHORT = Patience(look=0.02, say=0.1, silent=0.4, idle=0.6)
HOLD = """
import sys, time
from sentiment.session import find_place, spark_session
with spark_session(find_place(), name="holder") as spark:
    spark.range(1).count()
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sentiment]:
    """A cluster of one core that no other test needs."""
    command = Sentiment(tmp_path_factory.mktemp("watched"))
    try:
        up(command)
        yield command
    finally:
        command("down", "--purge", program="sparkbundle")


def up(cluster: Sentiment) -> None:
    size = ("--workers", "1", "--cores-per-worker", "1", "--memory-per-worker", "1g")
    cluster("up", *size, program="sparkbundle")


@pytest.fixture
def place(cluster: Sentiment, tmp_path: Path, monkeypatch) -> Place:
    monkeypatch.setenv("SPARKBUNDLE_STATE", cluster.env["SPARKBUNDLE_STATE"])
    found = find_place("default")
    properties = tmp_path / "client.properties"
    properties.write_text(found.properties.read_text() + IMPATIENT)
    return Place(found.master, found.label, properties)


def master_process(cluster: Sentiment) -> int:
    home = str(cluster.home)
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if "org.apache.spark.deploy.master.Master" in line and home in " ".join(line):
            return process.pid
    raise AssertionError("no master")


@contextmanager
def all_cores_held(cluster: Sentiment) -> Iterator[None]:
    command = [sys.executable, "-c", HOLD]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=cluster.env, text=True, **pipes) as holder:
        try:
            assert holder.stdout.readline() == "held\n"
            yield
        finally:
            holder.stdin.close()


class StandIn:
    """Of Spark's context what a watch asks of it."""

    def __init__(self, *, executors: int, **settings: str) -> None:
        self.executors = executors
        self.jobs: list[int] = []
        self.cancelled = 0
        self._settings = {f"spark.{key.replace('_', '.')}": settings[key] for key in settings}
        self._jsc = SimpleNamespace(sc=lambda: self)

    def getConf(self) -> dict[str, str]:  # noqa: N802
        return self._settings

    def getExecutorMemoryStatus(self) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(size=lambda: self.executors + 1)

    def statusTracker(self) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(getActiveJobsIds=lambda: self.jobs)

    def cancelAllJobs(self) -> None:  # noqa: N802
        self.cancelled += 1


@pytest.fixture
def master() -> Iterator[socket.socket]:
    """What answers as a master does; closed, it does not."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@contextmanager
def watching(context: StandIn, master: socket.socket) -> Iterator[Watch]:
    watch = Watch(f"spark://127.0.0.1:{master.getsockname()[1]}", SHORT)
    watch.start(context)
    try:
        yield watch
    finally:
        watch.end()


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline, "in time it did not happen"
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("executors", "cores", "sentence"),
    [
        (0, "0", "waiting for cores: 0 so far; another application may hold the others"),
        (0, "3", "waiting for cores: 0 of 3 so far; another application may hold the others"),
        (1, "3", "waiting for cores: 1 of 3 so far; another application may hold the others"),
        (3, "3", None),
    ],
)
def test_that_cores_are_missing_is_said_once_and_never_the_end(
    master: socket.socket, capfd, executors: int, cores: str, sentence: str | None
):
    context = StandIn(executors=executors, cores_max=cores, executor_cores="1")
    with watching(context, master) as watch:
        time.sleep(SHORT.say + 0.4)  # for some ten looks
        assert watch.gone is None
    assert capfd.readouterr().err.splitlines() == ([sentence] if sentence else [])


def test_a_master_that_is_silent_with_all_executors_lost_is_the_end_after_some_patience(
    master: socket.socket, capfd
):
    context = StandIn(executors=1)
    with watching(context, master) as watch:
        port = master.getsockname()[1]
        master.close()
        time.sleep(2 * SHORT.silent)
        assert watch.gone is None, "there is an executor"
        context.executors = 0
        until(lambda: "the master does not answer" in capfd.readouterr().err)
        with socket.create_server(("127.0.0.1", port)):
            context.executors = 1
            time.sleep(2 * SHORT.silent)
        assert watch.gone is None, "it has come back"
        context.executors = 0
        until(lambda: watch.gone)
    assert "no executor is left and its master has not answered for" in watch.gone
    assert context.cancelled
    said = capfd.readouterr().err
    assert "all executors are lost: waiting for the cluster" in said


def test_a_master_that_answers_and_gives_no_executor_any_more_is_the_end_later(
    master: socket.socket,
):
    context = StandIn(executors=1)
    with watching(context, master) as watch:
        time.sleep(0.1)
        context.executors = 0
        until(lambda: watch.gone)
    assert "it has given no executor for" in watch.gone
    assert context.cancelled


def test_an_application_on_demand_lacks_nothing_without_a_job(master: socket.socket, capfd):
    context = StandIn(executors=0, dynamicAllocation_enabled="true")
    with watching(context, master) as watch:
        time.sleep(SHORT.say + 0.2)
        assert capfd.readouterr().err == ""
        context.jobs = [1]
        heard: list[str] = []
        until(lambda: heard.append(capfd.readouterr().err) or "".join(heard))
        time.sleep(SHORT.idle + 0.2)
        heard.append(capfd.readouterr().err)
        assert "".join(heard).count("another application holds them all") == 1
        assert watch.gone is None
        master.close()
        until(lambda: watch.gone)
    assert "its master has not answered for" in watch.gone
    assert context.cancelled


@pytest.mark.long
def test_that_cores_are_missing_is_said_once(cluster: Sentiment, place: Place, capfd):
    with (
        all_cores_held(cluster),
        spark_session(place, name="waiter", watch=Watch(place.master, HURRY)),
    ):
        time.sleep(2)
    said = [line for line in capfd.readouterr().err.splitlines() if "waiting for cores" in line]
    assert said == ["waiting for cores: 0 of 1 so far; another application may hold the others"]


def test_a_master_that_restarts_ends_nothing_and_a_cluster_that_ends_ends_the_job(
    cluster: Sentiment, place: Place, capfd
):
    def down() -> None:
        time.sleep(1)  # the job has begun
        cluster("down", program="sparkbundle")

    ending = threading.Thread(target=down)
    with (
        pytest.raises(SentimentError, match="the cluster went away: no executor is left") as caught,
        spark_session(place, name="left-alone", watch=Watch(place.master, HURRY)) as spark,
    ):
        numbers = spark.sparkContext.parallelize(range(8), 8)
        assert numbers.sum() == 28  # there is an executor
        os.kill(master_process(cluster), signal.SIGKILL)
        slow = numbers.map(lambda n: (time.sleep(0.5), n)[1])
        assert slow.sum() == 28  # for longer than the patience, without a master
        up(cluster)
        assert numbers.sum() == 28
        ending.start()
        numbers.map(lambda n: time.sleep(600)).count()
    assert ending.ident is not None, "not before it was ended"
    ending.join()
    assert caught.value.code == UNREACHABLE
    assert "sparkbundle status" in caught.value.todo
    assert "all executors are lost: waiting for the cluster" in capfd.readouterr().err


def test_what_a_properties_file_says_of_java_and_spark_stays(monkeypatch, tmp_path: Path):
    """A cluster's own spark-defaults.conf, and a local master beside it."""
    (tmp_path / "spark-defaults.conf").write_text(
        "spark.master spark://10.0.3.11:7077\n"
        "spark.cores.max 64\n"
        "spark.locality.wait 2s\n"
        "spark.authenticate true\n"
        "spark.authenticate.secret 0123456789abcdef\n"
        "spark.driver.host 10.0.3.11\n"
        'spark.driver.extraJavaOptions -Dgiven="by me" -XX:+UseG1GC\n'
    )
    monkeypatch.setenv("SPARK_CONF_DIR", str(tmp_path))
    monkeypatch.setenv("SPARKBUNDLE_STATE", str(tmp_path / "state"))
    with spark_session(find_place("local[1]"), name="settings") as spark:
        context = spark.sparkContext
        assert (context.master, session.cores(spark)) == ("local[1]", 1)
        assert context.getConf().get("spark.locality.wait") == "2s"
        assert spark.range(3).rdd.map(lambda row: row["id"]).sum() == 3
        beans = context._jvm.java.lang.management.ManagementFactory
        java = list(beans.getRuntimeMXBean().getInputArguments())
    assert "-Dgiven=by me" in java
    assert "-XX:+UseSerialGC" not in java
    assert any(word.startswith("-XX:SharedArchiveFile=") for word in java)
