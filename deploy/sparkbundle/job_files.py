"""The words HOST:PATH and JOB:PATH, and the paths below a job's working directory."""

import posixpath

from sparkbundle.errors import USAGE, SparkbundleError
from sparkbundle.inventory import Inventory

# What a job has written is read as the job's user: root would follow any link of a job.
USER = "sparkjob"


def split(given: str, inventory: Inventory | None) -> tuple[str | None, str | None, str]:
    """The host or the job before the colon of HOST:PATH and JOB:PATH, and the path.

    A name of the inventory is a host, every other a job. What has a slash before the colon,
    or no colon, is a path.
    """
    before, colon, path = given.partition(":")
    if not colon or not before or "/" in before:
        return None, None, given
    if inventory is not None and any(host.name == before for host in inventory.hosts):
        return before, None, path
    return None, before, path


def within(path: str) -> str:
    """A path below a job's working directory, `.` for all of it.

    Raises:
        SparkbundleError: it leads out of it (exit code 2).
    """
    plain = posixpath.normpath(path or ".")
    if plain.startswith("/") or plain.split("/")[0] == "..":
        raise SparkbundleError(
            f"{path!r} is not in the job's working directory",
            todo="name a file or folder below it, such as last:model",
            code=USAGE,
        )
    return plain
