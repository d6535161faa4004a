"""Starting the daemons of an embedded cluster, and waiting until they are what was declared."""

import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from sparkbundle import ports
from sparkbundle.daemons import (
    clean_environment,
    find_daemons,
    last_lines,
    start_daemon,
    stop_processes,
)
from sparkbundle.errors import SparkbundleError, Trouble
from sparkbundle.files import write_private
from sparkbundle.machine_gpus import dealt, resources_file, resources_text
from sparkbundle.master import MasterState, ask_master
from sparkbundle.runtime import Spark
from sparkbundle.spark_settings import (
    ClusterSettings,
    Secrets,
    WorkerSize,
    client_settings,
    gpu_settings,
    master_settings,
    render_properties,
    worker_settings,
)
from sparkbundle.state import ClusterPlace, ClusterRecord, vectors_directory

MASTER = "master"
_MASTER_CLASS = "org.apache.spark.deploy.master.Master"
_WORKER_CLASS = "org.apache.spark.deploy.worker.Worker"
_POLL_SECONDS = 0.2
# So long a daemon may take to appear in the master's list before it counts as stuck.
_STUCK_SECONDS = 60.0
_GONE_AFTER_SCANS = 3


class PortTakenError(Exception):
    """The master could not listen on its ports."""


@dataclass(frozen=True)
class Launcher:
    """A cluster and what it takes to start its daemons."""

    place: ClusterPlace
    record: ClusterRecord
    secrets: Secrets
    spark: Spark

    @property
    def workers(self) -> list[str]:
        """The names of the workers."""
        return worker_names(self.record)

    def gpus(self, worker: str) -> tuple[str, ...]:
        """The addresses of the GPUs that a worker shall offer."""
        record = self.record
        return dealt(record.gpus, workers=record.workers)[self.workers.index(worker)]

    def environment(self, role: str) -> dict[str, str]:
        """The environment of a process of this cluster."""
        return clean_environment(self.place, role=role, spark=self.spark)

    def daemon_environment(self, role: str) -> dict[str, str]:
        """That of one whose settings all come by --properties-file: a daemon, the smoke job.

        Its conf folder, which Java has first in the class path of the executors too, is one that
        is not there: an archive of classes fits no class path with a folder that has files.
        """
        return {**self.environment(role), "SPARK_CONF_DIR": str(self.place.directory / "no-conf")}

    def ask(self, *, timeout: float = 5.0) -> MasterState | None:
        """What this cluster's master says; None while it does not answer."""
        return ask_record(self.record, self.secrets, timeout=timeout)


def worker_names(record: ClusterRecord) -> list[str]:
    """The names of a cluster's workers: worker-1, worker-2 …."""
    return [f"worker-{number}" for number in range(1, record.workers + 1)]


def ask_record(
    record: ClusterRecord, secrets: Secrets, *, timeout: float = 5.0
) -> MasterState | None:
    """What the master of a record says, if it is this very master that answers."""
    answer = ask_master(record.ui, ui_key=secrets.ui_key, timeout=timeout)
    return answer if answer is not None and answer.url == record.master else None


def write_settings(launcher: Launcher) -> None:
    """Write the secrets and the properties files of master, workers and applications."""
    record, conf = launcher.record, launcher.place.conf
    cluster = ClusterSettings(
        host=ports.HOST,
        master_port=record.master_port,
        driver_host=ports.HOST,
        workers=(WorkerSize(cores=record.cores, memory_mib=record.memory_mib),) * record.workers,
        worker_hosts=(ports.HOST,),
        vectors=str(vectors_directory()),
        recovery_directory=str(launcher.place.recovery),
        python=sys.executable,
        secrets=launcher.secrets,
    )
    write_private(conf / "secrets.json", json.dumps(asdict(launcher.secrets)))
    write_private(conf / "master.properties", render_properties(master_settings(cluster)))
    for worker in launcher.workers:
        gpus, resources = launcher.gpus(worker), resources_file(launcher.place, worker)
        if gpus:
            write_private(resources, resources_text(gpus))
        settings = worker_settings(cluster, worker=worker)
        settings |= gpu_settings(gpus, resources=str(resources))
        write_private(conf / f"{worker}.properties", render_properties(settings))
    write_private(conf / "client.properties", render_properties(client_settings(cluster)))


def secrets_file(place: ClusterPlace) -> Path:
    """Where the secrets of a cluster are."""
    return place.conf / "secrets.json"


def read_secrets(place: ClusterPlace) -> Secrets | None:
    """The secrets of a cluster, or None when there are none (any more)."""
    try:
        value = json.loads(secrets_file(place).read_text(encoding="utf-8"))
        return Secrets(rpc=value["rpc"], ui_key=value["ui_key"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def start_missing(launcher: Launcher) -> list[str]:
    """Start the daemons that do not run, or run but are stuck; return their names.

    The workers are started as soon as the master listens: one that came earlier
    would wait up to 15 s before it tries again.

    Raises:
        PortTakenError: the master's port is taken.
        SparkbundleError: the master ended at once for another reason.
    """
    running = find_daemons(launcher.place)
    for stuck in _stuck(launcher, running):
        stop_processes(launcher.place, role=stuck)
        del running[stuck]
    missing = [role for role in (MASTER, *launcher.workers) if role not in running]
    if missing:
        launcher.place.unverified.touch()
    for role in missing:
        stop_processes(launcher.place, role=role)  # what a killed daemon left
        if role == MASTER:
            _start_master(launcher)
        else:
            _start_worker(launcher, role)
    if MASTER in missing:
        _await_answer(launcher)
    return missing


def _stuck(launcher: Launcher, running: dict[str, psutil.Process]) -> list[str]:
    """Daemons whose process lives, but which do not do their work and are not just starting."""
    old = {
        role for role, one in running.items() if time.time() - one.create_time() > _STUCK_SECONDS
    }
    answer = launcher.ask() if MASTER in running else None
    if answer is None:
        return [MASTER] if MASTER in old else []
    found = {worker.name for worker in answer.workers if worker.state == "ALIVE"}
    return sorted(old - found - {MASTER})


def _start_master(launcher: Launcher) -> None:
    record = launcher.record
    if not (ports.is_free(record.master_port) and ports.is_free(record.ui_port)):
        raise PortTakenError
    process = start_daemon(
        launcher.place,
        role=MASTER,
        environment=launcher.daemon_environment(MASTER),
        command=[
            launcher.spark.spark_class, _MASTER_CLASS,
            "--host", ports.HOST, "--port", str(record.master_port),
            "--webui-port", str(record.ui_port),
            "--properties-file", launcher.place.conf / "master.properties",
        ],
    )  # fmt: skip
    while not ports.answers(record.master_port):
        if process.poll() is not None:
            _raise_ended(launcher)
        time.sleep(_POLL_SECONDS / 4)


def _await_answer(launcher: Launcher) -> None:
    """Wait for the master's web page; it takes its port later than that for the workers."""
    scans = 0
    while launcher.ask() is None:
        scans = 0 if MASTER in find_daemons(launcher.place) else scans + 1
        if scans >= _GONE_AFTER_SCANS:
            _raise_ended(launcher)
        time.sleep(_POLL_SECONDS)


def _start_worker(launcher: Launcher, worker: str) -> None:
    record = launcher.record
    start_daemon(
        launcher.place,
        role=worker,
        environment=launcher.daemon_environment(worker),
        command=[
            launcher.spark.spark_class, _WORKER_CLASS, record.master,
            # The kernel gives free ports; the master learns them from the worker.
            "--host", ports.HOST, "--port", "0", "--webui-port", "0",
            "--cores", str(record.cores), "--memory", record.memory,
            "--work-dir", launcher.place.work / worker,
            "--properties-file", launcher.place.conf / f"{worker}.properties",
        ],
    )  # fmt: skip


def _raise_ended(launcher: Launcher) -> None:
    log = launcher.place.log(MASTER)
    if any("BindException" in line for line in last_lines(log, count=200)):
        raise PortTakenError
    raise _not_ready(launcher, None, "the master ended")


def wait_ready(launcher: Launcher, *, timeout: float) -> MasterState:
    """Wait until this master answers and every worker is ALIVE in it as declared.

    Raises:
        SparkbundleError: a daemon ended, or `timeout` seconds have passed; it
            has one row for each daemon.
    """
    deadline = time.monotonic() + timeout
    missed: dict[str, int] = {}
    while True:
        answer = launcher.ask()
        if (
            answer is not None
            and answer.status == "ALIVE"
            and not any(_fault(launcher, answer, worker) for worker in launcher.workers)
        ):
            return answer
        running = find_daemons(launcher.place)
        for role in (MASTER, *launcher.workers):
            # One scan may miss a process in the instant of its exec.
            missed[role] = 0 if role in running else missed.get(role, 0) + 1
        gone = [role for role, scans in missed.items() if scans >= _GONE_AFTER_SCANS]
        if gone:
            raise _not_ready(launcher, answer, f"{', '.join(gone)} ended")
        if time.monotonic() > deadline:
            raise _not_ready(launcher, answer, f"the cluster is not complete after {timeout:.0f} s")
        time.sleep(_POLL_SECONDS)


def _fault(launcher: Launcher, answer: MasterState, worker: str) -> str:
    """What is not as declared about a worker in the master's list; empty when all is well."""
    record = launcher.record
    size = WorkerSize(cores=record.cores, memory_mib=record.memory_mib)
    return answer.fault(worker, size=size, gpus=launcher.gpus(worker))


def _not_ready(launcher: Launcher, answer: MasterState | None, what: str) -> SparkbundleError:
    return SparkbundleError(
        what,
        where=f"cluster {launcher.place.name!r}",
        todo="see the reason of each daemon above, then run the same command again",
        troubles=tuple(_trouble(launcher, answer, role) for role in (MASTER, *launcher.workers)),
    )


def _trouble(launcher: Launcher, answer: MasterState | None, role: str) -> Trouble:
    log = launcher.place.log(role)
    if role not in find_daemons(launcher.place):
        started = log.exists()
        phase, reason = "start", _reason_in(log) if started else "was not started yet"
    elif role == MASTER:
        phase = "answer"
        reason = "ready" if answer else f"does not answer at {launcher.record.ui}"
    elif answer is None:
        phase, reason = "register", "the master does not answer"
    else:
        phase, reason = "register", _fault(launcher, answer, role) or "ready"
    well = reason in {"ready", "was not started yet"}
    return Trouble(
        daemon=role,
        phase=phase,
        reason=reason,
        log=str(log),
        last_lines=() if well else last_lines(log, count=4),
        todo="" if well else f"read {log}",
    )


def _reason_in(log: Path) -> str:
    """Why a daemon ended: the last line of its log that names an exception or an error."""
    lines = last_lines(log, count=200)
    named = [line for line in lines if "Exception" in line or "ERROR" in line or "Error:" in line]
    return f"ended: {(named or list(lines) or ['its log is empty'])[-1].strip()}"
