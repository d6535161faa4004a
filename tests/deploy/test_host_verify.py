"""When a cluster of hosts is called ready; the proof on real hosts is in tests/cluster."""

from types import SimpleNamespace

import pytest

from sparkbundle import host_verify
from sparkbundle.commands.up import _title
from sparkbundle.master import Application, MasterState
from sparkbundle.output import Steps


@pytest.mark.parametrize(
    ("note", "tasks", "word"),
    [("", {}, "up, and not proven yet"), ("fits no worker", {"w": 1}, "ready")],
)
def test_ready_is_said_only_after_the_smoke_job(
    note: str, tasks: dict[str, int], word: str, monkeypatch: pytest.MonkeyPatch
):
    """An application that holds cores puts it off; one that fits no worker does not."""
    application = Application(id="app-1", name="mine", user="u", cores=0, note=note)
    state = MasterState(url="", status="ALIVE", workers=(), applications=(application,))
    # In place of the hosts: what the master tells, and the smoke job.
    monkeypatch.setattr(host_verify, "wait_ready", lambda *_, **__: state)
    monkeypatch.setattr(host_verify, "_starts", lambda *_: {"w": "now"})
    monkeypatch.setattr(host_verify, "_read_verified", lambda _: {})
    monkeypatch.setattr(host_verify, "_smoke", lambda *_, **__: {"w": 1})
    hosts = SimpleNamespace(run=lambda *_, **__: None, inventory=SimpleNamespace(master=None))
    inventory = SimpleNamespace(notebook=None)
    plan = SimpleNamespace(workers={}, cluster={"name": "lab"}, inventory=inventory)
    verdict = host_verify.verify(hosts, plan, steps=Steps(total=2), timeout=1.0)
    assert verdict.tasks == tasks
    assert _title(SimpleNamespace(plan=plan, verdict=verdict, count=3)) == (
        f"cluster 'lab' is {word} (changed=3)"
    )
