"""Connections to addresses that only a host of the cluster can reach, through its SSH server."""

import io
import threading
from typing import Any, BinaryIO

import paramiko
from fabric import Connection

from sparkbundle.errors import SparkbundleError
from sparkbundle.hosts import Hosts
from sparkbundle.inventory import Host
from sparkbundle.wire import OPEN_SECONDS, READ_SECONDS, Wire, nobody

_BUFFER = 1 << 16
_PROHIBITED = 1


class Tunnel:
    """Connects as a host would; a lost SSH connection is opened again on next use."""

    def __init__(
        self, hosts: Hosts, *, via: Host | None = None, read_seconds: float | None = READ_SECONDS
    ) -> None:
        """Nothing is opened yet. `via` is the host, by default the master's.

        An answer may take `read_seconds` to go on (None: for ever).
        """
        self._hosts = hosts
        self._read_seconds = read_seconds
        self._host = via or hosts.inventory.master
        self._lock = threading.Lock()
        self._connection: Connection | None = None

    def dial(self, address: str, port: int) -> Wire:
        """Connect from the host; errors as for `channel`."""
        return _ChannelWire(self.channel(address, port))

    def channel(self, address: str, port: int) -> paramiko.Channel:
        """Connect from the host.

        Raises:
            SparkbundleError: the host is not reached, or nobody answers it at the address.
        """
        try:
            return self._open(address, port)
        except (paramiko.SSHException, OSError, EOFError):
            # The connection was lost since it was used last, as by a laptop that slept.
            pass
        try:
            return self._open(address, port)
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise nobody(address, port) from error

    def _open(self, address: str, port: int) -> paramiko.Channel:
        with self._lock:  # one thread opens it, not all those of a page at once
            connection = self._connection = self._hosts.connection(self._host)
        try:
            assert connection.transport is not None
            channel: paramiko.Channel = connection.transport.open_channel(
                "direct-tcpip", (address, port), ("127.0.0.1", 0), timeout=OPEN_SECONDS
            )
        except paramiko.ChannelException as error:
            raise self._refused(error, address, port) from error
        except (paramiko.SSHException, OSError, EOFError):
            self._forget(connection)
            raise
        channel.settimeout(self._read_seconds)
        return channel

    def _forget(self, connection: Connection) -> None:
        with self._lock:
            # Another thread may have opened a new one meanwhile.
            if self._connection is connection:
                self._hosts.drop(self._host)
                self._connection = None

    def _refused(
        self, error: paramiko.ChannelException, address: str, port: int
    ) -> SparkbundleError:
        if error.code == _PROHIBITED:
            return SparkbundleError(
                "its SSH server forwards no connections",
                where=self._host.name,
                todo="allow it for this user in sshd_config there: AllowTcpForwarding local",
            )
        return nobody(address, port)


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
