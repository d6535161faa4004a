"""Which folders the hosts of a place share: only there may executors open files by path.

Tasks in this process see what it sees, and so does a cluster whose master listens on the
loopback address: all its workers are on this machine. Of any other cluster nothing is
assumed. $SPARKBUNDLE_SHARED_FOLDERS says otherwise, in both directions.
"""

import ipaddress
import os
import socket
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from sentiment.errors import USAGE, SentimentError

VARIABLE: Final = "SPARKBUNDLE_SHARED_FOLDERS"
"""Folders, with `:` between them, that every host sees under the same path; empty: none is."""

SHARE_A_FOLDER: Final = (
    "use a folder that every host sees under the same path; "
    f"if they share none, set this to nothing: {VARIABLE}="
)
"""What to do when a host does not see a path that was held to be shared."""


def shared(master: str, *paths: Path | str) -> bool:
    """Whether every host of the cluster at this Spark master URL sees these paths.

    Raises:
        SentimentError: the variable names a folder by a relative path.
    """
    if master.startswith("local"):
        return True
    declared = os.environ.get(VARIABLE)
    if declared is None:
        return _is_loopback(master)
    folders = [_absolute(folder) for folder in declared.split(os.pathsep) if folder]
    # As executors are given it: a symbolic link of this host need not be one of theirs.
    given = [Path(os.path.abspath(path)) for path in paths]  # noqa: PTH100 - resolves no link
    return all(any(path.is_relative_to(folder) for folder in folders) for path in given)


def _absolute(folder: str) -> Path:
    if not Path(folder).is_absolute():
        raise SentimentError(
            f"{folder!r} is no absolute path",
            where=VARIABLE,
            todo="name folders as every host sees them, e.g. /mnt/data:/srv/reviews",
            code=USAGE,
        )
    return Path(os.path.normpath(folder))


def _is_loopback(master: str) -> bool:
    address = urlsplit(master)
    if address.scheme != "spark" or not address.hostname:
        return False
    try:
        found = socket.getaddrinfo(address.hostname, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return all(ipaddress.ip_address(str(entry[4][0])).is_loopback for entry in found)
