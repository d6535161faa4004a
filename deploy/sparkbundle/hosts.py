"""SSH to the hosts of an inventory: Fabric connections, all hosts at once, keys verified.

Fabric accepts any host key unless it is told not to. Here a key is learned when a host is
met for the first time, into a file of this cluster's own, and after that only this key will do.
"""

import logging
import shlex
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import paramiko
from fabric import Config, Connection

from sparkbundle.errors import AUTHENTICATION, UNREACHABLE, SparkbundleError
from sparkbundle.files import make_private_directory
from sparkbundle.inventory import Host, Inventory
from sparkbundle.state import state_directory

CONNECT_SECONDS = 10.0
KEEPALIVE_SECONDS = 15
_AT_ONCE = 50
T = TypeVar("T")
# What goes wrong is raised, and told once. Without a handler Python prints what paramiko notes
# about it, with tracebacks, on stderr.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a command on a host came to: its exit code and what it printed."""

    host: str
    code: int
    out: str
    err: str


def cluster_directory(name: str) -> Path:
    """Where this machine keeps what it knows of a cluster of hosts: `hosts/NAME` in the state."""
    return state_directory() / "hosts" / name


@dataclass
class Hosts:
    """Connections to the hosts of one inventory; use it as a context manager.

    `learned` has the fingerprints of the host keys met for the first time, by host.
    """

    inventory: Inventory
    learned: dict[str, str] = field(default_factory=dict)
    _connections: dict[str, Connection] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def known_hosts(self) -> Path:
        """The file of this cluster's host keys, in OpenSSH's format."""
        return cluster_directory(self.inventory.name) / "known_hosts"

    def __enter__(self) -> "Hosts":
        """Make the directory of the host keys; connections are opened on first use."""
        make_private_directory(self.known_hosts.parent)
        self.known_hosts.touch(mode=0o600)
        return self

    def __exit__(self, *_: object) -> None:
        """Close all connections."""
        for connection in self._connections.values():
            connection.close()

    def connection(self, host: Host) -> Connection:
        """An open connection to a host, the same one for every caller.

        Raises:
            SparkbundleError: it is not reached (exit code 4), shows another key than before
                (4), or takes none of our keys (6).
        """
        with self._lock:
            connection = self._connections.get(host.name)
            if connection is None:
                connection = self._connections[host.name] = self._make(host)
        if not connection.is_connected:
            with _explained(host, self.known_hosts):
                connection.open()
                assert connection.transport is not None
                # A lost network is noticed, and no firewall forgets an idle connection.
                connection.transport.set_keepalive(KEEPALIVE_SECONDS)
        return connection

    def drop(self, host: Host) -> None:
        """Close the connection to a host; the next use opens another one."""
        with self._lock:
            connection = self._connections.pop(host.name, None)
        if connection is not None:
            connection.close()

    def _make(self, host: Host) -> Connection:
        options: dict[str, object] = {"allow_agent": True, "look_for_keys": host.ssh_key is None}
        if host.ssh_key is not None:
            options |= _key(Path(host.ssh_key).expanduser())
        connection = Connection(
            host.ssh_host,
            user=host.ssh_user,
            port=host.ssh_port,
            connect_timeout=CONNECT_SECONDS,
            connect_kwargs=options,
            config=Config(lazy=False),
        )
        connection.client.load_host_keys(str(self.known_hosts))
        connection.client.set_missing_host_key_policy(_Learn(self, host.name))
        return connection

    def run(
        self,
        host: Host,
        command: str,
        *,
        sudo: bool = False,
        given: bytes = b"",
        timeout: float | None = None,
    ) -> Answer:
        """Run a command on a host with `given` on its standard input, and wait for its end.

        Raises:
            SparkbundleError: the host is lost, or there is no end after `timeout` seconds.
        """
        connection = self.connection(host)
        words = as_root(command) if sudo else command
        with _explained(host, self.known_hosts):
            assert connection.transport is not None
            channel = connection.transport.open_session()
            channel.settimeout(timeout)
            channel.exec_command(words)
            threading.Thread(target=_send, args=(channel, given), daemon=True).start()
            out, err = _read(channel)
            code = channel.recv_exit_status()
            channel.close()
        return Answer(
            host=host.name,
            code=code,
            out=out.decode(errors="replace"),
            err=err.decode(errors="replace"),
        )

    @contextmanager
    def session(self, host: Host, command: str) -> Iterator[paramiko.Channel]:
        """A channel on which a command runs; it is closed when the block ends.

        Raises:
            SparkbundleError: the host is not reached, or the block lost it.
        """
        connection = self.connection(host)
        with _explained(host, self.known_hosts):
            assert connection.transport is not None
            with connection.transport.open_session() as channel:
                channel.exec_command(command)
                yield channel

    def each(
        self, work: Callable[[Host], T], hosts: Iterable[Host] | None = None
    ) -> dict[str, T | SparkbundleError]:
        """Do `work` for all hosts at once; what it returned or failed with, by host."""
        chosen = list(self.inventory.hosts if hosts is None else hosts)

        def one(host: Host) -> T | SparkbundleError:
            try:
                return work(host)
            except SparkbundleError as error:
                return error

        with ThreadPoolExecutor(min(max(len(chosen), 1), _AT_ONCE)) as pool:
            return dict(zip([h.name for h in chosen], pool.map(one, chosen), strict=True))


def as_root(command: str) -> str:
    """The shell command that runs `command` as root, whoever signs in."""
    script = f'if [ "$(id -u)" = 0 ]; then exec {command}; else exec sudo -n {command}; fi'
    return f"exec sh -c {shlex.quote(script)}"


class _Learn(paramiko.MissingHostKeyPolicy):
    """Keeps the key of a host that was never met; a changed key never comes here."""

    def __init__(self, hosts: Hosts, name: str) -> None:
        self._hosts = hosts
        self._name = name

    def missing_host_key(
        self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey
    ) -> None:
        with self._hosts._lock, self._hosts.known_hosts.open("a", encoding="utf-8") as file:
            file.write(f"{hostname} {key.get_name()} {key.get_base64()}\n")
        client.get_host_keys().add(hostname, key.get_name(), key)
        self._hosts.learned[self._name] = f"{key.get_name()} {key.fingerprint}"


def _key(path: Path) -> dict[str, object]:
    """The key of a host, as paramiko takes it."""
    try:
        # Given only its name, paramiko reads the key as one of every other type as well; where
        # the host refuses the key, it reports that those do not fit.
        return {"pkey": paramiko.PKey.from_path(path)}
    except (OSError, TypeError, ValueError, paramiko.SSHException):
        return {"key_filename": str(path)}  # it says what is wrong, or the agent has the key


def _send(channel: paramiko.Channel, given: bytes) -> None:
    try:
        channel.sendall(given)
        channel.shutdown_write()
    except OSError:
        pass  # the command ended without reading it all


def _read(channel: paramiko.Channel) -> tuple[bytes, bytes]:
    """Both streams to their ends, in turn enough that neither fills and stops the other."""
    parts: list[bytes] = []
    thread = threading.Thread(target=_drain, args=(channel, parts), daemon=True)
    thread.start()
    out = bytearray()
    while block := channel.recv(1 << 16):
        out += block
    thread.join()
    return bytes(out), b"".join(parts)


def _drain(channel: paramiko.Channel, parts: list[bytes]) -> None:
    try:
        while block := channel.recv_stderr(1 << 16):
            parts.append(block)
    except OSError:
        pass  # the reader of the other stream says what went wrong


@contextmanager
def _explained(host: Host, known_hosts: Path) -> Iterator[None]:
    """Turn what paramiko raises into one message."""
    where = f"{host.name} ({host.ssh_host}:{host.ssh_port or 22})"
    try:
        yield
    except paramiko.BadHostKeyException as error:
        raise SparkbundleError(
            f"shows another host key than before: {error.key.fingerprint} instead of "
            f"{error.expected_key.fingerprint}. It is another machine, or somebody is in between",
            where=where,
            todo=f"if you know why, remove its line from {known_hosts} "
            "(or your own known_hosts), and run the same command again",
            code=UNREACHABLE,
        ) from error
    except (paramiko.AuthenticationException, paramiko.PasswordRequiredException) as error:
        raise SparkbundleError(
            f"takes none of our keys: {error}",
            where=where,
            todo=f"is {host.ssh_key} the right key, and its public half in authorized_keys there?"
            if host.ssh_key
            else "name the key in the inventory (ansible_ssh_private_key_file) or load it: ssh-add",
            code=AUTHENTICATION,
        ) from error
    except TimeoutError as error:
        raise SparkbundleError(
            "does not answer in time", where=where, todo=_try(host), code=UNREACHABLE
        ) from error
    except (paramiko.SSHException, OSError, EOFError) as error:
        said = str(error) or type(error).__name__
        raise SparkbundleError(
            f"cannot be reached: {said}", where=where, todo=_try(host), code=UNREACHABLE
        ) from error


def _try(host: Host) -> str:
    user = f"{host.ssh_user}@" if host.ssh_user else ""
    port = f" -p {host.ssh_port}" if host.ssh_port else ""
    key = f" -i {host.ssh_key}" if host.ssh_key else ""
    return f"see why: ssh{port}{key} {user}{host.ssh_host}"
