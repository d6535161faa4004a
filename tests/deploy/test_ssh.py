"""A real SSH server in this process for the tests of host commands, and `sparkbundle ssh`.

No OpenSSH server is needed: paramiko's speaks the same protocol. As sshd does, it runs a
command in a session of its own, closes the command's input with the channel, and forwards.
"""

import functools
import os
import select
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import paramiko
import pytest

from sparkbundle.errors import AUTHENTICATION, UNREACHABLE, SparkbundleError
from sparkbundle.hosts import Hosts
from sparkbundle.inventory import Host, Inventory
from sparkbundle.shell import ssh_words


class _Server(paramiko.ServerInterface):
    def __init__(self, host: "SshHost") -> None:
        self.host = host
        self.dialled: dict[int, tuple[str, int]] = {}

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        known = key == self.host.user_key
        return paramiko.AUTH_SUCCESSFUL if known else paramiko.AUTH_FAILED

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        threading.Thread(
            target=self.host.execute, args=(channel, command.decode()), daemon=True
        ).start()
        return True

    def check_channel_direct_tcpip_request(
        self, chanid: int, origin: tuple[str, int], destination: tuple[str, int]
    ) -> int:
        if not self.host.forwards:
            return paramiko.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
        try:
            server = socket.create_connection(destination, timeout=5)
        except OSError:
            return paramiko.OPEN_FAILED_CONNECT_FAILED
        self.host.forwarded.append(destination)
        self.host.pending[chanid] = server
        return paramiko.OPEN_SUCCEEDED


class SshHost:
    """An SSH server on a free port of the loopback address; its commands run in `home`."""

    def __init__(self, home: Path, user_key: paramiko.PKey, name: str) -> None:
        self.home = home
        self.name = name
        self.user_key = user_key
        self.host_key = paramiko.ECDSAKey.generate()
        self.forwards = True
        self.forwarded: list[tuple[str, int]] = []
        self.pending: dict[int, socket.socket] = {}
        self.transports: list[paramiko.Transport] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        home.mkdir(parents=True, exist_ok=True)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(paramiko.SSHException, EOFError, OSError):
            transport = paramiko.Transport(client)
            transport.add_server_key(self.host_key)
            self.transports.append(transport)
            transport.start_server(server=_Server(self))
            while transport.is_active():
                channel = transport.accept(1)
                if channel is not None and channel.chanid in self.pending:
                    server = self.pending.pop(channel.chanid)
                    threading.Thread(target=_relay, args=(channel, server), daemon=True).start()

    def execute(self, channel: paramiko.Channel, command: str) -> None:
        process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            cwd=self.home,
            env=os.environ | {"HOME": str(self.home)},
            start_new_session=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

        def give() -> None:
            with suppress(OSError):
                while block := channel.recv(1 << 16):
                    process.stdin.write(block)
                    process.stdin.flush()
            with suppress(OSError):
                process.stdin.close()

        def take(stream, send) -> None:
            with suppress(OSError):
                while block := os.read(stream.fileno(), 1 << 16):
                    send(block)

        threading.Thread(target=give, daemon=True).start()
        threads = [
            threading.Thread(target=take, args=(process.stdout, channel.sendall), daemon=True),
            threading.Thread(
                target=take, args=(process.stderr, channel.sendall_stderr), daemon=True
            ),
        ]
        for thread in threads:
            thread.start()
        code = process.wait()
        for thread in threads:
            thread.join()
        with suppress(OSError, EOFError):
            channel.send_exit_status(code if code >= 0 else 128 - code)
            channel.close()

    def drop(self) -> None:
        """Lose all connections, as a reboot does; new ones are taken."""
        for transport in self.transports:
            transport.close()
        self.transports.clear()

    def close(self) -> None:
        # shutdown ends accept() in the other thread, close alone does not.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop()


def _relay(channel: paramiko.Channel, server: socket.socket) -> None:
    with server, channel, suppress(OSError):
        while True:
            ready, _, _ = select.select([channel, server], [], [], 30)
            if not ready:
                return
            for one, other in ((channel, server), (server, channel)):
                if one in ready:
                    block = one.recv(1 << 16)
                    if not block:
                        return
                    other.sendall(block)


@functools.cache
def user_key() -> paramiko.RSAKey:
    """The key of the user, the same in all tests: making one takes time."""
    return paramiko.RSAKey.generate(2048)


class Lab:
    """Some SSH hosts and their inventory."""

    def __init__(self, directory: Path, *, names: tuple[str, ...]) -> None:
        self.directory = directory
        key = user_key()
        self.key = directory / "key"
        key.write_private_key_file(str(self.key))
        self.servers = {name: SshHost(directory / name, key, name) for name in names}
        self.path = directory / "hosts.yml"
        self.write()

    def inventory(self, **more: object) -> Inventory:
        hosts = tuple(
            Host(
                name=name,
                groups=frozenset({"master" if name == "boss" else "workers"}),
                ssh_host="127.0.0.1",
                ssh_port=server.port,
                ssh_user="tester",
                ssh_key=str(self.key),
                address="127.0.0.1",
                labels=("fast",) if name == "w1" else (),
            )
            for name, server in self.servers.items()
        )
        return Inventory(path=self.path, name="lab", hosts=hosts, **more)  # type: ignore[arg-type]

    def write(self) -> None:
        """Write the inventory as a file for the command line."""
        lines = ["all:", "  vars:", "    cluster_name: lab", "    ansible_user: tester"]
        lines += [f"    ansible_ssh_private_key_file: {self.key}", "  children:"]
        for group in ("master", "workers"):
            lines += [f"    {group}:", "      hosts:"]
            for name, server in self.servers.items():
                if (name == "boss") == (group == "master"):
                    lines += [f"        {name}:", "          ansible_host: 127.0.0.1"]
                    lines += [f"          ansible_port: {server.port}"]
        self.path.write_text("\n".join(lines) + "\n")

    def close(self) -> None:
        for server in self.servers.values():
            server.close()


@contextmanager
def lab_of(directory: Path, *names: str) -> Iterator[Lab]:
    """A lab while the block runs."""
    lab = Lab(directory, names=names)
    try:
        yield lab
    finally:
        lab.close()


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setenv("SPARKBUNDLE_STATE", str(tmp_path / "state"))
    with lab_of(tmp_path, "boss", "w1") as made:
        yield made


def test_ssh_has_the_inventorys_values_and_this_clusters_keys(tmp_path: Path):
    host = Host(
        name="w1",
        groups=frozenset({"workers"}),
        ssh_host="10.0.0.7",
        ssh_port=2222,
        ssh_user="ada",
        ssh_key="/keys/a key",
    )
    words = ssh_words(host, known_hosts=tmp_path / "known hosts", words=("ls", "a b"))
    assert words[-3:] == ["--", "10.0.0.7", "ls 'a b'"]
    assert words[7:13] == ["-p", "2222", "-l", "ada", "-i", "/keys/a key"]
    assert f'UserKnownHostsFile="{tmp_path}/known hosts"' in words
    assert "StrictHostKeyChecking=yes" in words
    plain = Host(name="w1", groups=frozenset(), ssh_host="w1.example")
    assert not {"-p", "-l", "-i"} & set(ssh_words(plain, known_hosts=tmp_path / "k"))


@pytest.mark.skipif(shutil.which("ssh") is None, reason="there is no ssh here")
def test_openssh_takes_the_key_that_was_learned_and_no_other(lab: Lab):
    inventory = lab.inventory()
    with Hosts(inventory) as hosts:
        hosts.connection(inventory.master)
        words = ssh_words(inventory.master, known_hosts=hosts.known_hosts, words=("echo $((6*7))",))
    run = ["ssh", "-F", "/dev/null", "-o", "BatchMode=yes", *words[1:]]
    done = subprocess.run(run, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "42\n"), done.stderr
    lab.servers["boss"].host_key = paramiko.ECDSAKey.generate()
    done = subprocess.run(run, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 255
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in done.stderr


def test_a_changed_key_a_refused_key_and_no_host_have_their_codes(lab: Lab, tmp_path: Path):
    inventory = lab.inventory()
    with Hosts(inventory) as hosts:
        hosts.connection(inventory.master)
        assert list(hosts.learned) == ["boss"]
    with Hosts(inventory) as hosts:
        hosts.connection(inventory.master)
        assert hosts.learned == {}
    lab.servers["boss"].host_key = paramiko.ECDSAKey.generate()
    with Hosts(inventory) as hosts, pytest.raises(SparkbundleError, match="another host key") as e:
        hosts.connection(inventory.master)
    assert e.value.code == UNREACHABLE
    lab.servers["w1"].user_key = paramiko.RSAKey.generate(2048)
    with Hosts(inventory) as hosts, pytest.raises(SparkbundleError) as e:
        hosts.connection(inventory.host("w1"))
    assert e.value.code == AUTHENTICATION
    lab.servers["w1"].close()
    with Hosts(inventory) as hosts, pytest.raises(SparkbundleError) as e:
        hosts.connection(inventory.host("w1"))
    assert e.value.code == UNREACHABLE


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent does not."""
    try:
        os.kill(pid, signal.SIG_DFL)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state != "Z"
