"""A web page of a cluster in the user's browser: which page, by what way, with which secret."""

import json
import os
import shlex
import sys
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sparkbundle import inventory as inventories
from sparkbundle import state
from sparkbundle.errors import PreflightError, SparkbundleError
from sparkbundle.host_files import read_as_root
from sparkbundle.host_plan import SECRETS
from sparkbundle.hosts import Hosts
from sparkbundle.inventory import Inventory
from sparkbundle.launch import read_secrets, secrets_file
from sparkbundle.master import parse_state
from sparkbundle.pages import Pages
from sparkbundle.ports import HOST
from sparkbundle.proxy import Proxy
from sparkbundle.reach import reaching
from sparkbundle.state import ClusterPlace, ClusterRecord
from sparkbundle.tile import Where
from sparkbundle.tunnel import Tunnel

NOTEBOOK, BOARD, SPARK, HISTORY, APP = "notebook", "board", "spark", "history", "app"
PAGES = (NOTEBOOK, BOARD, SPARK, HISTORY, APP)
_CLUSTER = "/etc/sparkbundle/cluster.json"


@dataclass(frozen=True, kw_only=True)
class OpenOptions:
    """What the user asks for; `name` counts only where there is no inventory."""

    page: str
    inventory: Path | None
    name: str
    port: int = 0


@contextmanager
def opened(asked: OpenOptions) -> Iterator[Proxy]:
    """A proxy that shows the page; it runs while the block does.

    Raises:
        SparkbundleError: the cluster is not up or not reached, or the page does not answer.
    """
    if asked.inventory is None:
        pages, history = pages_here(asked.name), None
        with _running(asked, pages, history) as proxy:
            yield proxy
        return
    with reaching(inventories.load(asked.inventory)) as hosts:
        pages, history = _pages_of(hosts)
        with _running(asked, pages, history) as proxy:
            yield proxy


@contextmanager
def _running(asked: OpenOptions, pages: Pages, history: str | None) -> Iterator[Proxy]:
    start = _start(asked.page, pages, history)
    pages.require(start)
    proxy = Proxy(pages, start=start, port=asked.port)
    proxy.run()
    try:
        yield proxy
    finally:
        proxy.close()


def _start(page: str, pages: Pages, history: str | None) -> str:
    if page == SPARK:
        return pages.master
    if page == HISTORY:
        if history is None:
            raise PreflightError(
                "the cluster on this machine has no history server",
                todo="sparkbundle open spark, or -i INVENTORY for a cluster of hosts",
            )
        return history
    pages.require(pages.master)
    with pages.ask(pages.master, "/json/") as answer:
        workers = {urlsplit(worker.web).netloc for worker in parse_state(json.load(answer)).workers}
    applications = [one for one in pages.linked() if one not in {*workers, pages.master}]
    if not applications:
        raise PreflightError(
            "no running application has a web page",
            where=pages.master,
            todo="start one with --conf spark.ui.enabled=true; "
            "ended ones: sparkbundle open history",
        )
    return applications[0]  # the newest: so the master sorts them


def pages_here(name: str) -> Pages:
    """The pages of the cluster on this machine with this name.

    Raises:
        PreflightError: it is not up.
    """
    place = state.cluster_place(name)
    record = state.read_record(place)
    if record is None or read_secrets(place) is None:
        raise state.not_up(name)
    return where_here(place, record).pages(base="")


def where_here(place: ClusterPlace, record: ClusterRecord) -> Where:
    """Where the pages of a cluster on this machine are."""
    master = urlsplit(record.ui).netloc
    return Where(master=master, addresses=[HOST], own=HOST, secrets=str(secrets_file(place)))


def _pages_of(hosts: Hosts) -> tuple[Pages, str]:
    """The pages of a cluster of hosts, and where its history server is."""
    master = hosts.inventory.master
    try:
        secrets = json.loads(read_as_root(hosts, master, SECRETS))
        cluster = json.loads(read_as_root(hosts, master, _CLUSTER))
        ui, history = (urlsplit(cluster[key]).netloc for key in ("ui", "history"))
        ui_key = secrets["ui_key"]
    except (ValueError, KeyError, TypeError) as error:
        raise SparkbundleError(
            f"{SECRETS} or {_CLUSTER} is damaged: {type(error).__name__}",
            where=master.name,
            todo=f"sparkbundle up -i {hosts.inventory.path}    writes them anew",
        ) from error
    pages = Pages(
        dial=Tunnel(hosts).dial,
        ui_key=ui_key,
        master=ui,
        addresses={cluster["address"], *_addresses(hosts)},
        fixed=(history,),
        resolve=_Names(hosts, cluster["address"]),
    )
    return pages, history


class _Names:
    """The addresses of names, as the inventory and the master's host know them."""

    def __init__(self, hosts: Hosts, master: str) -> None:
        self._hosts = hosts
        self._master = master
        self._known = {
            name: host.address
            for host in hosts.inventory.hosts
            for name in (host.name, host.ssh_host)
            if host.address is not None
        }

    def __call__(self, name: str) -> str | None:
        if name in self._known:
            return self._known[name]
        command = f"getent ahostsv4 {shlex.quote(name)}"
        try:
            answer = self._hosts.run(self._hosts.inventory.master, command, timeout=5.0)
        except SparkbundleError:
            return None
        found = answer.out.partition(" ")[0]
        # Debian gives the name of a host itself an address of its loopback network.
        return self._master if found.startswith("127.") else found or None


def _addresses(hosts: Hosts) -> set[str]:
    """The addresses at which the hosts reach each other."""
    inventory: Inventory = hosts.inventory
    known = {host.address for host in inventory.hosts if host.address is not None}
    unknown = [host for host in inventory.hosts if host.address is None]
    # A host that is away has no page to show, either.
    answers = hosts.each(lambda host: hosts.run(host, f"cat {_CLUSTER}", sudo=True), unknown)
    for answer in answers.values():
        if not isinstance(answer, SparkbundleError) and answer.code == 0:
            known.add(_address(answer.out))
    return known


def _address(text: str) -> str:
    try:
        value: Any = json.loads(text)
        return str(value["address"])
    except (ValueError, KeyError, TypeError):
        return ""


def has_display() -> bool:
    """Whether a browser can be opened here; one of $BROWSER always is."""
    if sys.platform == "darwin" or os.environ.get("BROWSER"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def show(url: str) -> bool:
    """Open a browser at an address; False where none can be opened."""
    return has_display() and webbrowser.open(url)
