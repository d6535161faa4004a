"""Connections to addresses that only the master's host can reach, through its SSH server."""

import io
import socket
import threading
from collections.abc import Callable
from typing import Any, BinaryIO, Protocol

import paramiko
from fabric import Connection

from sparkbundle.errors import UNREACHABLE, SparkbundleError
from sparkbundle.hosts import Hosts

# A server tries an address for as long before it says that nobody answers.
_OPEN_SECONDS = 10.0
_READ_SECONDS = 60.0
_BUFFER = 1 << 16
_PROHIBITED = 1


class Wire(Protocol):
    """What http.client needs of a connection."""

    def sendall(self, data: bytes, /) -> None:
        """Send all of it."""

    def makefile(self, mode: str, /) -> BinaryIO:
        """A file to read from."""

    def close(self) -> None:
        """Close it, as soon as its file is closed as well."""


# Connects to a port of an address.
Dial = Callable[[str, int], Wire]


def dial_here(address: str, port: int) -> Wire:
    """Connect from this machine.

    Raises:
        SparkbundleError: nobody answers.
    """
    try:
        wire = socket.create_connection((address, port), timeout=_OPEN_SECONDS)
    except OSError as error:
        raise _nobody(address, port) from error
    wire.settimeout(_READ_SECONDS)
    return wire  # type: ignore[return-value]


class Tunnel:
    """Connects as the master's host would; a lost SSH connection is opened again on next use."""

    def __init__(self, hosts: Hosts, *, read_seconds: float = _READ_SECONDS) -> None:
        """Nothing is opened yet; an answer may take `read_seconds` to go on."""
        self._hosts = hosts
        self._read_seconds = read_seconds
        self._master = hosts.inventory.master
        self._lock = threading.Lock()
        self._connection: Connection | None = None

    def dial(self, address: str, port: int) -> Wire:
        """Connect from the master's host.

        Raises:
            SparkbundleError: the host is not reached, or nobody answers it at the address.
        """
        try:
            return self._dial(address, port)
        except (paramiko.SSHException, OSError, EOFError):
            # The connection was lost since it was used last, as by a laptop that slept.
            pass
        try:
            return self._dial(address, port)
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise _nobody(address, port) from error

    def _dial(self, address: str, port: int) -> Wire:
        with self._lock:  # one thread opens it, not all those of a page at once
            connection = self._connection = self._hosts.connection(self._master)
        try:
            assert connection.transport is not None
            channel = connection.transport.open_channel(
                "direct-tcpip", (address, port), ("127.0.0.1", 0), timeout=_OPEN_SECONDS
            )
        except paramiko.ChannelException as error:
            raise self._refused(error, address, port) from error
        except (paramiko.SSHException, OSError, EOFError):
            self._forget(connection)
            raise
        channel.settimeout(self._read_seconds)
        return _ChannelWire(channel)

    def _forget(self, connection: Connection) -> None:
        with self._lock:
            # Another thread may have opened a new one meanwhile.
            if self._connection is connection:
                self._hosts.drop(self._master)
                self._connection = None

    def _refused(
        self, error: paramiko.ChannelException, address: str, port: int
    ) -> SparkbundleError:
        if error.code == _PROHIBITED:
            return SparkbundleError(
                "its SSH server forwards no connections",
                where=self._master.name,
                todo="allow it for this user in sshd_config there: AllowTcpForwarding local",
            )
        return _nobody(address, port)


class _ChannelWire:
    """A channel with the manners of a socket: closed, it lives on until its file is closed."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel
        self._read = False

    def sendall(self, data: bytes) -> None:
        self._channel.sendall(data)

    def makefile(self, mode: str) -> BinaryIO:
        assert mode == "rb"
        self._read = True
        return io.BufferedReader(_ChannelFile(self._channel), _BUFFER)

    def close(self) -> None:
        if not self._read:
            self._channel.close()


class _ChannelFile(io.RawIOBase):
    def __init__(self, channel: paramiko.Channel) -> None:
        super().__init__()
        self._channel = channel

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        block = self._channel.recv(len(view))
        view[: len(block)] = block
        return len(block)

    def close(self) -> None:
        if not self.closed:
            self._channel.close()
        super().close()


def _nobody(address: str, port: int) -> SparkbundleError:
    return SparkbundleError(
        "does not answer",
        where=f"{address}:{port}",
        todo="see what runs: sparkbundle status",
        code=UNREACHABLE,
    )
