"""Programs of ours that run on a host, as one of its users, to prove that something works."""

import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sparkbundle.errors import SparkbundleError, Trouble
from sparkbundle.host_plan import PYTHON
from sparkbundle.hosts import Answer, Hosts
from sparkbundle.inventory import Host

_SHOWN_LINES = 12


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A unit of systemd: whose it is, what it may write to, how its name begins.

    One whose name begins like a daemon's, spark-…, has the daemons' sandbox, which hides no devices
    on a host with GPUs (roles/base/templates/sandbox.conf.j2).
    """

    user: str
    writes: tuple[str, ...] = ()
    name: str = "sparkbundle-smoke"


def run_as(
    hosts: Hosts,
    host: Host,
    words: Sequence[str],
    *,
    unit: Unit,
    script: bytes,
    environment: Mapping[str, str],
    timeout: float,
) -> Answer:
    """What the runtime's Python with these `words` says, as a unit that is then gone.

    The script comes on the standard input: nothing is left behind on the host.

    Raises:
        SparkbundleError: the host is not reached.
    """
    properties = (
        f"User={unit.user}", "Group=spark", "PrivateTmp=yes", "NoNewPrivileges=yes",
        "ProtectSystem=strict", "ProtectHome=yes", f"RuntimeMaxSec={timeout:.0f}",
        *(f"ReadWritePaths={path}" for path in unit.writes),
    )  # fmt: skip
    command = [
        "systemd-run", "--quiet", "--pipe", "--wait", "--collect",
        f"--unit={unit.name}-{time.time_ns()}",
        *(f"--property={one}" for one in properties),
        *(f"--setenv={key}={value}" for key, value in environment.items()),
        PYTHON, "-P", *words,
    ]  # fmt: skip
    return hosts.run(host, shlex.join(command), sudo=True, given=script, timeout=timeout + 30)


def failed(
    what: str, reason: str, *, said: str, daemon: str, phase: str, todo: str, where: str = ""
) -> SparkbundleError:
    """The error for a proof that failed, with the end of what it `said`."""
    lines = [line for line in said.splitlines() if line.strip()]
    return SparkbundleError(
        f"{what}: {reason}",
        where=where,
        todo=todo,
        troubles=(
            Trouble(
                daemon=daemon,
                phase=phase,
                reason=reason,
                log="",
                last_lines=tuple(lines[-_SHOWN_LINES:]),
            ),
        ),
    )
