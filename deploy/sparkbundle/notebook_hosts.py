"""The notebook server of a cluster of hosts, in a browser here: through a tunnel, or published."""

import http.client
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sparkbundle import inventory as inventories
from sparkbundle.errors import PreflightError, SparkbundleError
from sparkbundle.forward import Forward
from sparkbundle.host_files import read_as_root
from sparkbundle.host_notebook import PORT, TOKEN, UNIT
from sparkbundle.hosts import Hosts, cluster_directory
from sparkbundle.inventory import Host, Inventory
from sparkbundle.notebook_settings import START_SECONDS
from sparkbundle.ports import HOST
from sparkbundle.reach import reaching
from sparkbundle.tunnel import Tunnel

_POLL_SECONDS: Final = 0.5


@dataclass(frozen=True, kw_only=True)
class HostsNotebook:
    """The server as this machine reaches it; `tunnel`: only while a command here runs."""

    address: str
    port: int
    token: str = field(repr=False)
    tunnel: bool

    @property
    def url(self) -> str:
        """The address that signs a browser in."""
        return f"{self.address}/lab?token={self.token}"


@contextmanager
def opened(path: Path, *, port: int | None) -> Iterator[HostsNotebook]:
    """The notebook server of an inventory's cluster; a tunnel lasts as long as the block.

    Raises:
        SparkbundleError: there is none, it is not reached or does not answer; or `port` is taken,
            or was given although the server is published.
    """
    inventory = inventories.load(path)
    host = _host_of(inventory)
    with reaching(inventory) as hosts:
        token = read_as_root(hosts, host, TOKEN).strip()
        if inventory.publication is not None:
            if port is not None:
                raise PreflightError(
                    "the notebook server is published: it needs no port here",
                    todo="leave --port out",
                )
            yield HostsNotebook(
                address=f"https://{inventory.publication.name}", port=443, token=token, tunnel=False
            )
            return
        forward = Forward(Tunnel(hosts, via=host, read_seconds=None), to=PORT, port=port or 0)
        forward.run()
        try:
            _wait(hosts, host, forward, token)
            yield HostsNotebook(
                address=f"http://{HOST}:{forward.port}", port=forward.port, token=token, tunnel=True
            )
        finally:
            forward.close()


def redirect_file(inventory: Path) -> Path:
    """Where the private page is that leads a browser to the server."""
    return cluster_directory(inventories.load(inventory).name) / "notebook.html"


def _host_of(inventory: Inventory) -> Host:
    if inventory.notebook is not None:
        return inventory.notebook
    raise PreflightError(
        "this cluster has no notebook server",
        where=str(inventory.path),
        todo=f"name its host there, such as: notebook: {{hosts: {{{inventory.master.name}: }}}}\n"
        f"       then: sparkbundle up -i {inventory.path}",
    )


def _wait(hosts: Hosts, host: Host, forward: Forward, token: str) -> None:
    """Wait until the server answers and takes the token.

    Raises:
        SparkbundleError: it does not within a minute, or does not run.
    """
    deadline = time.monotonic() + START_SECONDS
    while (status := _ask(forward.port, token)) != http.client.OK:
        state = hosts.run(host, f"systemctl is-active {shlex.quote(UNIT)}").out.strip()
        if status is not None or state != "active" or time.monotonic() > deadline:
            raise SparkbundleError(
                f"the notebook server {_why(status, state)}",
                where=host.name,
                todo=f"mend it: sparkbundle up -i {hosts.inventory.path}; its log: "
                f"sparkbundle ssh -i {hosts.inventory.path} {host.name} sudo journalctl -u {UNIT}",
            )
        time.sleep(_POLL_SECONDS)


def _why(status: int | None, state: str) -> str:
    if status is not None:
        return f"answers {status}"
    return f"is {state}" if state != "active" else "does not answer"


def _ask(port: int, token: str) -> int | None:
    """The status with which the server answers; None where it does not."""
    connection = http.client.HTTPConnection(HOST, port, timeout=5.0)
    try:
        connection.request("GET", "/api/status", headers={"Authorization": f"token {token}"})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
