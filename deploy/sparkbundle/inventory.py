"""The hosts of a cluster, as an Ansible YAML inventory describes them.

`load` reads an inventory file with what stands beside it (group_vars, host_vars) and
returns one checked, immutable picture of it. What a key means is in docs/inventory.md.
"""

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sparkbundle import inventory_ansible, inventory_file
from sparkbundle import inventory_keys as keys
from sparkbundle.errors import PreflightError
from sparkbundle.inventory_file import Problem, Scan

MASTER = "master"
WORKERS = "workers"
NOTEBOOK = "notebook"
_SSH_PORT = 22


@dataclass(frozen=True, kw_only=True)
class Host:
    """One host: how to reach it, what it is for, what it gives to Spark.

    `name` is its inventory name, `ssh_host` and `ssh_port` where SSH reaches it,
    `address` the one at which the other hosts reach it (None: the address that
    SSH arrives at, found by the check). `cores` and `memory_mib` are what its worker
    offers (None: chosen from what the host has), `gpus` "auto", "none", a number or
    the addresses of those that it offers. `torch_build` is "auto", "cpu" or "cuda".
    """

    name: str
    groups: frozenset[str]
    ssh_host: str
    ssh_port: int | None = None
    ssh_user: str | None = None
    ssh_key: str | None = None
    address: str | None = None
    cores: int | None = None
    memory_mib: int | None = None
    gpus: str | int | tuple[str, ...] = "auto"
    labels: tuple[str, ...] = ()
    torch_build: str = "auto"

    @property
    def is_master(self) -> bool:
        """Whether the master runs here."""
        return MASTER in self.groups

    @property
    def is_worker(self) -> bool:
        """Whether a worker runs here."""
        return WORKERS in self.groups

    @property
    def is_notebook(self) -> bool:
        """Whether the notebook server runs here."""
        return NOTEBOOK in self.groups


@dataclass(frozen=True, kw_only=True)
class Publication:
    """At which name the notebook server is published, and the PEM files of its certificate.

    Nothing is known of the files: most commands need none. The check of hosts looks at them.
    """

    name: str
    certificate: Path
    key: Path


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """A checked inventory. `name` is the cluster's (`cluster_name`, else the file's stem).

    `spark_settings` are the user's own, on top of ours. `open_ports` stay reachable
    for everybody. `java_deb` is a local package to install instead of the system's.
    `notebook_profiles` are kernels of the user's own: titles with Spark settings; `publication`
    is None where the notebook server is reached through a tunnel only.
    """

    path: Path
    name: str
    hosts: tuple[Host, ...]
    spark_settings: Mapping[str, str] = field(default_factory=dict)
    firewall: bool = True
    open_ports: tuple[int, ...] = ()
    java_deb: Path | None = None
    notebook_profiles: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    publication: Publication | None = None

    @property
    def master(self) -> Host:
        """The host of the master."""
        return next(host for host in self.hosts if host.is_master)

    @property
    def workers(self) -> tuple[Host, ...]:
        """The hosts of the workers, in the inventory's order."""
        return tuple(host for host in self.hosts if host.is_worker)

    @property
    def notebook(self) -> Host | None:
        """The host of the notebook server, None where there is none."""
        return next((host for host in self.hosts if host.is_notebook), None)

    def host(self, name: str) -> Host:
        """The host of this name.

        Raises:
            KeyError: there is none.
        """
        return {host.name: host for host in self.hosts}[name]


class InventoryError(PreflightError):
    """Everything that is wrong with an inventory, sorted by file and line. Exit code 3."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        """Show one problem as any other error, several as one line each."""
        self.problems = tuple(sorted(set(problems), key=lambda problem: problem.order))
        if len(self.problems) == 1:
            only = self.problems[0]
            super().__init__(only.what, where=only.where, todo=only.todo)
        else:
            lines = "".join(f"\n  {problem.line}" for problem in self.problems)
            super().__init__(f"{len(self.problems)} problems in the inventory{lines}")


def load(path: Path) -> Inventory:
    """Read and check an inventory with the group_vars and host_vars beside it.

    Raises:
        InventoryError: with everything that is wrong with it.
        PreflightError: Ansible cannot be run.
    """
    scan = inventory_file.scan(path)
    if not scan.readable:
        raise InventoryError(scan.problems)
    listing = inventory_ansible.listing_of(path)
    if isinstance(listing, Problem):
        # With problems of our own there is no need for Ansible's words.
        raise InventoryError(scan.problems or [listing])
    found, problems = resolve(listing, scan=scan)
    if found is None or problems:
        raise InventoryError(problems)
    return found


def resolve(
    listing: Mapping[str, Any], *, scan: Scan
) -> tuple[Inventory | None, tuple[Problem, ...]]:
    """The inventory from what Ansible lists and the files say, or all problems. Runs nothing."""
    groups = _groups(listing)
    # Hosts of one range keep the order in which Ansible lists them.
    names = sorted(groups, key=scan.position)
    hostvars = listing.get("_meta", {}).get("hostvars", {})
    problems = list(scan.problems)
    values = {
        name: dict(_values(name, hostvars.get(name, {}), scan=scan, problems=problems))
        for name in names
    }
    hosts = tuple(_host(name, groups=groups[name], values=values[name]) for name in names)
    problems += _wrong_groups(hosts, scan)
    problems += _wrong_hosts(hosts, scan)
    problems += _without_effect(hosts, scan)
    common = _common(values, scan=scan, problems=problems)
    if "cluster_name" not in common:
        try:
            common["cluster_name"] = keys.parse("cluster_name", scan.path.stem)
        except ValueError as error:
            what = f"as the name of the cluster, {error}"
            problems.append(Problem(where=str(scan.path), what=what, todo="set cluster_name"))
    folder = scan.path.parent
    java_deb = folder / common["java_deb"] if "java_deb" in common else None
    if java_deb is not None and (why := _no_file(java_deb)):
        problems.append(Problem(where=_line("java_deb", scan), what=f"java_deb: {why} {java_deb}"))
    problems += _wrong_notebook(hosts, common, scan)
    if problems:
        return None, tuple(problems)
    publication = None
    if "notebook_name" in common:
        publication = Publication(
            name=common["notebook_name"],
            certificate=folder / common["notebook_certificate"],
            key=folder / common["notebook_key"],
        )
    return (
        Inventory(
            path=scan.path,
            name=common["cluster_name"],
            hosts=hosts,
            spark_settings=common.get("spark_settings", {}),
            firewall=common.get("firewall", True),
            open_ports=common.get("firewall_open_ports", ()),
            java_deb=java_deb,
            notebook_profiles=common.get("notebook_profiles", {}),
            publication=publication,
        ),
        (),
    )


def _groups(listing: Mapping[str, Any]) -> dict[str, frozenset[str]]:
    """The groups of each host, those above its own included, but not `all`."""
    groups: dict[str, set[str]] = {}

    def members(group: str, above: frozenset[str]) -> None:
        content = listing.get(group, {})
        for host in content.get("hosts", ()):
            groups.setdefault(host, set()).update(above)
        for child in content.get("children", ()):
            if child not in above:
                members(child, above | {child})

    members("all", frozenset())
    return {host: frozenset(found) for host, found in groups.items()}


def _values(
    name: str, variables: Mapping[str, Any], *, scan: Scan, problems: list[Problem]
) -> Iterator[tuple[str, Any]]:
    """The values for a host, with a problem for what only an encrypted file can have brought."""
    for key, given in variables.items():
        if not keys.known(key):
            if key not in scan.flagged:
                what = f"unknown variable {key!r} for {name}"
                problems.append(Problem(where=scan.where(name), what=what, todo=keys.hint(key)))
        elif key in keys.KEYS:
            try:
                yield key, keys.parse(key, given)
            except ValueError as error:
                if key not in scan.flagged:
                    what = f"{key} of {name}: {error}"
                    problems.append(Problem(where=scan.where(name), what=what))


def _host(name: str, *, groups: frozenset[str], values: Mapping[str, Any]) -> Host:
    return Host(
        name=name,
        groups=groups,
        ssh_host=values.get("ansible_host", name),
        ssh_port=values.get("ansible_port"),
        ssh_user=values.get("ansible_user"),
        ssh_key=values.get("ansible_ssh_private_key_file"),
        address=values.get("spark_address"),
        cores=values.get("spark_cores"),
        memory_mib=values.get("spark_memory"),
        gpus=values.get("spark_gpus", "auto"),
        labels=values.get("spark_labels", ()),
        torch_build=values.get("torch_build", "auto"),
    )


def _wrong_groups(hosts: tuple[Host, ...], scan: Scan) -> Iterator[Problem]:
    """Too many or too few hosts in a group, and hosts or patterns that belong nowhere."""
    for group, least, most in ((MASTER, 1, 1), (WORKERS, 1, None), (NOTEBOOK, 0, 1)):
        members = [host.name for host in hosts if group in host.groups]
        where = scan.groups.get(group, str(scan.path))
        if len(members) < least:
            what = f"the group {group!r} " + (
                "has no host" if group in scan.groups else "is missing"
            )
            yield Problem(where=where, what=what)
        elif most is not None and len(members) > most:
            what = f"the group {group!r} has {len(members)} hosts: {', '.join(members)}"
            yield Problem(where=where, what=what, todo="it can have one only")
    for host in hosts:
        if host.groups <= {"ungrouped"}:  # an unknown group is reported as such
            what = f"{host.name!r} is in none of the groups {', '.join(inventory_file.ROLES)}"
            yield Problem(where=scan.where(host.name), what=what)
    for pattern, where in scan.hosts.items():
        if not any(inventory_file.covers(pattern, host.name) for host in hosts):
            yield Problem(where=where, what=f"{pattern!r} stands for no host")


def _wrong_hosts(hosts: tuple[Host, ...], scan: Scan) -> Iterator[Problem]:
    """Names that cannot be used, and hosts that are the same machine."""
    machines: dict[tuple[str, int], Host] = {}
    addresses: dict[str, Host] = {}
    for host in hosts:
        where = scan.where(host.name)
        if not keys.is_word(host.name):
            todo = "use 1 to 63 letters, digits, - . and _, a letter or digit first"
            yield Problem(where=where, what=f"{host.name!r} cannot be a host's name", todo=todo)
        machine = host.ssh_host.lower(), host.ssh_port or _SSH_PORT
        twin = machines.setdefault(machine, host)
        if twin is not host:
            what = f"{host.name} is the same machine as {twin.name}: {machine[0]} port {machine[1]}"
            yield Problem(where=where, what=what, todo="one name may be in several groups")
        if host.address is None:
            continue
        other = addresses.setdefault(host.address.lower(), host)
        if other is not host:
            yield Problem(where=where, what=f"{host.name} has the spark_address of {other.name}")
        if len(hosts) > 1 and _is_loopback(host.address):
            what = f"other hosts cannot reach {host.name} at {host.address} (spark_address)"
            yield Problem(where=where, what=what)


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def _without_effect(hosts: tuple[Host, ...], scan: Scan) -> Iterator[Problem]:
    """What a worker offers, written for a host that is none."""
    for entry in scan.entries:
        if not (entry.of_host and keys.KEYS[entry.key].workers_only):
            continue
        named = [host for host in hosts if inventory_file.covers(entry.owner, host.name)]
        if named and not any(host.is_worker for host in named):
            what = f"{entry.key!r} has no effect: {entry.owner!r} is not one of the workers"
            todo = "add the host to them, or remove the key"
            yield Problem(where=entry.where, what=what, todo=todo)


def _wrong_notebook(
    hosts: tuple[Host, ...], common: Mapping[str, Any], scan: Scan
) -> Iterator[Problem]:
    """Keys of the notebook server where there is none, or some without those that they need."""
    given = [key for key in common if key.startswith("notebook_")]
    if given and not any(host.is_notebook for host in hosts):
        what = f"{given[0]!r} has no effect: no host runs the notebook server"
        yield Problem(where=_line(given[0], scan), what=what, todo="put one in the group notebook")
    published = {"notebook_name", "notebook_certificate", "notebook_key"}
    missing = sorted(published - set(given) - scan.flagged)
    if missing and published & set(given):
        key = sorted(published & set(given))[0]
        what = f"{key!r} needs {' and '.join(map(repr, missing))}"
        yield Problem(where=_line(key, scan), what=what, todo="docs/notebooks.md has an example")


def _no_file(path: Path) -> str:
    """What keeps a path from being a file that can be looked at; empty where nothing does."""
    try:
        return "" if path.is_file() else "there is no file"
    except OSError as error:  # in a folder of another user's
        return f"{error.strerror}:"


def _line(key: str, scan: Scan) -> str:
    """Where a key stands."""
    return next((entry.where for entry in scan.entries if entry.key == key), str(scan.path))


def _common(
    values: Mapping[str, Mapping[str, Any]], *, scan: Scan, problems: list[Problem]
) -> dict[str, Any]:
    """The values that hold for the whole cluster; where hosts differ, that is a problem."""
    common: dict[str, Any] = {}
    for key in (key for key, about in keys.KEYS.items() if about.whole_cluster):
        given = {name: own[key] for name, own in values.items() if key in own}
        for name, value in given.items():
            if common.setdefault(key, value) != value:
                places = [entry.where for entry in scan.entries if entry.key == key]
                where = places[-1] if places else scan.where(name)
                what = f"{key!r} differs between {next(iter(given))} and {name}"
                todo = "it holds for the whole cluster: write it once, under 'all: vars:'"
                problems.append(Problem(where=where, what=what, todo=todo))
                break
    return common
