"""The operating system's processes of an embedded cluster: start, find, stop.

No process is ever known by its number, which after a crash or a reboot may be
somebody else's. Each daemon is started with two variables in its environment,
which all its children inherit: the cluster's directory, and the daemon's name.
Who has them is ours, and nobody else is.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from sparkbundle.errors import SparkbundleError
from sparkbundle.files import cannot_write
from sparkbundle.ports import HOST
from sparkbundle.runtime import FAST_JVM, Spark
from sparkbundle.state import ClusterPlace

CLUSTER_VARIABLE = "SPARKBUNDLE_CLUSTER_ID"
ROLE_VARIABLE = "SPARKBUNDLE_ROLE"
HEAP = "256m"
# Settings of the caller that would change what a daemon or its executors do.
_FOREIGN = ("SPARK", "_SPARK", "PYSPARK", "_PYSPARK", "HADOOP_", "YARN_", "PYTHON")
_FOREIGN_NAMES = {"JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "CLASSPATH"}
_TERM_SECONDS = 15.0
_KILL_SECONDS = 20.0


@dataclass(frozen=True)
class OurProcess:
    """A process of a cluster: `leader` is true for the daemon itself, false for its children."""

    process: psutil.Process
    role: str
    leader: bool


def clean_environment(place: ClusterPlace, *, role: str, spark: Spark) -> dict[str, str]:
    """The environment of a process of the cluster: the caller's without its Spark settings."""
    environment = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(_FOREIGN) and key not in _FOREIGN_NAMES
    }
    return environment | {
        CLUSTER_VARIABLE: str(place.directory),
        ROLE_VARIABLE: role,
        # An application that asks for "python3" gets the Python that has the packages.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', os.defpath)}",
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_HOME": str(spark.home),
        # Without it Spark would read the user's own conf/spark-env.sh and log settings.
        "SPARK_CONF_DIR": str(place.conf),
        "SPARK_LOCAL_IP": HOST,
        # Else the pages name the machine, and their links lead to another address.
        "SPARK_PUBLIC_DNS": HOST,
        "SPARK_LOCAL_DIRS": str(place.local),
        "SPARK_DAEMON_MEMORY": HEAP,
        "SPARK_DAEMON_JAVA_OPTS": spark.java_options,
        "SPARK_LAUNCHER_OPTS": FAST_JVM,
    }


def start_daemon(
    place: ClusterPlace,
    *,
    role: str,
    command: Iterable[str | Path],
    environment: Mapping[str, str],
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, with an empty log; the log before is kept as .1.

    Raises:
        PreflightError: its log cannot be written.
        SparkbundleError: the program cannot be started.
    """
    log = place.log(role)
    try:
        if log.exists():
            log.replace(log.with_suffix(".log.1"))
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as error:
        raise cannot_write(log, error) from error
    with os.fdopen(handle, "ab") as output:
        try:
            return subprocess.Popen(
                [str(word) for word in command],
                env=dict(environment),
                cwd=place.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise SparkbundleError(f"{role} cannot be started: {error}") from error


def find_processes(place: ClusterPlace) -> list[OurProcess]:
    """All processes of a cluster that live, found by what is in their environment."""
    wanted = str(place.directory)
    namespace = _namespace("self")
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.uids().real != os.getuid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            environment = process.environ()
            # A container may hold the same path, and its processes are seen from outside.
            if environment.get(CLUSTER_VARIABLE) != wanted or _namespace(process.pid) != namespace:
                continue
            leader = os.getsid(process.pid) == process.pid
            found.append(OurProcess(process, environment.get(ROLE_VARIABLE, ""), leader))
    return found


def find_daemons(place: ClusterPlace) -> dict[str, psutil.Process]:
    """The daemons of a cluster that live, by name ("master", "worker-1" …)."""
    return {found.role: found.process for found in find_processes(place) if found.leader}


def _namespace(pid: int | str) -> str:
    try:
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    except OSError:
        return ""  # no /proc on this system


def stop_processes(place: ClusterPlace, *, role: str | None = None) -> int:
    """End all processes of a cluster, or of one of its daemons; return how many there were.

    They are asked to end; those that have not after 15 s are killed. What they
    started meanwhile is found and ended, too.

    Raises:
        SparkbundleError: a process outlives even that, with its number.
    """
    ended: set[int] = set()
    asked: set[int] = set()
    begun = time.monotonic()
    while ours := _surely(place, role):
        waited = time.monotonic() - begun
        if waited > _TERM_SECONDS + _KILL_SECONDS:
            raise SparkbundleError(
                "these processes do not end: " + ", ".join(str(one.process.pid) for one in ours),
                where=f"cluster {place.name!r}",
                todo="run the same command again; a process in state D waits for a disk",
            )
        for one in ours:
            with suppress(psutil.NoSuchProcess):
                if waited > _TERM_SECONDS:
                    one.process.kill()
                elif one.process.pid not in asked:
                    asked.add(one.process.pid)
                    one.process.send_signal(signal.SIGTERM)
                    one.process.send_signal(signal.SIGCONT)  # a stopped one hears it, too
        ended |= {one.process.pid for one in ours}
        psutil.wait_procs([one.process for one in ours], timeout=1.0)
    return len(ended)


def _surely(place: ClusterPlace, role: str | None) -> list[OurProcess]:
    """The processes with this role. A process has no environment in the instant of its exec."""
    for attempt in range(2):
        if attempt:
            time.sleep(0.05)
        ours = [one for one in find_processes(place) if role is None or one.role == role]
        if ours:
            return ours
    return []


def last_lines(log: Path, *, count: int = 6) -> tuple[str, ...]:
    """The last lines of a log that are not empty."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 16384))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ()
    return tuple(line for line in lines if line.strip())[-count:]
