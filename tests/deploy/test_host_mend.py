"""Workers that the master has lost; the proof on real hosts is in tests/cluster."""

from types import SimpleNamespace

import pytest

from sparkbundle.errors import SparkbundleError
from sparkbundle.host_mend import Mending, lost_workers
from sparkbundle.master import Application, MasterState, Worker

APPLICATION = Application(id="app-1", name="mine", user="u", cores=2)
NAMES = ("w1", "w2", "w3")


def state(*workers: Worker, status: str = "ALIVE", busy: bool = False) -> MasterState:
    applications = (APPLICATION,) if busy else ()
    return MasterState(url="", status=status, workers=workers, applications=applications)


def worker(name: str, state: str = "ALIVE", *, used: int = 0) -> Worker:
    return Worker(name=name, state=state, cores=2, memory_mib=1024, web="", cores_used=used)


def test_who_is_lost():
    workers = (worker("w1"), worker("w2", "DEAD", used=2), worker("w3", used=1))
    dead, held = "DEAD in the master's list", "cores that no application holds are in use: 1"
    assert lost_workers(state(*workers), NAMES) == {"w2": dead, "w3": held}
    assert lost_workers(state(*workers, busy=True), NAMES) == {"w2": dead}
    # The old entry of a worker that is there again.
    assert lost_workers(state(worker("w1", "DEAD"), worker("w1")), NAMES) == {}
    assert lost_workers(state(*workers, status="RECOVERING"), NAMES) == {}
    assert lost_workers(None, NAMES) == {}


class Hosts:
    """In place of hosts: notes what is run where."""

    def __init__(self, *, fails: bool = False) -> None:
        self.ran: list[tuple[str, str]] = []
        self.fails = fails
        self.inventory = SimpleNamespace(host=lambda name: name)

    def run(self, host: str, command: str, *, sudo: bool, timeout: float) -> None:
        assert sudo
        assert timeout
        self.ran.append((host, command))
        if self.fails:
            raise SparkbundleError("cannot be reached")


def test_only_who_is_lost_all_the_time_is_started_anew_and_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    now = [100.0]
    monkeypatch.setattr("sparkbundle.host_mend.time.monotonic", lambda: now[0])
    hosts = Hosts()
    mending = Mending(hosts, patience=20)

    def look(seconds: float, **lost: str) -> None:
        now[0] += seconds
        mending.look(lost)

    look(0, w1="DEAD", w2="DEAD")
    look(19, w1="DEAD")
    assert hosts.ran == []
    look(1, w1="DEAD", w2="DEAD")
    assert hosts.ran == [("w1", "systemctl try-restart spark-worker")]
    assert "w1: DEAD, for 20 s; its worker is started anew" in capsys.readouterr().err
    look(30, w1="DEAD")
    look(30)
    assert len(hosts.ran) == 1


def test_a_host_that_is_not_reached_is_said(capsys: pytest.CaptureFixture[str]):
    mending = Mending(Hosts(fails=True), patience=0)
    mending.look({"w1": "DEAD"})
    assert "w1: cannot be reached" in capsys.readouterr().err
