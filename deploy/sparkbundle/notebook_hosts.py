"""The notebook server of a cluster of hosts, in a browser here: through a tunnel, or published."""

import http.client
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
from sparkbundle.notebook_client import ask_status, sign_in_url
from sparkbundle.notebook_settings import START_SECONDS
from sparkbundle.notebook_verify import is_public
from sparkbundle.ports import HOST
from sparkbundle.reach import reaching
from sparkbundle.tunnel import Tunnel

_POLL_SECONDS: Final = 0.5


@dataclass(frozen=True, kw_only=True)
class HostsNotebook:
    """The server as this machine reaches it; `tunnel`: only while a command here runs.

    `page` is where a private page may be that leads a browser to it.
    """

    address: str
    port: int
    token: str = field(repr=False)
    tunnel: bool
    page: Path

    @property
    def url(self) -> str:
        """The address that signs a browser in."""
        return sign_in_url(self.address, token=self.token)


@contextmanager
def opened(path: Path, *, port: int | None) -> Iterator[HostsNotebook]:
    """The notebook server of an inventory's cluster; a tunnel lasts as long as the block.

    Raises:
        SparkbundleError: there is none, it is not reached or does not answer; or `port` is taken,
            or was given although the server is published.
    """
    inventory = inventories.load(path)
    host = _host_of(inventory)
    page = cluster_directory(inventory.name) / "notebook.html"
    with reaching(inventory) as hosts:
        token = read_as_root(hosts, host, TOKEN).strip()
        public = is_public(hosts, host)
        if public and inventory.publication is None:
            raise _broken(hosts, host, "is still published, until its kernels have ended")
        if public and inventory.publication is not None:
            if port is not None:
                raise PreflightError(
                    "the notebook server is published: it needs no port here",
                    todo="leave --port out",
                )
            _require_active(hosts, host)
            address = f"https://{inventory.publication.name}"
            yield HostsNotebook(address=address, port=443, token=token, tunnel=False, page=page)
            return
        forward = Forward(Tunnel(hosts, via=host, read_seconds=None), to=PORT, port=port or 0)
        forward.run()
        try:
            _wait(hosts, host, forward, token)
            address = f"http://{HOST}:{forward.port}"
            yield HostsNotebook(
                address=address, port=forward.port, token=token, tunnel=True, page=page
            )
        finally:
            forward.close()


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
    while (status := ask_status(forward.port, token=token)) != http.client.OK:
        if status is not None:
            raise _broken(hosts, host, f"answers {status}")
        _require_active(hosts, host)
        if time.monotonic() > deadline:
            raise _broken(hosts, host, "does not answer")
        time.sleep(_POLL_SECONDS)


def _require_active(hosts: Hosts, host: Host) -> None:
    state = hosts.run(host, f"systemctl is-active {UNIT}").out.strip()
    if state != "active":
        raise _broken(hosts, host, f"is {state}")


def _broken(hosts: Hosts, host: Host, why: str) -> SparkbundleError:
    inventory = hosts.inventory.path
    return SparkbundleError(
        f"the notebook server {why}",
        where=host.name,
        todo=f"mend it: sparkbundle up -i {inventory}; its log: "
        f"sparkbundle run -i {inventory} --on {host.name} --sudo journalctl -n 30 -u {UNIT}",
    )
