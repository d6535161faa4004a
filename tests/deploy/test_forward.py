"""A port of this machine that leads to one on a host, through a real SSH server."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from sparkbundle.errors import PREFLIGHT, PreflightError
from sparkbundle.forward import Forward
from sparkbundle.hosts import Hosts
from sparkbundle.tunnel import Tunnel
from tests.deploy.conftest import wait_until
from tests.deploy.test_ssh import Lab, lab_of

LARGE = bytes(range(256)) * (1 << 12)  # 1 MiB
Talk = Callable[[socket.socket], None]


def all_of(wire: socket.socket) -> bytes:
    """What comes until the other side ends."""
    return b"".join(iter(lambda: wire.recv(1 << 16), b""))


def echo(wire: socket.socket) -> None:
    while block := wire.recv(1 << 16):
        wire.sendall(block)


@contextmanager
def serving(talk: Talk, *, port: int = 0) -> Iterator[int]:
    """A server whose connections each have `talk`; its port."""
    listener = socket.create_server(("127.0.0.1", port))

    def one(wire: socket.socket) -> None:
        with wire, suppress(OSError):
            talk(wire)

    def accept() -> None:
        with suppress(OSError):
            while True:
                wire, _ = listener.accept()
                threading.Thread(target=one, args=(wire,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setenv("SPARKBUNDLE_STATE", str(tmp_path / "state"))
    with lab_of(tmp_path, "boss", "w1") as made:
        yield made


@contextmanager
def forwarding(lab: Lab, *, to: int, port: int = 0) -> Iterator[Forward]:
    inventory = lab.inventory()
    with Hosts(inventory) as hosts:
        tunnel = Tunnel(hosts, via=inventory.host("w1"), read_seconds=None)
        made = Forward(tunnel, to=to, port=port)
        made.run()
        try:
            yield made
        finally:
            made.close()


def dial(forward: Forward) -> socket.socket:
    return socket.create_connection(("127.0.0.1", forward.port), timeout=30)


def test_bytes_go_both_ways_by_the_host_that_was_named(lab: Lab):
    with serving(echo) as to, forwarding(lab, to=to) as forward, dial(forward) as wire:
        for said in (b"a", b"\x00\xff", b"again"):
            wire.sendall(said)
            assert wire.recv(100) == said
        assert lab.servers["w1"].forwarded == [("127.0.0.1", to)]
        assert lab.servers["boss"].forwarded == []


def test_it_listens_on_the_loopback_address_only(lab: Lab):
    with forwarding(lab, to=1) as forward:
        assert forward.server_address == ("127.0.0.1", forward.port)


def test_nothing_is_opened_on_the_host_before_somebody_comes(lab: Lab):
    with serving(echo) as to, forwarding(lab, to=to):
        assert lab.servers["w1"].transports == []


def test_a_large_answer_arrives_whole_although_the_server_closes_at_once(lab: Lab):
    def answer(wire: socket.socket) -> None:
        wire.recv(100)
        wire.sendall(LARGE * 4)

    with serving(answer) as to, forwarding(lab, to=to) as forward, dial(forward) as wire:
        wire.sendall(b"?")
        assert all_of(wire) == LARGE * 4


def test_all_that_was_sent_arrives_although_the_client_closes_at_once(lab: Lab):
    came: list[bytes] = []

    def take(wire: socket.socket) -> None:
        came.append(all_of(wire))

    with serving(take) as to, forwarding(lab, to=to) as forward:
        with dial(forward) as wire:
            wire.sendall(LARGE)
        assert wait_until(lambda: came, seconds=30) == [LARGE]


def test_large_ones_go_both_ways_at_once(lab: Lab):
    with serving(echo) as to, forwarding(lab, to=to) as forward, dial(forward) as wire:
        threading.Thread(target=wire.sendall, args=(LARGE * 2,), daemon=True).start()
        left = memoryview(bytearray(len(LARGE) * 2))
        come = 0
        while come < len(left) and (more := wire.recv_into(left[come:])):
            come += more
        assert left == LARGE * 2


def test_a_browser_that_breaks_off_does_no_harm(lab: Lab, capfd: pytest.CaptureFixture[str]):
    ended = threading.Event()

    def talk(wire: socket.socket) -> None:
        try:
            while True:
                wire.sendall(LARGE)
        finally:
            ended.set()

    with serving(talk) as to, forwarding(lab, to=to) as forward:
        with dial(forward) as wire:
            wire.recv(1)
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        assert ended.wait(30), "the server hears of it"
    assert capfd.readouterr().err == ""


def test_several_connections_at_once_share_one_ssh_connection(lab: Lab):
    with serving(echo) as to, forwarding(lab, to=to) as forward:
        wires = [dial(forward) for _ in range(12)]
        for number, wire in enumerate(wires):
            wire.sendall(f"I am {number}".encode())
        for number, wire in reversed(list(enumerate(wires))):
            with wire:
                assert wire.recv(100) == f"I am {number}".encode()
        assert len(lab.servers["w1"].transports) == 1


def test_a_lost_connection_is_opened_again(lab: Lab):
    with serving(echo) as to, forwarding(lab, to=to) as forward:
        with dial(forward) as wire:
            wire.sendall(b"a")
            assert wire.recv(1) == b"a"
            lab.servers["w1"].drop()
            assert all_of(wire) == b""
        with dial(forward) as wire:
            wire.sendall(b"b")
            assert wire.recv(1) == b"b"


def test_a_tunnel_that_fails_says_so_once_and_works_when_it_is_back(
    lab: Lab, capsys: pytest.CaptureFixture[str]
):
    def warnings() -> list[str]:
        return [line for line in capsys.readouterr().err.splitlines() if "warning" in line]

    with serving(echo) as to, forwarding(lab, to=to) as forward:

        def refused() -> None:
            with dial(forward) as wire:
                assert all_of(wire) == b""

        def answered() -> None:
            with dial(forward) as wire:
                wire.sendall(b"a")
                assert wire.recv(1) == b"a"

        lab.servers["w1"].forwards = False
        for _ in range(3):
            refused()
        (line,) = warnings()
        assert "w1: its SSH server forwards no connections" in line
        lab.servers["w1"].forwards = True
        answered()
        assert warnings() == []
        lab.servers["w1"].forwards = False
        refused()
        assert len(warnings()) == 1


def test_a_server_that_is_not_there_says_so_and_works_when_it_is_back(
    lab: Lab, capsys: pytest.CaptureFixture[str]
):
    with serving(echo) as to:
        pass
    with forwarding(lab, to=to) as forward:
        with dial(forward) as wire:
            assert all_of(wire) == b""
        assert f"127.0.0.1:{to}: does not answer" in capsys.readouterr().err
        with serving(echo, port=to), dial(forward) as wire:
            wire.sendall(b"a")
            assert wire.recv(1) == b"a"


def test_a_port_that_is_taken_is_told_with_its_holder(lab: Lab):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PreflightError) as caught, forwarding(lab, to=1, port=port):
            pass
    assert caught.value.code == PREFLIGHT
    assert caught.value.what.startswith(f"port {port} is taken by process {os.getpid()}")
    assert "--port" in caught.value.todo


def test_closed_it_no_longer_answers_and_the_port_can_be_used_again_at_once(lab: Lab):
    with serving(lambda wire: wire.sendall(b"bye")) as to:
        with forwarding(lab, to=to) as forward, dial(forward) as wire:
            assert all_of(wire) == b"bye"  # this side has closed first: TIME_WAIT
        with closing(socket.socket()) as stranger:
            assert stranger.connect_ex(("127.0.0.1", forward.port)) != 0
        with forwarding(lab, to=to, port=forward.port) as again, dial(again) as wire:
            assert all_of(wire) == b"bye"
