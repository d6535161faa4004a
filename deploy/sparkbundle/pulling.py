"""What `pull` is asked for: from one host, from several, or from a job (there or here)."""

import posixpath
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sparkbundle import inventory as inventories
from sparkbundle import job_files, jobs, reach
from sparkbundle.errors import PREFLIGHT, USAGE, SparkbundleError
from sparkbundle.fetching import (
    ROOT,
    Source,
    count,
    local_place,
    require_free,
    source,
    whole,
)
from sparkbundle.fetching import (
    pull as fetch,
)
from sparkbundle.hosts import Hosts
from sparkbundle.inventory import Host
from sparkbundle.jobs_targets import LocalTarget, RemoteTarget
from sparkbundle.state import cluster_place
from sparkbundle.transfer import Moved, progress, target

Results = Mapping[str, Moved | SparkbundleError]


@dataclass(frozen=True, kw_only=True)
class PullOptions:
    """What the user asks for; `name` counts only where there is no inventory."""

    remote: str
    local: str
    inventory: Path | None
    name: str
    on: tuple[str, ...] = ()
    sudo: bool = False
    force: bool = False


def pull(asked: PullOptions) -> Results:
    """Copy to here; what it came to, by host.

    Raises:
        SparkbundleError: what is asked for makes no sense or is not there.
        InterruptedRunError: Ctrl-C; what was not whole was removed.
    """
    found = None if asked.inventory is None else inventories.load(asked.inventory)
    host, job, path = job_files.split(asked.remote, found)
    if (host or job) and asked.on:
        raise _usage(f"{asked.remote!r} says from where: leave --on out")
    if found is None:
        if job is None:
            raise _usage("without an inventory there are only jobs: JOB:PATH, or give -i INVENTORY")
        return {job: _from_here(asked, job, path)}
    with reach.reaching(found) as hosts:
        if job is not None:
            return _from_job(asked, hosts, job, path)
        what = source(path, user=ROOT if asked.sudo else "")
        if host is not None:
            return _fetch(asked, hosts, what, chosen=(found.host(host),))
        return _from_several(asked, hosts, what, reach.choose(found, asked.on))


def _from_job(asked: PullOptions, hosts: Hosts, job: str, path: str) -> Results:
    assert asked.inventory is not None
    if path.startswith("/"):  # the path of a host, most likely
        reach.one(hosts.inventory, job)
    below = job_files.within(path)
    try:
        work = jobs.find(RemoteTarget(hosts, asked.inventory), job).work
    except SparkbundleError as error:
        if "no job" in error.what:
            error.what = f"{error.what}; nor is a host named {job!r}"
        raise
    what = source(posixpath.normpath(f"{work}/{below}"), user=job_files.USER)
    return _fetch(asked, hosts, what, chosen=(hosts.inventory.master,))


def _fetch(asked: PullOptions, hosts: Hosts, what: Source, *, chosen: tuple[Host, ...]) -> Results:
    place = local_place(target(asked.local), what.name)
    return _show(hosts, what, chosen, {host.name: place for host in chosen}, force=asked.force)


def _from_several(
    asked: PullOptions, hosts: Hosts, what: Source, chosen: tuple[Host, ...]
) -> Results:
    top = target(asked.local, several=True)
    places = {
        host.name: local_place(target(f"{top.folder}/{host.name}/"), what.name) for host in chosen
    }
    return _show(hosts, what, chosen, places, force=asked.force)


def _show(
    hosts: Hosts,
    what: Source,
    chosen: tuple[Host, ...],
    places: dict[str, Path],
    *,
    force: bool,
) -> Results:
    with progress(list(places)) as tell:
        return fetch(hosts, what, places=places, chosen=chosen, force=force, tell=tell)


def _from_here(asked: PullOptions, job: str, path: str) -> Moved:
    """A plain copy out of a job's folder in the state directory."""
    began = time.monotonic()
    below = job_files.within(path)
    there = Path(jobs.find(LocalTarget(cluster_place(asked.name)), job).work) / below
    if not there.exists():
        raise SparkbundleError("there is no such file or folder", where=str(there), code=PREFLIGHT)
    place = local_place(target(asked.local), there.name)
    require_free(place, force=asked.force)
    with whole(place, host=job) as aside:
        if there.is_dir():
            shutil.copytree(there, aside / there.name, symlinks=True)
        else:
            shutil.copy2(there, aside / there.name)
    return count(place, seconds=time.monotonic() - began)


def _usage(what: str) -> SparkbundleError:
    return SparkbundleError(what, todo="sparkbundle pull --help", code=USAGE)
