"""Which worker on this machine offers which GPU. There is no GPU here: nvidia-smi is SIMULATED."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from sparkbundle import host_gpus, launch, machine_gpus, plan, probe, state
from sparkbundle.commands.status import status
from sparkbundle.errors import PreflightError
from sparkbundle.host_gpus import Wanted
from sparkbundle.output import Steps
from sparkbundle.plan import ClusterOptions
from tests.deploy.test_host_gpus import CARD, MIG, Driver
from tests.deploy.test_host_plan import properties


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
    return Driver(tmp_path, monkeypatch)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[state.ClusterPlace]:
    """The place of a cluster that is not up; no daemon is ever started."""
    monkeypatch.setenv("SPARKBUNDLE_STATE", str(tmp_path / "state"))
    place = state.cluster_place("lab")
    state.make_place(place)
    yield place
    state.forget(place)


def prepared(place: state.ClusterPlace, **options: object) -> launch.Launcher:
    """What `up` would start, with its settings written."""
    asked = ClusterOptions(name=place.name, memory_mib=512, **options)  # type: ignore[arg-type]
    with Steps(total=1).step("check this machine") as step:
        launcher = plan.prepare(place, asked, step)
    launch.write_settings(launcher)
    return launcher


@pytest.mark.parametrize(
    ("gpus", "workers", "hands"),
    [
        ("01", 3, [["0"], ["1"], []]),
        ("012", 2, [["0", "2"], ["1"]]),
        ("01234", 2, [["0", "2", "4"], ["1", "3"]]),
        ("20", 1, [["2", "0"]]),
        ("", 2, [[], []]),
    ],
)
def test_gpus_are_dealt_like_cards(gpus: str, workers: int, hands: list[list[str]]):
    assert [[*hand] for hand in machine_gpus.dealt(gpus, workers=workers)] == hands


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("auto", "auto"),
        ("none", "none"),
        ("0", "none"),
        ("2", 2),
        (2, 2),
        ("0,2", ("0", "2")),
        ("0, 2", ("0", "2")),
        ([0, 2], ("0", "2")),
        ("1,", ("1",)),
        (CARD.format(2), (CARD.format(2),)),
        (f"{MIG.format(1, 0)},0", (MIG.format(1, 0), "0")),
    ],
)
def test_what_is_asked_for_is_read(given: object, wanted: Wanted):
    assert machine_gpus.parse(given) == wanted
    assert machine_gpus.parse(wanted) == wanted
    assert machine_gpus.parse(host_gpus.written(wanted)) == wanted


@pytest.mark.parametrize("given", ["", ",", "0,,1", "all", "-1", "1.5", "0,0", True, "²"])
def test_what_is_no_wish_is_refused(given: object):
    with pytest.raises(ValueError, match=r"is no GPU|is in the list twice|is not auto, none"):
        machine_gpus.parse(given)


@pytest.mark.parametrize(
    ("wanted", "offered"),
    [
        ("auto", ("0", MIG.format(1, 0), MIG.format(1, 1), "2")),
        ("none", ()),
        (2, ("0", MIG.format(1, 0))),
        (("2", "0"), ("2", "0")),
        ((CARD.format(2), MIG.format(1, 1)), (CARD.format(2), MIG.format(1, 1))),
    ],
)
def test_cards_and_instances_are_chosen_as_on_hosts(
    driver: Driver, place: state.ClusterPlace, wanted: Wanted, offered: tuple[str, ...]
):
    driver.simulated(3, mig="1 3g.20gb\n1 3g.20gb\n")
    assert machine_gpus.choose(wanted, place=place).offered == offered


@pytest.mark.parametrize(
    ("wanted", "what"),
    [
        (3, "--gpus is 3, nvidia-smi shows 2"),
        (("1", "7"), "--gpus has 7, nvidia-smi shows 0, 1"),
        (("0", CARD.format(0)), f"--gpus has a GPU twice: {CARD.format(0)}"),
    ],
)
def test_more_than_there_are_is_refused(
    driver: Driver, place: state.ClusterPlace, wanted: Wanted, what: str
):
    driver.simulated(2)
    with pytest.raises(PreflightError) as caught:
        machine_gpus.choose(wanted, place=place)
    assert caught.value.what == what
    assert caught.value.todo


@pytest.mark.parametrize(
    ("files", "hangs", "fault"),
    [
        ({}, False, "nvidia-smi fails (9): NVIDIA-SMI (SIMULATED) has failed"),
        ({"hang": ""}, True, "nvidia-smi hangs: no answer within 0.5 s"),
        ({"gone": "0\n"}, False, probe.NO_CARD),
    ],
)
def test_up_goes_on_without_a_driver_that_fails_and_says_why(
    driver: Driver,
    place: state.ClusterPlace,
    monkeypatch: pytest.MonkeyPatch,
    files: dict[str, str],
    hangs: bool,
    fault: str,
):
    driver.simulated(1, **files)
    if not files:
        driver.place.unlink()
    if hangs:
        monkeypatch.setattr(probe, "NVIDIA_SECONDS", 0.5)
    record = prepared(place).record
    assert record.gpus == ()
    assert record.gpus_fault.startswith(fault)
    state.write_record(place, record)
    said = CliRunner().invoke(status, ["--name", "lab"]).stderr
    (line,) = [line for line in said.splitlines() if "GPU" in line]
    assert line.startswith(f"warning: the workers offer no GPU: {fault}")
    assert "sparkbundle down --name lab" in line
    for wanted in (1, ("0",)):
        with pytest.raises(PreflightError) as caught:
            machine_gpus.choose(wanted, place=place)
        assert record.gpus_fault in caught.value.what
    assert machine_gpus.choose("none", place=place).fault == ""


def test_nothing_is_said_without_nvidia_smi(
    place: state.ClusterPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(probe, "has_nvidia_card", lambda _root: True)  # a card without a driver
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        choice = machine_gpus.choose("auto", place=place)
        with pytest.raises(PreflightError, match="--gpus is 1, nvidia-smi shows 0; an NVIDIA card"):
            machine_gpus.choose(1, place=place)
    assert choice == machine_gpus.Choice(asked="auto")


def test_each_worker_gets_a_private_file_with_its_own(driver: Driver, place: state.ClusterPlace):
    driver.simulated(3)
    launcher = prepared(place, workers=4)
    offered = {}
    for worker in launcher.workers:
        settings = properties((place.conf / f"{worker}.properties").read_text())
        mine = {key: value for key, value in settings.items() if "resource" in key}
        offered[worker] = mine and json.loads(Path(mine["spark.worker.resourcesFile"]).read_text())
        if mine:
            assert mine["spark.worker.resource.gpu.amount"] == "1"
            file = Path(mine["spark.worker.resourcesFile"])
            assert file.parent == place.conf
            assert file.stat().st_mode & 0o777 == 0o600
    name = {"componentName": "spark.worker", "resourceName": "gpu"}
    assert offered == {
        "worker-1": [{"id": name, "addresses": ["0"]}],
        "worker-2": [{"id": name, "addresses": ["1"]}],
        "worker-3": [{"id": name, "addresses": ["2"]}],
        "worker-4": {},
    }
    client = properties((place.conf / "client.properties").read_text())
    assert not [key for key in client if "resource" in key and "gpu" in key]


def test_a_cluster_that_is_begun_anew_is_asked_for_the_same(
    driver: Driver, place: state.ClusterPlace
):
    driver.simulated(3)
    asked = prepared(place, gpus=("2",)).record
    assert (asked.gpus, asked.gpus_asked) == (("2",), "2,")
    state.write_record(place, replace(asked, started="2001-01-01T00:00:00+00:00"))
    again = prepared(place).record
    assert (again.gpus, again.gpus_asked) == (("2",), "2,")
    # Before the next boot the driver is not even asked.
    state.write_record(place, again)
    driver.program.unlink()
    assert prepared(place).record == again


def test_a_record_of_before_has_no_gpus(place: state.ClusterPlace, driver: Driver):
    driver.simulated(1)
    record = prepared(place).record
    state.write_record(place, record)
    assert state.read_record(place) == record
    old = {key: value for key, value in record.as_json().items() if not key.startswith("gpus")}
    place.record.write_text(json.dumps(old))
    assert state.read_record(place) == replace(record, gpus=())


def test_what_another_cluster_offers_is_left_alone(driver: Driver, place: state.ClusterPlace):
    driver.simulated(3)
    other = state.cluster_place("other")
    state.make_place(other)
    held = prepared(other, gpus=(CARD.format(0), "2")).record
    assert machine_gpus.choose("auto", place=other).offered == ("0", "1", "2")  # its own
    choice = machine_gpus.choose("auto", place=place)
    assert choice.offered == ("1",)
    assert choice.held == "cluster 'other' offers GPU 0; cluster 'other' offers GPU 2"
    assert machine_gpus.choose(1, place=place).offered == ("1",)
    for wanted in (2, ("0",), (CARD.format(2), "1")):
        with pytest.raises(PreflightError, match="but cluster 'other' offers GPU 0") as caught:
            machine_gpus.choose(wanted, place=place)
        assert caught.value.todo.endswith("sparkbundle down --name other")
    assert set(held.gpus) == {CARD.format(0), "2"}
    state.forget(other)
    assert machine_gpus.choose(3, place=place).offered == ("0", "1", "2")
