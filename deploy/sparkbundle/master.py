"""What a Spark master tells about itself at `/json/`, read with a signed token."""

import json
import re
import urllib.error
import urllib.request
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sparkbundle.executor_size import misfit_of
from sparkbundle.page_token import token
from sparkbundle.spark_settings import WorkerSize

_WORKER_ID = re.compile(r"(?P<name>.+?)-\d{14}-.*")
# Loopback is not reached through the proxy that the environment may name.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Worker:
    """A worker as the master sees it; memory in MiB, the addresses of its GPUs.

    `cores_used`, `gpus_used`: those that executors hold, in the master's book.
    """

    name: str
    state: str
    cores: int
    memory_mib: int
    web: str
    gpus: tuple[str, ...] = ()
    cores_used: int = 0
    gpus_used: tuple[str, ...] = ()


@dataclass(frozen=True)
class Application:
    """A running application; cores as many as it holds now. `note`: why it waits for ever.

    `gpus`: those of each of its executors.
    """

    id: str
    name: str
    user: str
    cores: int
    note: str = ""
    gpus: int = 0


@dataclass(frozen=True)
class MasterState:
    """A master's own view of its cluster."""

    url: str
    status: str
    workers: tuple[Worker, ...]
    applications: tuple[Application, ...]

    def worker(self, name: str) -> Worker | None:
        """The worker of this name that is ALIVE, else its last entry, else None."""
        entries = [worker for worker in self.workers if worker.name == name]
        alive = [worker for worker in entries if worker.state == "ALIVE"]
        last = alive or entries
        return last[-1] if last else None

    def fault(self, name: str, *, size: WorkerSize, gpus: Collection[str]) -> str:
        """What is not as it shall be about a worker; empty when all is well."""
        entry = self.worker(name)
        if entry is None:
            return "not in the master's list"
        if entry.state != "ALIVE":
            return f"{entry.state} in the master's list"
        if (entry.cores, entry.memory_mib) != (size.cores, size.memory_mib):
            return (
                f"has {entry.cores} cores and {entry.memory_mib} MiB "
                f"instead of {size.cores} and {size.memory_mib}"
            )
        if set(entry.gpus) != set(gpus):
            found, wanted = (", ".join(one) or "none" for one in (entry.gpus, gpus))
            return f"has GPUs {found} instead of {wanted}"
        return ""


def ask_master(ui: str, *, ui_key: str, timeout: float = 5.0) -> MasterState | None:
    """Ask the master whose web address is `ui`; None when it does not answer us.

    That somebody else answers at the address is no answer either: it refuses
    the token, or is no Spark master.
    """
    request = urllib.request.Request(  # noqa: S310 - our own http address
        f"{ui}/json/", headers={"Authorization": f"Bearer {token(ui_key)}"}
    )
    try:
        with _OPENER.open(request, timeout=timeout) as answer:
            return parse_state(json.load(answer))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def parse_state(value: Mapping[str, Any]) -> MasterState:
    """The state in a master's `/json/` (Spark: JsonProtocol.writeMasterState).

    Raises:
        KeyError, TypeError: it is no such state.
    """
    workers = tuple(_worker(worker) for worker in value["workers"])
    return MasterState(
        url=value["url"],
        status=value["status"],
        workers=workers,
        applications=tuple(_application(app, workers) for app in value["activeapps"]),
    )


def _application(value: Mapping[str, Any], workers: tuple[Worker, ...]) -> Application:
    sizes = [
        WorkerSize(cores=one.cores, memory_mib=one.memory_mib)
        for one in workers
        if one.state == "ALIVE"
    ]
    executor = WorkerSize(cores=1, memory_mib=value["memoryperexecutor"])
    return Application(
        id=value["id"],
        name=value["name"],
        user=value["user"],
        cores=value["cores"],
        note="" if value["cores"] or not sizes else misfit_of(executor, sizes),
        gpus=sum(
            one["amount"] for one in value.get("resourcesperexecutor", ()) if one["name"] == "gpu"
        ),
    )


def _worker(value: Mapping[str, Any]) -> Worker:
    # "worker-2-20250131120000-127.0.0.1-41231": see spark.worker.idPattern.
    named = _WORKER_ID.fullmatch(value["id"])
    return Worker(
        name=named["name"] if named else value["id"],
        state=value["state"],
        cores=value["cores"],
        memory_mib=value["memory"],
        web=value["webuiaddress"],
        gpus=_gpus(value.get("resources", {})),
        cores_used=value["coresused"],
        gpus_used=_gpus(value.get("resourcesused", {})),
    )


def _gpus(resources: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(resources.get("gpu", {}).get("addresses", ()))
