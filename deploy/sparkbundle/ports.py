"""Ports on the loopback address: free ones, and who holds those that are not."""

import random
import socket
from collections.abc import Set
from contextlib import suppress

import psutil

from sparkbundle.errors import PreflightError

HOST = "127.0.0.1"
# Below the range from which the kernel gives ports to outgoing connections:
# such a connection could hold the port of a master that has to start again.
_FIRST, _LAST = 20000, 32000
_TRIES = 200


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of the loopback address now."""
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((HOST, port))
        except OSError:
            return False
        return True


def choose_free(*, but: frozenset[int] = frozenset()) -> int:
    """A free port, none of `but`.

    Raises:
        PreflightError: none was found.
    """
    for _ in range(_TRIES):
        port = random.randint(_FIRST, _LAST)  # noqa: S311 - no secret
        if port not in but and is_free(port):
            return port
    raise PreflightError(
        f"no free port between {_FIRST} and {_LAST} on {HOST}",
        todo="give free ports: --master-port, --ui-port",
    )


def require_free(port: int, *, option: str, but_held_by: Set[int] = frozenset()) -> None:
    """Check a port that the user gave; the processes of `but_held_by` will have left it.

    Raises:
        PreflightError: it is taken, with the process that holds it if that can be known.
    """
    if is_free(port) or _listener(port) in but_held_by:
        return
    raise taken(
        port,
        todo=f"stop that process, give another {option}, or leave it out: a free one is chosen",
    )


def taken(port: int, *, todo: str = "leave --port out: a free one is chosen") -> PreflightError:
    """The error for a port of the loopback address that somebody else has."""
    return PreflightError(f"port {port} is taken by {holder(port)}", where=HOST, todo=todo)


def holder(port: int) -> str:
    """The process that listens on a port, in words."""
    pid = _listener(port)
    if pid is not None:
        with suppress(psutil.Error):
            return f"process {pid} ({psutil.Process(pid).name()})"
    return "a process that cannot be seen from here (another user's)"


def _listener(port: int) -> int | None:
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:  # macOS shows sockets to root only
        return None
    for connection in connections:
        address = connection.laddr
        if connection.status == psutil.CONN_LISTEN and address and address.port == port:
            return connection.pid
    return None


def answers(port: int) -> bool:
    """Whether something listens on this port of the loopback address."""
    with socket.socket() as client:
        client.settimeout(2)
        return client.connect_ex((HOST, port)) == 0
