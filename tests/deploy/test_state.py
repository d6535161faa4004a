import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from sparkbundle import state
from sparkbundle.errors import LOCKED, PreflightError, SparkbundleError

RECORD = state.ClusterRecord(
    name="lab",
    master="spark://127.0.0.1:21000",
    properties="/x/client.properties",
    workers=2,
    cores=1,
    memory="1024m",
    ui="http://127.0.0.1:21001",
    started="2025-01-31T12:00:00+00:00",
    master_port=21000,
    ui_port=21001,
    fixed_ports=("ui",),
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> state.ClusterPlace:
    monkeypatch.setenv("SPARKBUNDLE_STATE", str(tmp_path / "state"))
    place = state.cluster_place("lab")
    state.make_place(place)
    return place


def test_the_state_directory_follows_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.delenv("SPARKBUNDLE_STATE", raising=False)
    assert state.state_directory() == tmp_path / ".local/state/sparkbundle"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    assert state.state_directory() == tmp_path / "xdg/sparkbundle"
    monkeypatch.setenv("SPARKBUNDLE_STATE", str(tmp_path / "own"))
    assert state.state_directory() == tmp_path / "own"


def test_a_record_comes_back_as_it_was_written(place: state.ClusterPlace):
    assert state.read_record(place) is None
    state.write_record(place, RECORD)
    assert state.read_record(place) == RECORD
    assert RECORD.memory_mib == 1024


def test_the_record_is_the_promised_format_1(place: state.ClusterPlace):
    state.write_record(place, RECORD)
    value = json.loads(place.record.read_text())
    assert value["format"] == 1
    assert {
        "name", "master", "properties", "workers", "cores", "memory", "ui", "started",
    } <= set(value)  # fmt: skip


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"format": 2}', '{"format": 1, "name": "lab"}', "\x00"]
)
def test_a_damaged_record_says_so(place: state.ClusterPlace, content: str):
    place.record.write_text(content)
    with pytest.raises(SparkbundleError, match="cannot be read") as caught:
        state.read_record(place)
    assert str(place.record) == caught.value.where
    assert "down --name lab" in caught.value.todo


def test_unknown_keys_of_a_record_are_left_alone(place: state.ClusterPlace):
    place.record.write_text(json.dumps({**RECORD.as_json(), "later": 1}))
    assert state.read_record(place) == RECORD


def test_directories_and_files_are_private(place: state.ClusterPlace):
    state.write_record(place, replace(RECORD, workers=3))
    assert stat.S_IMODE(place.directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(place.conf.stat().st_mode) == 0o700
    assert stat.S_IMODE(place.record.stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["", "..", "a/b", "-x", "x" * 41, "a b", "ä"])
def test_names_that_would_leave_the_directory_are_refused(name: str):
    with pytest.raises(PreflightError, match="cannot be the name"):
        state.cluster_place(name)


def test_the_lock_says_who_holds_it_and_is_free_afterwards(place: state.ClusterPlace):
    with (
        state.lock(place, "up"),
        pytest.raises(
            SparkbundleError, match=r"`sparkbundle up` \(pid \d+\) since \d{4}"
        ) as caught,
        state.lock(place, "down"),
    ):
        pass
    assert caught.value.code == LOCKED
    with state.lock(place, "down"):
        pass


def test_forget_keeps_the_logs(place: state.ClusterPlace):
    state.write_record(place, RECORD)
    (place.conf / "secrets.json").write_text("{}")
    place.log("master").write_text("a line")
    state.forget(place)
    state.forget(place)
    assert not place.record.exists()
    assert not place.conf.exists()
    assert place.log("master").read_text() == "a line"
