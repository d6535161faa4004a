"""What must be right on every host before anything is changed: all hosts, all problems in one go.

A host is asked once, by the script `probe.py`, which reads and changes nothing.
"""

import json
import shlex
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sparkbundle import host_gpus, notebook_certificate, torch_build
from sparkbundle.errors import AUTHENTICATION, PREFLIGHT, SparkbundleError, Trouble
from sparkbundle.hosts import Hosts
from sparkbundle.inventory import Host, Inventory
from sparkbundle.java import MINIMUM as JAVA_MINIMUM
from sparkbundle.spark_settings import HISTORY_PORT
from sparkbundle.wheelhouse_lock import CUDA

MASTER_PORTS = {7077: "the master", 8080: "the master's page", HISTORY_PORT: "the history server"}
WORKER_PORTS = {7078: "the worker", 8081: "the worker's page"}
NOTEBOOK_PORTS = {8888: "the notebook server"}
NOTEBOOK_PUBLIC_PORT = 443
PYTHON_MINIMUM = (3, 11)
SYSTEMS = ("debian", "ubuntu")
# What the system, the daemons (256 MiB of heap each) and one Python worker take.
RESERVED_MIB = 1024
MINIMUM_MEMORY_MIB = 512
RUNTIME_MIB = 5 * 1024
# torch's CUDA build: 3 GiB of wheels, of which 6 are made, beside the rest.
CUDA_RUNTIME_MIB = 14 * 1024
USERS_HOME = "/var/lib/sparkbundle"
WORK_MIB = 1024
_SYSTEMS_TODO = "use Debian 12 or later, Ubuntu 24.04 or later"
# A token for the web pages lives a minute.
SKEW_SECONDS = 20.0
_PROBE_SECONDS = 90.0
_SCRIPT = Path(__file__).with_name("probe.py")
# sudo asks for no password, or the user is root; Python is there; the probe runs as root.
_COMMAND = """
command -v python3 >/dev/null || { echo no-python; exit 0; }
if [ "$(id -u)" = 0 ]; then exec python3 -B - "$1" "$SSH_CONNECTION"
elif sudo -n true 2>/dev/null; then exec sudo -n python3 -B - "$1" "$SSH_CONNECTION"
else exec python3 -B - "$1" "$SSH_CONNECTION"; fi
"""


@dataclass(frozen=True)
class Problem:
    """What is wrong on a host, and what to do; `warning`: nothing stops for it."""

    host: str
    check: str
    what: str
    todo: str
    code: int = PREFLIGHT
    warning: bool = False


@dataclass(frozen=True)
class Facts:
    """What a host told; see `probe.py` for the keys of `told`. `skew`: its clock minus ours."""

    told: Mapping[str, Any]
    skew: float

    def __getitem__(self, key: str) -> Any:
        """One of the things it told."""
        return self.told[key]

    @property
    def python(self) -> tuple[int, int]:
        """The minor version of its python3."""
        return (self.told["python"][0], self.told["python"][1])

    @property
    def gpus(self) -> tuple[str, ...]:
        """The addresses of its NVIDIA GPUs."""
        return tuple(self.told["gpus"]["addresses"])

    @property
    def java_will_do(self) -> bool:
        """Whether the installed Java runs Spark 4."""
        return bool(self.told["java"]["complete"]) and _java_version(self) >= JAVA_MINIMUM


@dataclass(frozen=True)
class Checked:
    """What all hosts told, and what is wrong."""

    facts: Mapping[str, Facts]
    problems: Sequence[Problem] = field(default=())

    @property
    def errors(self) -> list[Problem]:
        """The problems that stop a deploy."""
        return [problem for problem in self.problems if not problem.warning]

    def require(self) -> None:
        """Stop here if anything is wrong.

        Raises:
            SparkbundleError: with a row for each problem; the exit code is 6 or 4 where a host
                could not be asked, else 3.
        """
        if not self.errors:
            return
        hosts = {problem.host for problem in self.errors}
        raise SparkbundleError(
            f"{len(self.errors)} problems on {len(hosts)} hosts; nothing was changed on any host",
            todo="mend them, then run the same command again",
            code=max(self.errors, key=lambda problem: problem.code).code,
            troubles=tuple(
                Trouble(
                    daemon=problem.host,
                    phase=problem.check,
                    reason=problem.what,
                    log="",
                    todo=problem.todo,
                )
                for problem in self.errors
            ),
        )


def check(hosts: Hosts, *, only: Sequence[Host] | None = None) -> Checked:
    """Ask all hosts (or `only` some) at once and find everything that is not as it must be."""
    inventory = hosts.inventory
    answers = hosts.each(lambda host: ask(hosts, host), only)
    facts = {name: one for name, one in answers.items() if isinstance(one, Facts)}
    problems = []
    for name, answer in answers.items():
        if isinstance(answer, SparkbundleError):
            check_name = "sign-in" if answer.code == AUTHENTICATION else "reach"
            problems.append(Problem(name, check_name, answer.what, answer.todo, answer.code))
        else:
            problems += _host_problems(inventory, inventory.host(name), answer)
        problems += _certificate_problems(inventory, inventory.host(name))
    problems += _common_problems(facts)
    return Checked(facts, problems)


def ask(hosts: Hosts, host: Host) -> Facts:
    """Let one host tell about itself.

    Raises:
        SparkbundleError: it is not reached, or has no Python, or its answer is none.
    """
    ports = [*MASTER_PORTS, *WORKER_PORTS, *NOTEBOOK_PORTS, NOTEBOOK_PUBLIC_PORT]
    asked = shlex.quote(json.dumps({"address": host.address, "ports": ports}))
    command = f"sh -c {shlex.quote(_COMMAND)} sh {asked}"
    before = time.time()
    answer = hosts.run(host, command, given=_SCRIPT.read_bytes(), timeout=_PROBE_SECONDS)
    after = time.time()
    if answer.out.strip() == "no-python":
        raise SparkbundleError(
            "there is no python3", where=host.name, code=PREFLIGHT,
            todo="install it there: apt-get install -y python3",
        )  # fmt: skip
    try:
        told = json.loads(answer.out)
    except ValueError as error:
        said = (answer.err or answer.out).strip().splitlines()
        raise SparkbundleError(
            f"its answer is no answer: {said[-1] if said else 'nothing'}", where=host.name,
            todo="its shell or sudo prints something else, or its Python is broken: look there",
        ) from error  # fmt: skip
    return Facts(told, skew=told["time"] - (before + after) / 2)


def _host_problems(inventory: Inventory, host: Host, facts: Facts) -> Iterator[Problem]:
    """Everything that is wrong with one host, from its system to its ports."""
    for name, finder in (
        ("system", _wrong_system),
        ("python", _wrong_python),
        ("sudo", _wrong_sudo),
        ("clock", _wrong_clock),
        ("cores", _wrong_cores),
        ("memory", _wrong_memory),
        ("disk", _wrong_disk),
        ("gpu", _wrong_gpu),
        ("torch", _wrong_torch),
        ("address", _wrong_address),
        ("users", _wrong_users),
        ("port", _wrong_ports),
    ):
        for what, todo in finder(host, facts):
            yield Problem(host.name, name, what, todo)
    for what, todo in _wrong_public_port(inventory, host, facts):
        yield Problem(host.name, "port", what, todo)
    for what, todo in _wrong_cluster(inventory, facts):
        yield Problem(host.name, "cluster", what, todo)
    for what, todo in host_gpus.warnings(host, facts["gpus"]):
        yield Problem(host.name, "gpu", what, todo, warning=True)
    for what, todo in torch_build.warnings(host, facts["gpus"]):
        yield Problem(host.name, "torch", what, todo, warning=True)
    for what, todo in _closing_ports(inventory, host, facts):
        yield Problem(host.name, "firewall", what, todo, warning=True)


def _certificate_problems(inventory: Inventory, host: Host) -> Iterator[Problem]:
    """What is wrong with the files on this machine that the notebook's host would be given."""
    if inventory.publication is None or not host.is_notebook:
        return
    for fault in notebook_certificate.faults(inventory.publication):
        yield Problem(host.name, "certificate", fault.what, fault.todo, warning=fault.warning)


Found = Iterator[tuple[str, str]]
"""What is wrong, and what to do."""


def _wrong_system(_host: Host, facts: Facts) -> Found:
    system = facts["os"]
    if not {system.get("ID"), *system.get("ID_LIKE", "").split()} & set(SYSTEMS):
        name = system.get("PRETTY_NAME") or system.get("ID") or "an unknown system"
        yield f"{name} is not supported", _SYSTEMS_TODO
    if not facts["systemd"]:
        yield "it does not run systemd", "start the host with systemd as its init"
    if facts["machine"] not in ("x86_64", "aarch64"):
        yield f"no packages for {facts['machine']} processors", "use an x86_64 or aarch64 host"


def _wrong_python(_host: Host, facts: Facts) -> Found:
    if facts.python < PYTHON_MINIMUM:
        shown = ".".join(map(str, facts["python"]))
        yield f"its python3 is {shown}, needed is 3.11 or later", _SYSTEMS_TODO


def _wrong_sudo(host: Host, facts: Facts) -> Found:
    if not facts["root"]:
        line = f"{host.ssh_user or 'USER'} ALL=(ALL) NOPASSWD:ALL"
        yield (
            "sudo asks for a password, or there is no sudo",
            f"as root there: echo '{line}' > /etc/sudoers.d/sparkbundle",
        )


def _wrong_clock(_host: Host, facts: Facts) -> Found:
    if abs(facts.skew) > SKEW_SECONDS:
        direction = "ahead of" if facts.skew > 0 else "behind"
        yield (
            f"its clock is {abs(facts.skew):.0f} s {direction} this machine's",
            "switch on time synchronisation on both: timedatectl set-ntp true",
        )


def _wrong_cores(host: Host, facts: Facts) -> Found:
    if host.is_worker and host.cores is not None and host.cores > facts["cores"]:
        yield (
            f"spark_cores is {host.cores}, the host has {facts['cores']}",
            f"spark_cores: {facts['cores']} or less",
        )


def _wrong_memory(host: Host, facts: Facts) -> Found:
    if not host.is_worker:
        return
    available = facts["memory_mib"] - RESERVED_MIB
    wanted = host.memory_mib or MINIMUM_MEMORY_MIB
    if wanted > available:
        asked = "spark_memory is" if host.memory_mib else "a worker needs"
        yield (
            f"{asked} {wanted} MiB; the host has {facts['memory_mib']} MiB, less "
            f"{RESERVED_MIB} MiB "
            f"for the system and the daemons leaves {max(available, 0)} MiB",
            f"spark_memory: {available}m or less"
            if available >= MINIMUM_MEMORY_MIB
            else "use a larger host",
        )


def _wrong_disk(host: Host, facts: Facts) -> Found:
    cuda = torch_build.build_of(host, facts["gpus"]) == CUDA
    whole = CUDA_RUNTIME_MIB if cuda else RUNTIME_MIB
    runtime = 0 if facts["release"] else whole
    for path, needed in (("/opt/sparkbundle", runtime), ("/var/lib/sparkbundle", WORK_MIB)):
        free = facts["free_mib"][path]
        if free < needed:
            yield (
                f"{free} MiB free for {path}, needed are {needed} MiB",
                "make room there, or mount a larger disk at that path",
            )


def _wrong_gpu(host: Host, facts: Facts) -> Found:
    yield from host_gpus.wrong(host, facts["gpus"])


def _wrong_torch(host: Host, facts: Facts) -> Found:
    yield from torch_build.wrong(host, facts["gpus"])


def _wrong_address(_host: Host, facts: Facts) -> Found:
    if not facts["address"]:
        yield "its address for the other hosts is not known", "give it: spark_address: 10.0.0.5"
    elif not facts["address_is_mine"]:
        yield f"{facts['address']} is no address of this host", "give the right spark_address"


def _wrong_users(_host: Host, facts: Facts) -> Found:
    for name, home in facts["users"].items():
        if home != USERS_HOME:  # roles/base makes it so, and roles/removal looks for it
            yield (
                f"there is already a user {name!r} that is not ours",
                "rename or remove that user: the daemons run as spark, jobs as sparkjob, "
                "notebooks as sparknote",
            )


def _wrong_ports(host: Host, facts: Facts) -> Found:
    ports = {
        **(MASTER_PORTS if host.is_master else {}),
        **(WORKER_PORTS if host.is_worker else {}),
        **(NOTEBOOK_PORTS if host.is_notebook else {}),
    }
    for port, use in ports.items():
        holder = facts["listeners"].get(str(port))
        if holder and not (facts["cluster"] and holder["user"] in ("spark", "sparknote")):
            yield (
                f"port {port} ({use}) is taken by {holder['by']}",
                "stop that program, or use another host",
            )


def _wrong_public_port(inventory: Inventory, host: Host, facts: Facts) -> Found:
    if inventory.publication is None or not host.is_notebook:
        return
    holder = facts["listeners"].get(str(NOTEBOOK_PUBLIC_PORT))
    if holder and facts["units"].get("spark-notebook-public.socket", {}).get("active") != "active":
        yield (
            f"port {NOTEBOOK_PUBLIC_PORT} (the published notebook server) is taken by "
            f"{holder['by']}",
            "stop that program, or take notebook_name out of the inventory",
        )


def _wrong_cluster(inventory: Inventory, facts: Facts) -> Found:
    there = facts["cluster"]
    if there and there.get("name") != inventory.name:
        yield (
            f"it belongs to cluster {there.get('name')!r} with master {there.get('master')}",
            "a host serves one cluster: first sparkbundle remove, or down --purge, there",
        )


def open_ports(inventory: Inventory, host: Host) -> set[int]:
    """The ports of a host that stay open to everybody, but for SSH's."""
    published = inventory.publication is not None and host.is_notebook
    return {*inventory.open_ports, *((NOTEBOOK_PUBLIC_PORT,) if published else ())}


def _closing_ports(inventory: Inventory, host: Host, facts: Facts) -> Found:
    """Ports that others use now and that the firewall will close: worth a warning."""
    if not inventory.firewall or facts["firewall"]:
        return
    stays = {facts["ssh_port"], *open_ports(inventory, host), *MASTER_PORTS, *WORKER_PORTS}
    closing = [port for port in facts["open_ports"] if port not in stays]
    if closing:
        shown = ", ".join(map(str, closing))
        yield (
            f"will be closed for others than the cluster's hosts: port {shown}",
            f"to keep them open: firewall_open_ports: [{shown}]",
        )


def _common_problems(facts: Mapping[str, Facts]) -> Iterator[Problem]:
    """What must be the same everywhere: PySpark's two sides need one minor Python version."""
    for check_name, values in (
        ("python", {name: ".".join(map(str, one.python)) for name, one in facts.items()}),
        ("system", {name: str(one["machine"]) for name, one in facts.items()}),
    ):
        common = Counter(values.values()).most_common()
        for name, value in values.items():
            if value != common[0][0]:
                what = f"it has {value}, most hosts have {common[0][0]}: all must have the same"
                yield Problem(name, check_name, what, "use hosts of one kind")
    addresses = Counter(one["address"] for one in facts.values())
    for name, one in facts.items():
        if one["address"] and addresses[one["address"]] > 1:
            yield Problem(
                name, "address", f"another host has the address {one['address']}, too",
                "is it the same machine twice? Else give each its spark_address",
            )  # fmt: skip


def _java_version(facts: Facts) -> int:
    said = str(facts["java"]["version"])
    quoted = said.split('"')[1] if '"' in said else "0"
    major = quoted.split(".")[0]
    return int(major) if major.isdigit() else 0
