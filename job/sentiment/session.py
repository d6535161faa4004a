"""Where the job runs: the cluster that is named, else the one that is up, else this process."""

import json
import logging
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from py4j.java_gateway import JavaGateway
from py4j.protocol import Py4JError
from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkException
from pyspark.find_spark_home import _find_spark_home
from pyspark.java_gateway import launch_gateway
from pyspark.resource import ResourceProfile
from pyspark.sql import SparkSession

from sentiment import jvm
from sentiment.environment import restored
from sentiment.errors import FAILED, INVALID_INPUT, UNREACHABLE, SentimentError, first_line
from sentiment.state import state_directory
from sentiment.watch import Patience, Watch, answers

MASTER_VARIABLE = "SPARKBUNDLE_MASTER"
JOB_SETTINGS = "job.properties"
"""Beside the settings of the cluster: what `sparkbundle submit` was told for this job."""
CLUSTER_VARIABLE = "SPARKBUNDLE_CLUSTER"
_SUBMIT_ARGUMENTS = "PYSPARK_SUBMIT_ARGS"
# Between a key and its value, in a properties file.
_SETTING = re.compile(r"\s*[=:\s]\s*")
# What py4j logs of an error that is raised too: of a call, of its connection, of a callback.
_NO_NEWS = ("while sending command", "while shutting down connection", "the Python Proxy")
_NOT_OUR_JVM = b"This session's JVM was running before; its messages are where it was started.\n"
# A SentimentError raised in a task, as it stands in the traceback that Spark hands on.
_TASK_ERROR = re.compile(
    r"sentiment\.errors\.(?P<kind>\w+): (?P<what>[^\n]*)(?:\n  do:  (?P<todo>[^\n]*))?"
)


@dataclass(frozen=True)
class Place:
    """A place where Spark jobs run.

    `properties` is the file with all that a driver needs to reach the cluster,
    its secret included; None where Spark's defaults do, those of spark-defaults.conf
    in $SPARK_CONF_DIR included.
    """

    master: str
    label: str
    properties: Path | None = None


def find_place(master: str | None = None) -> Place:
    """The place that `master`, the environment or a running embedded cluster names.

    Order: `master` (a Spark master URL, `local[N]`, or the name of an embedded
    cluster), $SPARKBUNDLE_MASTER, $SPARKBUNDLE_CLUSTER, the embedded cluster
    "default" if it answers, `local[*]`.

    Raises:
        SentimentError: the cluster that was named does not answer.
    """
    named = master or os.environ.get(MASTER_VARIABLE) or os.environ.get(CLUSTER_VARIABLE)
    if named and _is_local(named):
        return Place(master=named, label=f"this process ({named})")
    if named and "://" in named:
        return _embedded_at(named) or _answering(Place(master=named, label=named))
    if named:
        return _answering(_embedded(named))
    try:
        default = _embedded("default")
    except SentimentError:
        default = None
    if default is not None and answers(default.master):
        return default
    return this_process("no cluster is up")


def this_process(why: str) -> Place:
    """Every core of this machine, in this process."""
    return Place(master="local[*]", label=f"this process (local[*]; {why})")


def _embedded(name: str) -> Place:
    record = state_directory() / "clusters" / name / "cluster.json"
    try:
        cluster = json.loads(record.read_text())
        return Place(
            master=cluster["master"],
            label=f"cluster {name} ({cluster['master']})",
            properties=Path(cluster["properties"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SentimentError(
            f"there is no cluster {name!r} on this machine",
            where=str(record),
            todo=f"start it: sparkbundle up --name {name}",
            code=UNREACHABLE,
        ) from error


def _embedded_at(master: str) -> Place | None:
    """The embedded cluster with this master URL: its secret is in its properties."""
    for record in sorted((state_directory() / "clusters").glob("*/cluster.json")):
        try:
            place = _embedded(record.parent.name)
        except SentimentError:
            continue
        if place.master == master:
            return _answering(place)
    return None


def _answering(place: Place) -> Place:
    if place.master.startswith("spark://") and not answers(place.master):
        raise SentimentError(
            "the master does not answer",
            where=place.label,
            todo="look at it: sparkbundle status; start it: sparkbundle up",
            code=UNREACHABLE,
        )
    return place


@contextmanager
def spark_session(
    place: Place,
    *,
    name: str,
    watch: Watch | None = None,
    settings: Mapping[str, str] | None = None,
) -> Iterator[SparkSession]:
    """A Spark session at `place`, stopped when the block ends.

    The JVM's own messages go to a log file, not to the terminal; when the
    session cannot be had, the error names that file and shows its last lines.
    Where $PYSPARK_GATEWAY_PORT names a running JVM, as in a program that spark-submit
    has started, the session lives in that one and leaves it running.
    A watch, with other patience where one is given, says what the application waits for.
    `settings` are stronger than those of the place, and those of the job (`sparkbundle submit`)
    than these.

    Raises:
        SentimentError: Spark does not start, the cluster takes no application, a job fails,
            or the cluster goes away and does not come back.
    """
    for logger in (logging.getLogger(), logging.getLogger("py4j.clientserver")):  # py4j's two
        logger.addFilter(_is_news)
    warnings.filterwarnings("ignore", message="Unable to cleanly shutdown Spark JVM")
    log_name = _new_log(name)
    try:
        context = _started(place, name, log_name, {**(settings or {}), **_job_settings()})
    except Exception as error:
        tail = "\n".join(Path(log_name).read_text(errors="replace").splitlines()[-15:])
        raise SentimentError(
            f"Spark did not start: {first_line(error)}\n{tail}",
            where=place.label,
            todo=f"read {log_name}; look at the cluster: sparkbundle status",
            code=UNREACHABLE,
        ) from error
    watch = watch or Watch(place.master, Patience())
    watch.start(context)
    try:
        yield SparkSession(context)
    except (PySparkException, Py4JError) as error:
        if interruption(error):
            raise KeyboardInterrupt from error
        # Said while the JVM still lives: the message is there.
        raise _explained(error, log_name, place, watch.gone) from error
    finally:
        watch.end()
        _stop(context)


def _started(place: Place, name: str, log_name: str, settings: Mapping[str, str]) -> SparkContext:
    """A JVM, whose messages go to the log, or the one that pyspark is pointed to; in it a Spark."""
    gateway = None
    try:
        with open(log_name, "wb") as log, _submit_arguments(place), _interrupts_held():  # noqa: PTH123
            gateway = launch_gateway(  # type: ignore[no-untyped-call]
                popen_kwargs={"stdout": subprocess.DEVNULL, "stderr": log}
            )
            if gateway.proc is None:
                log.write(_NOT_OUR_JVM)
        conf = _configuration(place, name, gateway)
        for key, value in settings.items():
            conf.set(key, value)
        context = SparkContext(conf=conf, gateway=gateway)
    except BaseException:
        if gateway is not None and gateway.proc is not None:
            # It may be in the middle of its start, and would wait for ever to end by itself.
            gateway.proc.kill()
            gateway.proc.wait()
        _forget_gateway()
        raise
    context.pythonExec = _worker_python(context)
    return context


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C counts when the block has ended: in it, nobody has hold of the JVM that is started."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda which, _: came.append(which))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if callable(signal.getsignal(number))
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            raise KeyboardInterrupt


def _stop(context: SparkContext) -> None:
    gateway = context._gateway
    assert gateway is not None
    context.stop()
    if gateway.proc is not None:
        # Of a JVM that goes on the connections do so, too: one that the JVM calls Python by is
        # being read, and closing it waits for the end of that.
        gateway.shutdown()
        if gateway.proc.stdin is not None:
            gateway.proc.stdin.close()
        gateway.proc.wait(timeout=60)
    _forget_gateway()


def _forget_gateway() -> None:
    """Let the next context have a JVM of its own: pyspark would go on with the one that ended."""
    SparkContext._gateway = None
    SparkContext._jvm = None


def interruption(error: BaseException | None) -> KeyboardInterrupt | None:
    """The Ctrl-C that is behind it: what py4j was doing then fails with an error of its own."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error


def _is_news(record: logging.LogRecord) -> bool:
    """Not what py4j logs, traceback and all, of an error that it raises too."""
    return not any(one in str(record.msg) for one in _NO_NEWS)


def _worker_python(context: SparkContext) -> str:
    """The Python that runs tasks: the one the cluster names, else the driver's own."""
    named = os.environ.get("PYSPARK_PYTHON")
    return named or context.getConf().get("spark.pyspark.python", sys.executable) or sys.executable


def _explained(error: Exception, log_name: str, place: Place, gone: str | None) -> SentimentError:
    """What a task said, where it said it for users; else Spark's first line and the log."""
    if gone:
        return SentimentError(
            f"the cluster went away: {gone}",
            where=place.label,
            todo="look at it: sparkbundle status; when it is up, run the command again",
            code=UNREACHABLE,
        )
    text = str(error)
    if match := _TASK_ERROR.search(text):
        code = INVALID_INPUT if match["kind"] == "InvalidInputError" else FAILED
        return SentimentError(match["what"], todo=match["todo"] or "", code=code)
    return SentimentError(
        f"the job failed on the cluster: {first_line(error)}", todo=f"read {log_name}"
    )


def _configuration(place: Place, name: str, gateway: JavaGateway) -> SparkConf:
    """The settings of the properties file, which come first, and those of the job."""
    conf = SparkConf(_jvm=gateway.jvm).setAppName(name)
    if gateway.proc is None and place.properties is not None:
        # That JVM was started without the file.
        for key, value in _parsed(_text(place.properties)).items():
            if key.startswith("spark."):
                conf.set(key, value)
    if place.properties is None:
        conf.setMaster(place.master)
        if _is_local(place.master):
            conf.set("spark.ui.enabled", "false")
            conf.set("spark.driver.bindAddress", "127.0.0.1")
            conf.set("spark.driver.host", "127.0.0.1")
    elif java := jvm.executor_options(settings=_settings_text(place)):
        # The cluster is on this machine: its executors have the driver's Java and classes.
        conf.set(jvm.EXECUTOR_DEFAULT_OPTIONS, shlex.join(java))
    # Spark takes this for a shell at a terminal; but its messages go to a log.
    conf.set("spark.ui.showConsoleProgress", "false")
    # A task computes for seconds on some megabytes: fetching them costs less than an idle worker.
    conf.setIfMissing("spark.locality.wait", "0s")
    # A training step takes and frees megabytes: in large pages that costs 7 % less time.
    conf.setIfMissing("spark.executorEnv.GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
    conf.setIfMissing("spark.sql.execution.arrow.maxRecordsPerBatch", "2000")
    return conf


@contextmanager
def _submit_arguments(place: Place) -> Iterator[None]:
    """Give the properties by file: on a command line everybody could read the secret."""
    arguments = "pyspark-shell"
    if java := jvm.options(local=_is_local(place.master), settings=_settings_text(place)):
        # Spark puts them before the user's own, spark.driver.extraJavaOptions.
        option = shlex.quote(f"{jvm.DEFAULT_OPTIONS}={shlex.join(java)}")
        arguments = f"--conf {option} {arguments}"
    if place.properties is not None:
        arguments = f"--properties-file {shlex.quote(str(place.properties))} {arguments}"
    with restored(_SUBMIT_ARGUMENTS):
        os.environ[_SUBMIT_ARGUMENTS] = arguments
        yield


def _settings_text(place: Place) -> str:
    """The properties file that Spark will read."""
    directory = os.environ.get("SPARK_CONF_DIR") or Path(_find_spark_home()) / "conf"
    return _text(place.properties or Path(directory) / "spark-defaults.conf")


def _job_settings() -> dict[str, str]:
    """What this job was given by `sparkbundle submit`; nothing for one that was not submitted."""
    directory = os.environ.get("SPARK_CONF_DIR")
    return _parsed(_text(Path(directory) / JOB_SETTINGS)) if directory else {}


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _parsed(text: str) -> dict[str, str]:
    """The settings of a properties file; of several values the first."""
    settings: dict[str, str] = {}
    for line in text.splitlines():
        key, *rest = _SETTING.split(line.strip(), 1)
        if rest:
            settings.setdefault(key, rest[0].strip())
    return settings


def setting(place: Place, key: str) -> str | None:
    """What the place's own settings say, before there is a session."""
    return _parsed(_settings_text(place)).get(key)


def cores(spark: SparkSession) -> int:
    """How many tasks the application runs at a time; Spark itself says at least two."""
    allowed = spark.conf.get("spark.cores.max", None)
    if allowed and not _is_local(str(spark.sparkContext.master)):
        return int(allowed)
    return spark.sparkContext.defaultParallelism


def slots(context: SparkContext, profile: ResourceProfile | None = None) -> int:
    """How many tasks could run at once now: what Spark itself asks before a barrier stage.

    `profile`: what each of them asks for; None: a core, or as many as spark.task.cpus says.
    """
    spark = context._jsc.sc()
    profiles = spark.resourceProfileManager()
    if profile is None:
        return int(spark.maxNumConcurrentTasks(profiles.defaultResourceProfile()))
    asked = profile._java_resource_profile
    profiles.addResourceProfile(asked)  # else it is not known before a stage has had it
    return int(spark.maxNumConcurrentTasks(asked))


def _is_local(master: str) -> bool:
    return master.startswith("local")


def _new_log(name: str, *, keep: int = 20) -> str:
    """An empty log file of a session's own; of the others the latest are kept."""
    directory = state_directory() / "logs"
    directory.mkdir(parents=True, exist_ok=True)
    logs = sorted(directory.glob("*.log"), key=lambda path: path.stat().st_mtime)
    for log in logs[:-keep]:
        log.unlink(missing_ok=True)
    handle, log_name = tempfile.mkstemp(prefix=f"{name}-", suffix=".log", dir=directory)
    os.close(handle)
    return log_name
