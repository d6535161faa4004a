"""What each host shall be: from the inventory, and from what the hosts told about themselves.

The roles are given the finished text of every settings file: one place, `spark_settings`, decides
what Spark's daemons are told, here and on the embedded cluster.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sparkbundle import host_gpus, host_notebook, torch_build
from sparkbundle.errors import PreflightError
from sparkbundle.executor_size import misfit
from sparkbundle.inventory import Host, Inventory
from sparkbundle.preflight import MINIMUM_MEMORY_MIB, RESERVED_MIB, Facts, open_ports
from sparkbundle.resources import roles
from sparkbundle.spark_settings import (
    HISTORY_PORT,
    ClusterSettings,
    Secrets,
    WorkerSize,
    client_settings,
    history_settings,
    master_settings,
    render_properties,
    worker_settings,
)
from sparkbundle.tile import Where
from sparkbundle.wheelhouse import Wheelhouse

MASTER_PORT = 7077
PAGE_PORT = 8080
PYTHON = "/opt/sparkbundle/current/bin/python"
SECRETS = "/etc/sparkbundle/secrets.json"
RECOVERY = "/var/lib/sparkbundle/recovery"
EVENTS = "/var/lib/sparkbundle/events"
VECTORS = "/var/lib/sparkbundle/vectors"
_JOB_AGENT = Path(__file__).with_name("job_agent")
_TEXTS = (".yml", ".j2", ".py", ".sh", ".conf", ".service")
_ROUND_MIB = 256
_MASTER_MIB = 1024


@dataclass(frozen=True, kw_only=True)
class HostPlan:
    """One host as it shall be.

    `gpus`: the addresses its worker shall offer; `torch_build`: the build of torch it gets.
    """

    name: str
    address: str
    size: WorkerSize | None
    gpus: tuple[str, ...]
    torch_build: str
    variables: Mapping[str, Any]

    def desired(self, common: str) -> str:
        """The digest of all that makes this host what it shall be."""
        wanted = {key: value for key, value in self.variables.items() if key not in _OBSERVED}
        return _digest(common, json.dumps(wanted, sort_keys=True, default=str))


# What a host has already: not what it shall be.
_OBSERVED = ("release", "java_installed")


@dataclass(frozen=True, kw_only=True)
class ClusterPlan:
    """The cluster as it shall be; `wheelhouses` has one for each build of torch that is needed."""

    inventory: Inventory
    secrets: Secrets
    wheelhouses: Mapping[str, Wheelhouse]
    hosts: Mapping[str, HostPlan]

    @property
    def master(self) -> HostPlan:
        """The master's host."""
        return self.hosts[self.inventory.master.name]

    @property
    def workers(self) -> dict[str, HostPlan]:
        """The workers' hosts, by name."""
        return {host.name: self.hosts[host.name] for host in self.inventory.workers}

    @property
    def cluster(self) -> dict[str, str]:
        """What every host knows of its cluster: cluster.json, but for the host's own address."""
        return _cluster(self.inventory.name, self.master.address)

    def without(self, names: Iterable[str]) -> "ClusterPlan":
        """The plan of what is there although these hosts have failed."""
        hosts = {name: host for name, host in self.hosts.items() if name not in set(names)}
        kept = tuple(host for host in self.inventory.hosts if host.name in hosts)
        return replace(self, hosts=hosts, inventory=replace(self.inventory, hosts=kept))

    def desired(self, name: str) -> str:
        """The digest of what a host shall be: roles, packages, settings, secrets, peers."""
        common = _digest(
            _roles_digest(),
            self.wheelhouse(name).digest,
            self.alias(name),
            json.dumps(asdict(self.secrets)),
            json.dumps(self.peers),
        )
        return self.hosts[name].desired(common)

    def wheelhouse(self, name: str) -> Wheelhouse:
        """What a host installs."""
        return self.wheelhouses[self.hosts[name].torch_build]

    def alias(self, name: str) -> str:
        """The master's release where a host has another, else nothing.

        A job looks for Python on every host in the release that its driver runs from.
        """
        masters = self.wheelhouse(self.master.name).digest
        return "" if self.wheelhouse(name).digest == masters else masters

    @property
    def peers(self) -> list[str]:
        """The addresses of all hosts."""
        return sorted(host.address for host in self.hosts.values())

    def variables(self) -> dict[str, Any]:
        """What the playbooks are given; it holds secrets."""
        return {
            "sparkbundle_hosts": {
                name: {**host.variables, "runtime": self._runtime(name)}
                for name, host in self.hosts.items()
            },
            "sparkbundle_secrets": json.dumps(asdict(self.secrets)) + "\n",
            "sparkbundle_peers": self.peers,
        }

    def _runtime(self, name: str) -> dict[str, Any]:
        house = self.wheelhouse(name)
        return {
            "digest": house.digest,
            "alias": self.alias(name),
            "requirements": str(house.requirements),
            "bundles": [
                {"name": one.name, "digest": one.digest, "path": str(one.path)}
                for one in house.bundles
            ],
        }


def worker_size(host: Host, facts: Facts) -> WorkerSize:
    """What a host's worker offers: as the inventory says, else all cores and half of the memory.

    The other half is for the Python processes of the tasks, which hold models and vectors.
    """
    available = facts["memory_mib"] - RESERVED_MIB - (_MASTER_MIB if host.is_master else 0)
    half = max(MINIMUM_MEMORY_MIB, available // 2 // _ROUND_MIB * _ROUND_MIB)
    return WorkerSize(cores=host.cores or int(facts["cores"]), memory_mib=host.memory_mib or half)


def make_plan(
    inventory: Inventory,
    facts: Mapping[str, Facts],
    *,
    secrets: Secrets,
    wheelhouses: Mapping[str, Wheelhouse],
) -> ClusterPlan:
    """Decide everything that was left open; `wheelhouses` has each build of torch needed.

    Raises:
        PreflightError: the user's Spark settings, or those of a kernel of theirs, ask for
            executors that no worker can hold.
    """
    sizes = {host.name: worker_size(host, facts[host.name]) for host in inventory.workers}
    _require_fit(inventory, sizes.values())
    master = str(facts[inventory.master.name]["address"])
    settings = ClusterSettings(
        host=master,
        master_port=MASTER_PORT,
        driver_host=master,
        workers=tuple(sizes.values()),
        worker_hosts=tuple(str(facts[host.name]["address"]) for host in inventory.workers),
        vectors=VECTORS,
        recovery_directory=RECOVERY,
        python=PYTHON,
        secrets=secrets,
        events=EVENTS,
        driver_ui=True,
    )
    hosts = {}
    for host in inventory.hosts:
        told = facts[host.name]
        build = torch_build.build_of(host, told["gpus"])
        house = wheelhouses[build]
        hosts[host.name] = HostPlan(
            name=host.name,
            address=str(told["address"]),
            size=sizes.get(host.name),
            gpus=host_gpus.offered(host, told["gpus"]),
            torch_build=build,
            variables=_variables(inventory, host, told, settings, sizes.get(host.name), house),
        )
    return ClusterPlan(inventory=inventory, secrets=secrets, wheelhouses=wheelhouses, hosts=hosts)


def _require_fit(inventory: Inventory, workers: Collection[WorkerSize]) -> None:
    user = inventory.spark_settings
    asked = [("spark_settings", "", user)] + [
        ("notebook_profiles", f"{title!r}: ", {**user, **given})
        for title, given in inventory.notebook_profiles.items()
    ]
    for key, whose, settings in asked:
        if why := misfit(settings, workers):
            raise PreflightError(
                whose + why,
                where=f"{inventory.path}: {key}",
                todo="ask for less there, or give a worker more with spark_memory and spark_cores",
            )


def _variables(
    inventory: Inventory,
    host: Host,
    facts: Facts,
    settings: ClusterSettings,
    size: WorkerSize | None,
    wheelhouse: Wheelhouse,
) -> dict[str, Any]:
    """The variables of one host, as deploy/playbooks/up.yml hands them to the roles."""
    user = dict(inventory.spark_settings)
    address = str(facts["address"])
    variables: dict[str, Any] = {
        "address": address,
        "cluster": {
            **_cluster(inventory.name, settings.host),
            "address": address,
            "host": host.name,
            "labels": list(host.labels),
        },
        "ssh_port": int(facts["ssh_port"]),
        "open_ports": sorted(open_ports(inventory, host)),
        "firewall": inventory.firewall,
        "java_installed": facts.java_will_do,
        "java_deb": str(inventory.java_deb or ""),
        "release": str(facts["release"]),
        "has_gpus": bool(facts.gpus),
        "client_settings": "",
        "notebook": {},
    }
    if host.is_master:
        texts = {
            "master": render_properties(master_settings(settings) | _daemon(user, "master")),
            "history": render_properties(history_settings(settings) | _daemon(user, "history")),
        }
        variables |= _with_configs(texts, facts, wheelhouse)
    if host.is_master or host.is_notebook:
        # The history server reads the event logs of drivers on its own host.
        there = settings if host.is_master else replace(settings, driver_host=address, events=None)
        variables["client_settings"] = render_properties(client_settings(there) | user)
    if host.is_notebook:
        variables["notebook"] = host_notebook.variables(
            inventory,
            _pages(settings, own=address),
            cores=max(one.cores for one in settings.workers),
            python=PYTHON,
            release=wheelhouse.digest,
        )
    if size is not None:
        text = render_properties(
            worker_settings(settings, worker=host.name) | _daemon(user, "worker")
        )
        variables |= {"cores": size.cores, "memory_mib": size.memory_mib}
        variables["gpus"] = host_gpus.written(host.gpus)
        variables |= _with_configs(
            {"worker": text},
            facts,
            wheelhouse,
            str((size, host_gpus.offered(host, facts["gpus"]), settings.host)),
        )
    return variables


def _pages(settings: ClusterSettings, *, own: str) -> Where:
    """Where the pages of the cluster are, for the notebook server at `own`."""
    return Where(
        master=f"{settings.host}:{PAGE_PORT}",
        fixed=[f"{settings.host}:{HISTORY_PORT}"],
        addresses=sorted({settings.host, own, *settings.worker_hosts}),
        own=own,
        secrets=SECRETS,
    )


def _daemon(user: Mapping[str, str], daemon: str) -> dict[str, str]:
    """The user's settings that are a daemon's own."""
    prefixes = {
        "master": ("spark.deploy.", "spark.master."),
        "worker": ("spark.worker.",),
        "history": ("spark.history.",),
    }
    return {key: value for key, value in user.items() if key.startswith(prefixes[daemon])}


def _with_configs(
    texts: Mapping[str, str], facts: Facts, wheelhouse: Wheelhouse, more: str = ""
) -> dict[str, str]:
    """The settings of daemons, and digests of all that they are started with."""
    sandbox = (roles() / "base" / "templates" / "sandbox.conf.j2").read_text(encoding="utf-8")
    variables = {}
    for daemon, text in texts.items():
        unit = next((roles() / f"spark_{daemon}" / "templates").iterdir()).read_text("utf-8")
        started_with = (text, unit, sandbox, wheelhouse.digest, str(facts["address"]), more)
        variables[f"{daemon}_settings"] = text
        variables[f"{daemon}_config"] = _digest(*started_with)
    return variables


def _cluster(name: str, master: str) -> dict[str, str]:
    return {
        "name": name,
        "master": f"spark://{master}:{MASTER_PORT}",
        "ui": f"http://{master}:{PAGE_PORT}",
        "history": f"http://{master}:{HISTORY_PORT}",
    }


def _roles_digest() -> str:
    """The digest of all that the roles are made of."""
    files = [*roles().rglob("*"), *_JOB_AGENT.glob("*.py")]
    texts = [path.read_text("utf-8") for path in sorted(files) if path.suffix in _TEXTS]
    return _digest(*texts, host_notebook.programs_text())


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:32]
