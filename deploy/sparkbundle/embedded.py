"""The embedded cluster: one master and its workers as processes of the calling user.

`start` converges: whatever it finds (nothing, half a cluster, a whole one), it
ends with a cluster whose workers have all proved that they work.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

from sparkbundle import ports, state
from sparkbundle.daemons import find_processes, stop_processes
from sparkbundle.errors import InterruptedRunError, PreflightError, SparkbundleError
from sparkbundle.files import remove
from sparkbundle.launch import (
    MASTER,
    Launcher,
    PortTakenError,
    ask_record,
    read_secrets,
    start_missing,
    wait_ready,
    worker_names,
    write_settings,
)
from sparkbundle.master import Application
from sparkbundle.notebook import server_of
from sparkbundle.output import Step, Steps
from sparkbundle.plan import ClusterOptions, prepare, with_fresh_ports
from sparkbundle.smoke import ROLE as SMOKE
from sparkbundle.smoke import SmokeJob
from sparkbundle.state import ClusterPlace, ClusterRecord

START_STEPS = 4
STOP_STEPS = 1
_PORT_TRIES = 3


@dataclass(frozen=True, kw_only=True)
class DaemonStatus:
    """A daemon now: `state` is ALIVE when it works, else it says what is wrong.

    `gpus`: the addresses of those that a worker offers, in the master's book.
    """

    name: str
    pid: int | None
    state: str
    cores: int = 0
    memory_mib: int = 0
    gpus: tuple[str, ...] = ()
    log: str = ""


@dataclass(frozen=True, kw_only=True)
class ClusterStatus:
    """A cluster now. `up`: it was started and not stopped. `healthy`: every daemon works.

    `notebook` is the address of its notebook server, without the token; empty where none runs.
    """

    name: str
    up: bool
    healthy: bool
    record: ClusterRecord | None = None
    daemons: tuple[DaemonStatus, ...] = ()
    applications: tuple[Application, ...] = ()
    notebook: str = ""
    leftovers: int = 0

    def as_json(self) -> dict[str, Any]:
        """The status as a JSON object; it holds no secret."""
        record = {} if self.record is None else self.record.as_json()
        return {
            **record,
            "name": self.name,
            "up": self.up,
            "healthy": self.healthy,
            "daemons": [asdict(daemon) for daemon in self.daemons],
            "applications": [asdict(application) for application in self.applications],
            "notebook": self.notebook or None,
            "leftovers": self.leftovers,
        }


@dataclass(frozen=True, kw_only=True)
class StopReport:
    """What `stop` did: processes ended, applications that lost their cluster."""

    name: str
    was_up: bool
    processes: int
    applications: tuple[Application, ...]
    purged: bool


@dataclass(frozen=True, kw_only=True)
class Started:
    """A cluster that is up: its record, and the daemons that had to be started for it."""

    record: ClusterRecord
    started: tuple[str, ...]


def start(options: ClusterOptions, *, steps: Steps) -> Started:
    """Bring the cluster up, in START_STEPS steps, and prove that it works.

    Raises:
        PreflightError: this machine or these options do not do; nothing was changed.
        SparkbundleError: a daemon or the smoke job failed, or another run holds the lock.
        InterruptedRunError: Ctrl-C or a signal; the message says what state is left.
    """
    place = state.cluster_place(options.name)
    with state.lock(place, "up"), _nothing_half_started(place):
        with steps.step("check this machine") as step:
            launcher = prepare(place, options, step)
        with steps.step("start the daemons") as step:
            launcher, started = _launch(launcher, step)
        smoke = _smoke_job(launcher) if place.unverified.exists() else None
        try:
            with steps.step("wait until every worker is registered") as step:
                applications = wait_ready(launcher, timeout=options.timeout).applications
                step.done(f"{launcher.record.workers} workers ALIVE")
            with steps.step("run the smoke job on every worker") as step:
                _prove(smoke, launcher, applications=applications, options=options, step=step)
        finally:
            if smoke is not None:
                smoke.end()
        state.write_record(place, launcher.record)
    return Started(record=launcher.record, started=tuple(started))


@contextmanager
def _nothing_half_started(place: ClusterPlace) -> Iterator[None]:
    """End a new cluster whose start fails; leave one that was up before as it is."""
    try:
        yield
    except BaseException as error:
        left = f"what still runs of cluster {place.name!r} was left as it is"
        todo = f"sparkbundle status --name {place.name}; the same command again mends it"
        if not place.record.exists():
            stop_processes(place)
            state.forget(place)
            left = "nothing was left running"
            todo = "run the same command again"
        if isinstance(error, KeyboardInterrupt):
            raise InterruptedRunError(f"interrupted; {left}", todo=todo) from None
        if isinstance(error, SparkbundleError) and not isinstance(error, PreflightError):
            error.what = f"{error.what} ({left})"
        raise


def _launch(launcher: Launcher, step: Step) -> tuple[Launcher, list[str]]:
    """Start what is missing. When a chosen port was snatched away, choose again."""
    for _ in range(_PORT_TRIES):
        write_settings(launcher)
        try:
            started = start_missing(launcher)
        except PortTakenError:
            taken = [
                f"{port} by {ports.holder(port)}"
                for port in (launcher.record.master_port, launcher.record.ui_port)
                if not ports.is_free(port)
            ]
            step.say(f"port taken meanwhile: {', '.join(taken) or 'and free again'}")
            stop_processes(launcher.place)
            state.forget(launcher.place)
            state.make_place(launcher.place)
            launcher = replace(launcher, record=with_fresh_ports(launcher.record))
            continue
        step.done(launcher.record.master if started else "nothing to do: all of them run")
        return launcher, started
    raise PreflightError(
        f"ports were taken by other processes {_PORT_TRIES} times in a row",
        where=ports.HOST,
        todo="give free ports: --master-port, --ui-port",
    )


def _smoke_job(launcher: Launcher) -> SmokeJob:
    return SmokeJob(
        launcher.place,
        properties=launcher.place.conf / "client.properties",
        environment=launcher.daemon_environment(SMOKE),
        java_options=launcher.spark.java_options,
        tasks=launcher.record.workers * launcher.record.cores,
    )


def _prove(
    smoke: SmokeJob | None,
    launcher: Launcher,
    *,
    applications: tuple[Application, ...],
    options: ClusterOptions,
    step: Step,
) -> None:
    if smoke is None:
        step.done("nothing to do: it has passed since the last start of a daemon")
        return
    # One that fits no worker holds no cores, now or later.
    if holding := [one for one in applications if not one.note]:
        # It needs all cores at once, and an application of the user may keep them for hours.
        names = ", ".join(f"{one.name} ({one.id})" for one in holding)
        step.done(f"put off until the next up: the cores are in use by {names}")
        return
    smoke.run(expected=set(launcher.workers), timeout=options.timeout)
    remove(launcher.place.unverified)
    step.done(f"exact result from {launcher.record.workers} workers")


def status(name: str) -> ClusterStatus:
    """What there is of a cluster now; starts and changes nothing.

    Raises:
        SparkbundleError: the cluster's record is damaged.
    """
    place = state.cluster_place(name)
    record = state.read_record(place)
    processes = find_processes(place)
    if record is None:
        return ClusterStatus(name=name, up=False, healthy=False, leftovers=len(processes))
    daemons = {found.role: found.process.pid for found in processes if found.leader}
    secrets = read_secrets(place)
    answer = ask_record(record, secrets) if secrets else None
    master = "ALIVE" if answer and answer.status == "ALIVE" else "does not answer"
    if answer and answer.status != "ALIVE":
        master = answer.status
    rows = [DaemonStatus(name=MASTER, pid=daemons.get(MASTER), state=master)]
    for worker in worker_names(record):
        entry = answer.worker(worker) if answer else None
        rows.append(
            DaemonStatus(
                name=worker,
                pid=daemons.get(worker),
                state=entry.state if entry else "not in the master's list",
                cores=entry.cores if entry else 0,
                memory_mib=entry.memory_mib if entry else 0,
                gpus=entry.gpus if entry else (),
            )
        )
    rows = [
        replace(
            row,
            state=row.state if row.pid is not None else "not running",
            log=str(place.log(row.name)),
        )
        for row in rows
    ]
    return ClusterStatus(
        name=name,
        up=True,
        healthy=all(row.state == "ALIVE" for row in rows),
        record=record,
        daemons=tuple(rows),
        applications=answer.applications if answer else (),
        notebook=_notebook(place),
    )


def _notebook(place: ClusterPlace) -> str:
    server = server_of(place)
    return server.address if server is not None and server.answers() else ""


def stop(name: str, *, purge: bool = False, steps: Steps) -> StopReport:
    """End every process of a cluster and forget its secrets, in STOP_STEPS steps.

    It needs no record: the processes are known by their environment. Logs stay,
    unless `purge` removes the cluster's whole directory. A driver is the user's
    own process and goes on, but its application has lost the cluster.

    Raises:
        SparkbundleError: another run holds the lock, or a process does not end.
    """
    place = state.cluster_place(name)
    with steps.step(f"stop cluster {name!r}") as step:
        if not place.directory.exists() and not find_processes(place):
            step.done("nothing to do")
            return StopReport(name=name, was_up=False, processes=0, applications=(), purged=False)
        with state.lock(place, "down"):
            applications = _running_applications(place)
            was_up = place.record.exists()
            # First the record: no application may find a cluster that is going.
            remove(place.record)
            ended = stop_processes(place)
            state.forget(place)
            if purge:
                remove(place.directory)
        step.done(f"{ended} processes ended" if ended or was_up else "nothing to do")
    return StopReport(
        name=name, was_up=was_up, processes=ended, applications=applications, purged=purge
    )


def _running_applications(place: ClusterPlace) -> tuple[Application, ...]:
    try:
        record, secrets = state.read_record(place), read_secrets(place)
    except SparkbundleError:
        return ()  # a damaged record must not keep a cluster from being stopped
    answer = ask_record(record, secrets, timeout=2.0) if record and secrets else None
    return answer.applications if answer else ()
