"""What a cluster of hosts is now: each host asked by itself, and the master about all of them.

The two views are shown side by side, because they differ when it matters: a host that has just
died is still ALIVE in the master's list for a minute.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sparkbundle import host_gpus, preflight, torch_build
from sparkbundle.errors import SparkbundleError
from sparkbundle.host_gpus import Gpu
from sparkbundle.host_plan import HostPlan, worker_size
from sparkbundle.host_record import drift
from sparkbundle.host_verify import ask_master_through, fault
from sparkbundle.hosts import Hosts
from sparkbundle.inventory import Host
from sparkbundle.master import Application, MasterState
from sparkbundle.preflight import Facts
from sparkbundle.remote import read_secrets
from sparkbundle.word_tables import WordTable, parse_tables

NOT_DEPLOYED = "not deployed: `up` and `add` deploy it; or take it out of the inventory"


@dataclass(frozen=True, kw_only=True)
class HostStatus:
    """One host: what it is for, what is wrong with it, what its worker offers.

    `gpus`: the addresses that its worker offers; `gpus_used`: those that executors hold;
    `gpu_devices`: all GPUs that the host has.
    """

    name: str
    daemons: tuple[str, ...]
    faults: tuple[str, ...]
    address: str = ""
    cores: int = 0
    memory_mib: int = 0
    gpus: tuple[str, ...] = ()
    gpus_used: tuple[str, ...] = ()
    gpu_devices: tuple[Gpu, ...] = ()
    labels: tuple[str, ...] = ()
    word_tables: tuple[WordTable, ...] = ()


@dataclass(frozen=True, kw_only=True)
class HostsStatus:
    """A cluster of hosts now. `up`: it has a master with settings. `healthy`: nothing is wrong."""

    name: str
    up: bool
    master: str
    hosts: tuple[HostStatus, ...]
    applications: tuple[Application, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether every host works."""
        return self.up and not any(host.faults for host in self.hosts)

    def as_json(self) -> dict[str, Any]:
        """The status as a JSON object; it holds no secret."""
        return {**asdict(self), "healthy": self.healthy}


def status(hosts: Hosts) -> HostsStatus:
    """Ask all hosts and the master; changes nothing.

    Raises:
        SparkbundleError: not a single host is reached.
    """
    inventory = hosts.inventory
    told = hosts.each(lambda host: preflight.ask(hosts, host))
    errors = [answer for answer in told.values() if isinstance(answer, SparkbundleError)]
    if len(errors) == len(told):
        raise errors[0]
    master = told[inventory.master.name]
    known = {} if isinstance(master, SparkbundleError) else master["cluster"] or {}
    up = known.get("name") == inventory.name
    answer = _ask_master(hosts, master) if up and isinstance(master, Facts) else None
    return HostsStatus(
        name=inventory.name,
        up=up,
        master=known["master"] if up else "",
        hosts=tuple(_host(host, told[host.name], answer, up=up) for host in inventory.hosts),
        applications=answer.applications if answer else (),
    )


def ask_master_of(hosts: Hosts) -> MasterState | None:
    """What the master of these hosts tells; None where there is none, or it does not answer.

    Raises:
        SparkbundleError: its host is not reached.
    """
    facts = preflight.ask(hosts, hosts.inventory.master)
    return _ask_master(hosts, facts) if facts["cluster"] else None


def _ask_master(hosts: Hosts, facts: Facts) -> MasterState | None:
    secrets = read_secrets(hosts)
    if secrets is None:
        return None
    cluster: Mapping[str, str] = facts["cluster"]
    answer = ask_master_through(hosts, cluster["address"], ui_key=secrets.ui_key)
    return answer if answer is not None and answer.url == cluster["master"] else None


def _host(
    host: Host, told: Facts | SparkbundleError, answer: MasterState | None, *, up: bool
) -> HostStatus:
    daemons = tuple(
        name
        for name, here in (
            ("master", host.is_master),
            ("worker", host.is_worker),
            ("notebook", host.is_notebook),
        )
        if here
    )
    if isinstance(told, SparkbundleError):
        return HostStatus(name=host.name, daemons=daemons, faults=(told.what,), labels=host.labels)
    entry = answer.worker(host.name) if answer else None
    return HostStatus(
        name=host.name,
        daemons=daemons,
        address=str(told["address"]),
        faults=tuple(_faults(host, told, answer)) if up else ("not deployed",),
        cores=entry.cores if entry else 0,
        memory_mib=entry.memory_mib if entry else 0,
        gpus=entry.gpus if entry else (),
        gpus_used=entry.gpus_used if entry else (),
        gpu_devices=host_gpus.devices(told["gpus"]),
        labels=host.labels,
        word_tables=parse_tables(told["word_tables"]),
    )


def _faults(host: Host, facts: Facts, answer: MasterState | None) -> list[str]:
    if not facts["cluster"]:
        return [NOT_DEPLOYED]
    found = []
    units = ["spark-master", "spark-history"] if host.is_master else []
    units += ["spark-worker"] if host.is_worker else []
    units += ["spark-notebook"] if host.is_notebook else []
    for unit in units:
        state = facts["units"].get(unit, {}).get("active", "not installed")
        if state != "active":
            found.append(f"{unit} is {state}")
    if host.is_master and (answer is None or answer.status != "ALIVE"):
        found.append("the master does not answer" if answer is None else answer.status)
    if host.is_worker:
        plan = HostPlan(
            name=host.name,
            address=str(facts["address"]),
            size=worker_size(host, facts),
            gpus=host_gpus.offered(host, facts["gpus"]),
            torch_build=torch_build.build_of(host, facts["gpus"]),
            variables={},
        )
        found += [text for text in (fault(answer, plan),) if text]
    found += [what for what, _ in host_gpus.wrong(host, facts["gpus"])]
    found += [what for what, _ in torch_build.wrong(host, facts["gpus"])]
    found += [one.fault for one in parse_tables(facts["word_tables"]) if one.fault]
    found += drift(facts)
    return found
