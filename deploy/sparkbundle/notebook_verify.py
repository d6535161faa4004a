"""Proof that a cluster's notebook server works: a cell on it that has Spark count."""

import json
from pathlib import Path
from typing import Final

from sparkbundle.errors import SparkbundleError
from sparkbundle.host_notebook import HOME, PORT, PUBLIC_UNIT, RUNTIME, TOKEN, UNIT
from sparkbundle.host_proof import Unit, failed, run_as
from sparkbundle.hosts import Hosts
from sparkbundle.inventory import Host
from sparkbundle.kernels import NAME
from sparkbundle.ports import HOST

_SCRIPT: Final = Path(__file__).with_name("notebook_cell.py")
_CELL: Final = 'print(spark.range(1000).selectExpr("sum(id)").first()[0])'
_EXPECTED: Final = "499500"


def verify_notebook(hosts: Hosts, host: Host, *, timeout: float) -> None:
    """Run a cell in a new kernel of the server on `host`.

    Raises:
        SparkbundleError: it fails, takes too long, or its result is wrong.
    """
    scheme = "https" if is_public(hosts, host) else "http"
    environment = {
        "HOME": HOME,
        "JUPYTER_TOKEN_FILE": TOKEN,
        "JUPYTER_RUNTIME_DIR": RUNTIME,
    }
    answer = run_as(
        hosts,
        host,
        ["-", f"{scheme}://{HOST}:{PORT}", NAME, _CELL],
        unit=Unit(user="sparknote"),
        script=_SCRIPT.read_bytes(),
        environment=environment,
        timeout=timeout,
    )
    try:
        told = json.loads(answer.out.splitlines()[-1])
    except (ValueError, IndexError):
        raise _failed(host, "no kernel ran a cell", answer.err) from None
    if told["status"] != "ok" or _EXPECTED not in told["shown"].split():
        raise _failed(host, "a cell with Spark failed", told["shown"])


def is_public(hosts: Hosts, host: Host) -> bool:
    """Whether the server is published now, whatever the inventory says by now."""
    return hosts.run(host, f"systemctl is-active {PUBLIC_UNIT}").out.strip() == "active"


def _failed(host: Host, reason: str, said: str) -> SparkbundleError:
    return failed(
        "the notebook server does not work",
        reason,
        said=said,
        daemon="notebook",
        phase="run a cell",
        where=host.name,
        todo=f"read on {host.name}: journalctl -u {UNIT}",
    )
