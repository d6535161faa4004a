"""What a cluster shall be: from the options, what was there before, and what this machine has."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import psutil

from sparkbundle import host_gpus, machine_gpus, ports, state
from sparkbundle.daemons import find_daemons, find_processes, stop_processes
from sparkbundle.errors import PreflightError, SparkbundleError
from sparkbundle.files import remove
from sparkbundle.host_gpus import Wanted
from sparkbundle.java import find_java
from sparkbundle.launch import MASTER, Launcher, read_secrets
from sparkbundle.machine import check_disk, plan_shape, this_machine
from sparkbundle.machine_gpus import Choice
from sparkbundle.output import Step
from sparkbundle.runtime import find_spark
from sparkbundle.spark_settings import new_secrets
from sparkbundle.state import DEFAULT_NAME, ClusterPlace, ClusterRecord


@dataclass(frozen=True, kw_only=True)
class ClusterOptions:
    """What the user asks for; None stands for "as it is, else choose".

    `memory_mib` and `min_free_disk_mib` are in MiB, `timeout` is the longest
    wait in seconds for the workers, and again for the smoke job.
    """

    name: str = DEFAULT_NAME
    workers: int | None = None
    cores: int | None = None
    memory_mib: int | None = None
    gpus: Wanted | None = None
    master_port: int | None = None
    ui_port: int | None = None
    min_free_disk_mib: int = 1024
    timeout: float = 180.0


def prepare(place: ClusterPlace, options: ClusterOptions, step: Step) -> Launcher:
    """Check Java, Spark, memory, disk, GPUs, ports; decide what to keep of what is there.

    What cannot go on is ended and forgotten; the cluster's directories are made.

    Raises:
        PreflightError: this machine or these options do not do; nothing was changed.
    """
    java, spark = find_java(), find_spark()
    record, secrets = _read_old(place, step), read_secrets(place)
    if record is None or secrets is None or not _can_go_on(place, options, record, step):
        check_disk(place.directory, needed_mib=options.min_free_disk_mib)
        gpus = machine_gpus.choose(_gpus_asked(options, old=record), place=place)
        if gpus.held:
            step.say(gpus.held)
        record, secrets = _new_record(place, options, gpus=gpus, old=record), new_secrets()
        # Nothing of an earlier life that was not ended properly may get in the way.
        stop_processes(place)
        state.forget(place)
        remove(place.work)
    state.make_place(place)
    step.done(
        f"Java {java.version}, {record.workers} workers × {record.cores} cores, {record.memory}"
        + (f", GPUs {','.join(record.gpus)}" if record.gpus else "")
    )
    return Launcher(place, record, secrets, spark)


def _read_old(place: ClusterPlace, step: Step) -> ClusterRecord | None:
    try:
        return state.read_record(place)
    except SparkbundleError as error:
        step.say(f"{error.what}: starting anew")
        return None


def _can_go_on(
    place: ClusterPlace, options: ClusterOptions, record: ClusterRecord, step: Step
) -> bool:
    """Whether the cluster of this record lives, or may live on after missing daemons are started.

    Raises:
        PreflightError: it lives, and the options ask for something else.
    """
    daemons = find_daemons(place)
    differences = _differences(place, options, record)
    if daemons and differences:
        raise PreflightError(
            f"cluster {place.name!r} is up with other settings: {'; '.join(differences)}",
            todo=f"leave these options out, or: sparkbundle down --name {place.name}, then up",
        )
    if not daemons and (differences or _before_this_boot(record)):
        return False
    if MASTER in daemons:
        return True
    for port in (record.master_port, record.ui_port):
        if not ports.is_free(port):
            step.say(f"port {port} is now held by {ports.holder(port)}: all is started anew")
            return False
    return True


def _differences(place: ClusterPlace, options: ClusterOptions, record: ClusterRecord) -> list[str]:
    """What the options ask for and the record does not have; options left out ask for nothing."""
    asked_and_is: dict[str, tuple[int | str | None, int | str]] = {
        "--workers": (options.workers, record.workers),
        "--cores-per-worker": (options.cores, record.cores),
        "--memory-per-worker": (options.memory_mib, record.memory_mib),
        "--gpus": (_gpus_wanted(place, options), _listed(record.gpus)),
        "--master-port": (options.master_port, record.master_port),
        "--ui-port": (options.ui_port, record.ui_port),
    }
    return [
        f"{option} is {has}, asked for {asked}"
        for option, (asked, has) in asked_and_is.items()
        if asked is not None and asked != has
    ]


def _gpus_wanted(place: ClusterPlace, options: ClusterOptions) -> str | None:
    """The GPUs that the options come to now; None where they ask for nothing, or nobody knows."""
    if options.gpus is None:
        return None
    choice = machine_gpus.choose(options.gpus, place=place)
    return None if choice.fault else _listed(choice.offered)


def _listed(gpus: Sequence[str]) -> str:
    return ",".join(gpus) or "none"


def _gpus_asked(options: ClusterOptions, *, old: ClusterRecord | None) -> Wanted:
    if options.gpus is not None:
        return options.gpus
    return machine_gpus.parse(old.gpus_asked) if old else "auto"


def _before_this_boot(record: ClusterRecord) -> bool:
    return datetime.fromisoformat(record.started).timestamp() < psutil.boot_time()


def _new_record(
    place: ClusterPlace, options: ClusterOptions, *, gpus: Choice, old: ClusterRecord | None
) -> ClusterRecord:
    """A record from the options, else from the cluster that was here before, else chosen."""
    shape = plan_shape(
        this_machine(),
        workers=options.workers or (old.workers if old else None),
        cores=options.cores or (old.cores if old else None),
        memory_mib=options.memory_mib or (old.memory_mib if old else None),
    )
    given = {"master": options.master_port, "ui": options.ui_port}
    if old is not None:
        was = {"master": old.master_port, "ui": old.ui_port}
        given = {key: given[key] or (was[key] if key in old.fixed_ports else None) for key in was}
    ours = {process.process.pid for process in find_processes(place)}
    for key, port in given.items():
        if port is not None:
            ports.require_free(port, option=f"--{key}-port", but_held_by=ours)
    record = ClusterRecord(
        name=place.name,
        master="",
        properties=str(place.conf / "client.properties"),
        workers=shape.workers,
        cores=shape.cores,
        memory=f"{shape.memory_mib}m",
        ui="",
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        master_port=given["master"] or 0,
        ui_port=given["ui"] or 0,
        fixed_ports=tuple(key for key, port in given.items() if port is not None),
        gpus=gpus.offered,
        gpus_asked=host_gpus.written(gpus.asked),
        gpus_fault=gpus.fault,
    )
    return with_fresh_ports(record)


def with_fresh_ports(record: ClusterRecord) -> ClusterRecord:
    """The record with fresh ports in the place of those that are not fixed."""
    fixed = record.fixed_ports
    used = frozenset({record.master_port, record.ui_port})
    master = record.master_port if "master" in fixed else ports.choose_free(but=used)
    ui = record.ui_port if "ui" in fixed else ports.choose_free(but=used | {master})
    return replace(
        record,
        master_port=master,
        ui_port=ui,
        master=f"spark://{ports.HOST}:{master}",
        ui=f"http://{ports.HOST}:{ui}",
    )
