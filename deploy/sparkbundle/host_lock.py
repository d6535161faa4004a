"""The lock of a cluster of hosts: one change at a time, from whatever machine it comes.

A small process on the master host holds a lock file while the connection to it lives, so a run
that was killed, or whose machine is gone, leaves no lock behind. The file is below /run: a
reboot forgets it.
"""

import getpass
import json
import os
import shlex
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from sparkbundle.errors import LOCKED, SparkbundleError
from sparkbundle.hosts import Hosts, as_root
from sparkbundle.inventory import Host

_BEAT_SECONDS = 10
_HOLDER = """
import fcntl, json, os, select, sys
path = "/run/lock/sparkbundle.lock"
handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
file = os.fdopen(handle, "r+")
try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print(json.dumps({"held": False, "by": file.read()}), flush=True)
    sys.exit()
file.truncate(0)
file.write(sys.argv[1])
file.flush()
print(json.dumps({"held": True}), flush=True)
# Each beat is a byte. Six that do not come, or the end of the connection, are the end.
while select.select([0], [], [], 60)[0] and os.read(0, 64):
    pass
file.truncate(0)
"""


@contextmanager
def locked(hosts: Hosts, host: Host, *, command: str) -> Iterator[None]:
    """Hold the lock on `host` while the block runs.

    Raises:
        SparkbundleError: another run holds it (exit code 5), or the host is not reached.
    """
    who = f"{getpass.getuser()}@{socket.gethostname()}"
    since = datetime.now(UTC).isoformat(timespec="seconds")
    told = f"`sparkbundle {command}` of {who} (pid {os.getpid()}) since {since}"
    connection = hosts.connection(host)
    assert connection.transport is not None
    channel = connection.transport.open_session()
    words = f"python3 -c {shlex.quote(_HOLDER)} {shlex.quote(told)}"
    channel.exec_command(as_root(words))
    answer = channel.makefile("r").readline()
    if not answer:
        said = channel.makefile_stderr("r").read().strip()
        raise SparkbundleError(
            f"the lock cannot be taken: {said or 'no answer'}",
            where=host.name,
            todo="look at all hosts: sparkbundle check -i INVENTORY",
        )
    found = json.loads(answer)
    if not found["held"]:
        raise SparkbundleError(
            f"the cluster is locked by {found['by'] or 'another run'}",
            where=host.name,
            todo="wait until it has ended, then run the same command again; "
            "the lock ends with its run, also when that is killed",
            code=LOCKED,
        )
    ended = threading.Event()
    beating = threading.Thread(target=_beat, args=(channel, ended), daemon=True)
    beating.start()
    try:
        yield
    finally:
        ended.set()
        channel.close()


def _beat(channel, ended: threading.Event) -> None:  # type: ignore[no-untyped-def]
    while not ended.wait(_BEAT_SECONDS):
        try:
            channel.sendall(b".")
        except OSError:
            return  # the connection is lost: whoever uses it will say so
