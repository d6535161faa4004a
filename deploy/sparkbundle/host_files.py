"""The private files of a cluster on its hosts."""

import shlex

from sparkbundle.errors import PREFLIGHT, PreflightError, SparkbundleError
from sparkbundle.hosts import Hosts
from sparkbundle.inventory import Host


def read_as_root(hosts: Hosts, host: Host, path: str) -> str:
    """The text of a file that `up` has made and only root may read.

    Raises:
        PreflightError: there is none.
        SparkbundleError: the host is not reached (4), or its user may not use sudo (3).
    """
    answer = hosts.run(host, f"cat {shlex.quote(path)}", sudo=True)
    if answer.code == 0:
        return answer.out
    said = answer.err.strip().splitlines() or [f"{path} cannot be read"]
    if "No such file" in said[-1]:
        raise PreflightError(
            "no cluster is up here",
            where=host.name,
            todo=f"sparkbundle up -i {hosts.inventory.path}",
        )
    raise SparkbundleError(
        f"the cluster's secrets cannot be read: {said[-1]}",
        where=host.name,
        todo="let this user use sudo without a password there, or sign in as one who may",
        code=PREFLIGHT,
    )
