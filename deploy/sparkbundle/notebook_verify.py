"""Proof that a cluster's notebook server works: a cell on it that has Spark count."""

import json
import shlex
import time
from pathlib import Path
from typing import Final

from sparkbundle.errors import SparkbundleError, Trouble
from sparkbundle.host_notebook import HOME, PORT, PUBLIC_UNIT, RUNTIME, TOKEN, UNIT
from sparkbundle.hosts import Hosts
from sparkbundle.inventory import Host
from sparkbundle.kernels import NAME
from sparkbundle.output import warn
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
    properties = (
        "User=sparknote", "Group=spark", "PrivateTmp=yes", "NoNewPrivileges=yes",
        "ProtectSystem=strict", "ProtectHome=yes", f"RuntimeMaxSec={timeout:.0f}",
    )  # fmt: skip
    # The script comes on the standard input: nothing is left behind on the host.
    words = [
        "systemd-run", "--quiet", "--pipe", "--wait", "--collect",
        f"--unit=sparkbundle-smoke-{time.time_ns()}",
        *(f"--property={one}" for one in properties),
        *(f"--setenv={key}={value}" for key, value in environment.items()),
        "/opt/sparkbundle/current/bin/python", "-P", "-", f"{scheme}://{HOST}:{PORT}", NAME, _CELL,
    ]  # fmt: skip
    answer = hosts.run(
        host, shlex.join(words), sudo=True, given=_SCRIPT.read_bytes(), timeout=timeout + 30
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


def warn_of_former_settings(hosts: Hosts, host: Host, *, config: str) -> None:
    """Say so if the server still runs as it was started before: it is not ended under kernels."""
    process = f"/proc/$(systemctl show -P MainPID {UNIT})/environ"
    if hosts.run(host, f"sh -c 'grep -qzx SPARKBUNDLE_CONFIG={config} {process}'", sudo=True).code:
        warn(
            f"{host.name}: the notebook server goes on as it was, since kernels run; when they "
            f"have ended: sparkbundle up -i {hosts.inventory.path}"
        )


def _failed(host: Host, reason: str, said: str) -> SparkbundleError:
    lines = [line for line in said.splitlines() if line.strip()]
    return SparkbundleError(
        f"the notebook server does not work: {reason}",
        where=host.name,
        todo=f"read on {host.name}: journalctl -u {UNIT}",
        troubles=(
            Trouble(
                daemon="notebook",
                phase="run a cell",
                reason=reason,
                log="",
                last_lines=tuple(lines[-12:]),
            ),
        ),
    )
