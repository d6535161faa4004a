"""The GPUs of a host: found, chosen, offered to Spark, shown. There is no GPU here.

What is in nvidia-smi's place is tests/cluster/simulated_nvidia_smi.sh, or a line of shell.
"""

import contextlib
import importlib.util
import inspect
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType

import pytest

from sparkbundle import host_gpus, host_status, inventory_keys, preflight, probe, resources
from sparkbundle.commands.status import _application, _row
from sparkbundle.host_gpus import Gpu
from sparkbundle.inventory import Host
from sparkbundle.master import MasterState, Worker, parse_state
from tests.deploy.test_host_plan import plan, properties
from tests.deploy.test_hosts_check import HOST, MASTER, OURS, facts, problems

SCRIPT = resources.roles() / "gpu/files/gpu.py"
SIMULATED = Path(__file__).parents[1] / "cluster/simulated_nvidia_smi.sh"
CARD = "GPU-51300000-0000-0000-0000-00000000000{}"
MIG = "MIG-51300000-0000-0000-000{1}-00000000000{0}"
# As NVIDIA's MIG User Guide shows it; the third line is what drivers before 470 said.
LISTING = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77)
  MIG 3g.20gb     Device  0: (UUID: MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f)
  MIG 1c.3g.20gb  Device  1: (UUID: MIG-GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77/2/0)
GPU 1: NVIDIA L4 (UUID: GPU-a1)
"""


def gpu_module() -> ModuleType:
    """The script of the role gpu, as a module."""
    spec = importlib.util.spec_from_file_location("gpu_of_the_role", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GPU = gpu_module()


class Driver:
    """What answers as nvidia-smi on this test's PATH; `files` of the simulated one."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place, self.program = place / "gpus", place / "bin" / "nvidia-smi"
        self.program.parent.mkdir()
        monkeypatch.setenv("PATH", f"{self.program.parent}:{os.environ['PATH']}")
        monkeypatch.setenv("SIMULATED_GPUS", str(self.place))

    def simulated(self, count: int, **files: str) -> None:
        """A simulated card or some; mig, gone, busy, hang: see the script."""
        self.says(SIMULATED.read_text())
        self.place.write_text(str(count))
        for name, text in files.items():
            self.place.with_name(f"gpus.{name}").write_text(text)

    def says(self, shell: str) -> None:
        self.program.write_text(shell if shell.startswith("#!") else f"#!/bin/sh\n{shell}\n")
        self.program.chmod(0o755)


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
    return Driver(tmp_path, monkeypatch)


def test_both_programs_on_a_host_find_gpus_with_the_same_text():
    names = ("ask_nvidia", "first_line", "parse_gpus", "find_gpus")
    for name in names:
        mine, its = getattr(probe, name), getattr(GPU, name)
        assert inspect.getsource(mine) == inspect.getsource(its), name
    assert (probe.NVIDIA_SECONDS, probe.NO_CARD) == (GPU.NVIDIA_SECONDS, GPU.NO_CARD)


def test_cards_and_mig_instances_have_the_addresses_that_cuda_takes():
    found = probe.parse_gpus(LISTING)
    assert [one["address"] for one in found] == [
        "MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f",
        "MIG-GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77/2/0",
        "1",
    ]
    assert [one["card"] for one in found] == ["0", "0", "1"]
    assert [one["name"] for one in found] == [
        "NVIDIA A100-SXM4-40GB MIG 3g.20gb",
        "NVIDIA A100-SXM4-40GB MIG 1c.3g.20gb",
        "NVIDIA L4",
    ]
    assert found[2]["uuid"] == "GPU-a1"
    # Without their cards there are no instances.
    assert probe.parse_gpus("  MIG 3g.20gb     Device  0: (UUID: MIG-1)") == []


def test_what_nvidia_smi_shows_can_be_written_into_an_inventory():
    uuids = [one[key] for one in probe.parse_gpus(LISTING) for key in ("address", "uuid")]
    wanted = list(dict.fromkeys(uuids))
    assert inventory_keys.parse("spark_gpus", wanted) == tuple(wanted)
    assert inventory_keys.parse("spark_gpus", [2, "0"]) == ("2", "0")
    assert inventory_keys.parse("spark_gpus", []) == inventory_keys.parse("spark_gpus", 0) == "none"


def test_the_probe_tells_of_each_gpu(driver: Driver):
    driver.simulated(3, busy="2\n", mig="1 3g.20gb\n", gone="0\n")
    told = probe.gpus()
    assert told["addresses"] == [MIG.format(1, 0), "2"]
    assert (told["fault"], told["note"]) == ("", "")
    instance, card = host_gpus.devices(told)
    assert asdict(card) == {
        "address": "2",
        "uuid": CARD.format(2),
        "name": "SIMULATED GPU",
        "driver": "535.247.01-SIMULATED",
        "memory_mib": 24564,
        "free_mib": 6141,
        "utilization": 0,
    }
    assert instance.name == "SIMULATED GPU MIG 3g.20gb"
    assert instance.driver == card.driver
    told = (instance.memory_mib, instance.free_mib, instance.utilization)
    assert told == (None, None, None)  # not the whole card's


@pytest.mark.parametrize(
    ("answer", "known"),
    [
        ("0, 23034, 22563, 37, 550.54.15", (23034, 22563, 37, "550.54.15")),
        ("0, [N/A], [N/A], 0, 580.65.06", (None, None, 0, "580.65.06")),  # the host's memory
        ("0, 23034, [Insufficient Permissions], [N/A], [N/A]", (23034, None, None, "")),
        ('Field "memory.free" is not a valid field to query.', (None, None, None, "")),
        ("", (None, None, None, "")),
    ],
)
def test_values_that_nvidia_smi_does_not_tell_do_no_harm(driver: Driver, answer: str, known: tuple):
    listed = "GPU 0: NVIDIA L4 (UUID: GPU-1)"
    driver.says(f"[ $1 = -L ] && echo '{listed}' || echo '{answer}'")
    told = probe.gpus()
    (one,) = host_gpus.devices(told)
    assert (one.memory_mib, one.free_mib, one.utilization, one.driver) == known
    assert told["addresses"] == ["0"]
    driver.says(f"[ $1 = -L ] && echo '{listed}'")  # the second question fails
    assert [one.free_mib for one in host_gpus.devices(probe.gpus())] == [None]


@pytest.mark.parametrize(
    ("shell", "fault"),
    [
        ("echo broken; echo more; exit 9", "nvidia-smi fails (9): broken"),
        ("exit 12", "nvidia-smi fails (12): it says nothing"),
        ("echo 'GPU 0: NVIDIA L4 (UUID: GPU-1)'; exit 15", "nvidia-smi fails (15): GPU 0:"),
        ("kill -11 $$", "nvidia-smi fails (-11): it says nothing"),
        ("true", "nvidia-smi -L lists no GPUs, it says: it says nothing"),
        ("echo 'hello\n0'", "nvidia-smi -L lists no GPUs, it says: hello"),
        ("printf '\\377\\376'", "nvidia-smi -L lists no GPUs, it says: \ufffd"),
        ("#!/no/such/interpreter", "nvidia-smi fails: [Errno 2]"),
    ],
)
def test_a_driver_that_fails_counts_as_no_gpu(driver: Driver, tmp_path: Path, shell: str, fault):
    driver.says(shell)
    told = probe.gpus()
    assert (told["addresses"], told["devices"], told["note"]) == ([], [], "")
    assert str(told["fault"]).startswith(fault)
    (found,) = problems(HOST, facts(gpus=told))
    assert (found.check, found.what, found.warning) == ("gpu", told["fault"], False)
    assert problems(replace(HOST, gpus="none"), facts(gpus=told)) == []
    done = Started(tmp_path, "auto")
    assert done.addresses == []
    assert fault in done.said


def test_a_driver_that_hangs_is_killed_with_its_children(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    driver.simulated(2, hang="")
    for module in (probe, GPU):
        monkeypatch.setattr(module, "NVIDIA_SECONDS", 0.5)
    began = time.monotonic()
    told = probe.gpus()
    assert told["fault"] == "nvidia-smi hangs: no answer within 0.5 s"
    assert told["addresses"] == []
    assert GPU.find_gpus() == ([], told["fault"])
    assert time.monotonic() - began < 10
    until = time.monotonic() + 5
    while (left := processes_of(tmp_path)) and time.monotonic() < until:
        time.sleep(0.05)
    assert left == []


def processes_of(place: Path) -> list[str]:
    """Processes that were started with this test's simulated GPUs, and have not ended."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # another user's, or just gone
            if f"SIMULATED_GPUS={place}/".encode() in environment.read_bytes():
                found.append(environment.parent.name)
    return found


def test_a_driver_without_a_card_is_told(driver: Driver, tmp_path: Path):
    driver.simulated(1, gone="0\n")
    told = probe.gpus()
    assert (told["addresses"], told["fault"]) == ([], "")
    assert told["note"] == probe.NO_CARD
    assert probe.NO_CARD in Started(tmp_path, "1").said
    driver.says("echo No devices found.")  # another wording, without an exit code
    assert probe.gpus()["note"] == probe.NO_CARD


@pytest.mark.parametrize(
    ("files", "there"),
    [
        ({"dev/nvidia0": ""}, True),
        ({"dev/nvidiactl": "", "dev/nvidia-uvm": ""}, False),  # of the driver, not of a card
        ({"vendor": "0x10de\n", "class": "0x030200\n"}, True),
        ({"vendor": "0x10de\n", "class": "0x030000\n"}, True),
        ({"vendor": "0x10de\n", "class": "0x040300\n"}, False),  # a card's sound
        ({"vendor": "0x1002\n", "class": "0x030000\n"}, False),  # another maker's
        ({"class": "0x030000\n"}, False),
        ({}, False),
    ],
)
def test_a_card_without_a_driver_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], there: bool
):
    monkeypatch.setenv("PATH", str(tmp_path))
    for name, text in files.items():
        path = tmp_path / (name if "/" in name else f"sys/bus/pci/devices/0000:01:00.0/{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    told = probe.gpus(str(tmp_path))
    note = "an NVIDIA card without driver: install nvidia-driver" if there else ""
    assert told == {"addresses": [], "devices": [], "fault": "", "note": note}


@pytest.mark.parametrize("note", [probe.NO_CARD, "an NVIDIA card without driver: install it"])
def test_a_card_that_nobody_can_use_is_a_warning_and_a_problem_where_it_is_asked_for(note: str):
    told = {"addresses": [], "devices": [], "fault": "", "note": note}
    (found,) = problems(HOST, facts(gpus=told))
    assert (found.check, found.what, found.warning) == ("gpu", note, True)
    for gpus, short in ((2, "spark_gpus is 2, nvidia-smi shows 0"), (("0",), "spark_gpus has 0")):
        (found,) = problems(replace(HOST, gpus=gpus), facts(gpus=told))
        assert found.what.startswith(short)
        assert found.what.endswith(f"; {note}")
        assert (found.check, found.warning) == ("gpu", False)
    for host in (replace(HOST, gpus="none"), replace(MASTER, gpus="auto")):
        assert problems(host, facts(gpus=told)) == []


def two(*free: int | None, **more: object) -> dict[str, object]:
    """What a host tells that has a card, and one that is cut into an instance."""
    named = {"0": "GPU-a", "MIG-1": "MIG-1", "MIG-2": "MIG-2"}
    entry = {"name": "NVIDIA L4", "driver": "580.65.06", "memory_mib": 23034}
    entries = [
        {"address": address, "uuid": uuid, "free_mib": mib, **entry}
        for (address, uuid), mib in zip(named.items(), free or (None,) * 3, strict=True)
    ]
    return {"addresses": list(named), "devices": entries, "fault": "", "note": "", **more}


@pytest.mark.parametrize(
    ("gpus", "says"),
    [
        (("0", "MIG-2"), ""),
        (("GPU-a",), ""),
        (("7", "0", "MIG-9"), "spark_gpus has 7, MIG-9, nvidia-smi shows 0, MIG-1, MIG-2"),
        (("0", "GPU-a"), "spark_gpus has a GPU twice: GPU-a"),
        (4, "spark_gpus is 4, nvidia-smi shows 3"),
        (3, ""),
    ],
)
def test_gpus_of_the_inventory_must_be_there(gpus: int | tuple[str, ...], says: str):
    found = problems(replace(HOST, gpus=gpus), facts(gpus=two()))
    assert [one.what for one in found] == ([says] if says else [])
    assert all(one.check == "gpu" and not one.warning and one.todo for one in found)


def test_memory_that_somebody_has_taken_is_a_warning():
    told = facts(gpus=two(11516, 11517, None))
    (found,) = problems(HOST, told)
    assert (found.check, found.warning) == ("gpu", True)
    assert "GPU 0 (NVIDIA L4): 11516 of 23034 MiB are free" in found.what
    assert problems(replace(HOST, gpus=("MIG-1",)), told) == []  # it is none of those offered
    assert len(problems(replace(HOST, gpus=("GPU-a",)), told)) == 1
    assert preflight.Checked({"w": told}, [found]).errors == []


class Started:
    """What the worker is started with, and what its unit's journal says."""

    def __init__(self, place: Path, wanted: str) -> None:
        source, target = place / "worker.properties", place / "run" / "worker.properties"
        source.write_text("spark.authenticate=true\n")
        target.parent.mkdir(exist_ok=True)
        command = [sys.executable, SCRIPT, "settings", source, target, wanted]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        self.said = done.stderr
        told = properties(target.read_text())
        assert told.pop("spark.authenticate") == "true"
        assert target.stat().st_mode & 0o777 == 0o600
        self.addresses: list[str] = []
        if told:
            file = Path(told.pop("spark.worker.resourcesFile"))
            assert file.parent == target.parent
            assert file.stat().st_mode & 0o777 == 0o600
            (entry,) = json.loads(file.read_text())
            assert entry["id"] == {"componentName": "spark.worker", "resourceName": "gpu"}
            self.addresses = entry["addresses"]
            assert told == {"spark.worker.resource.gpu.amount": str(len(self.addresses))}


CHOICES = [
    ("auto", ["0", MIG.format(1, 0), MIG.format(1, 1), "2"], ""),
    ("none", [], ""),
    (1, ["0"], ""),
    (2, ["0", MIG.format(1, 0)], ""),
    (9, ["0", MIG.format(1, 0), MIG.format(1, 1), "2"], "GPUs wanted: 9; offered: 0, MIG-"),
    (("2",), ["2"], ""),  # a list of one, no number
    (("2", "0"), ["2", "0"], ""),
    ((CARD.format(2), MIG.format(1, 1)), [CARD.format(2), MIG.format(1, 1)], ""),
    (("1", "2"), ["2"], "GPUs wanted: 1,2,; offered: 2; nvidia-smi shows 0, MIG-"),
    ((CARD.format(1),), [], "offered: none; nvidia-smi shows 0, MIG-"),
    (("0", CARD.format(0)), ["0"], "offered: 0; nvidia-smi shows"),
]


@pytest.mark.parametrize(("gpus", "offered", "says"), CHOICES)
def test_the_worker_offers_what_the_plan_says(
    driver: Driver, tmp_path: Path, gpus: str | int | tuple[str, ...], offered: list[str], says: str
):
    driver.simulated(3, mig="1 3g.20gb\n1 3g.20gb\n")
    host = replace(HOST, gpus=gpus)
    made = plan(host, told={"w": {"gpus": probe.gpus()}}).hosts["w"]
    assert list(made.gpus) == offered
    done = Started(tmp_path, made.variables["gpus"])
    assert done.addresses == offered
    assert says in done.said
    assert bool(says) == bool(done.said)


def test_a_worker_starts_where_its_gpus_have_vanished_or_never_were(driver: Driver, tmp_path: Path):
    driver.simulated(2)
    assert Started(tmp_path, "0,1,").addresses == ["0", "1"]
    driver.simulated(2, gone="1\n")
    done = Started(tmp_path, "0,1,")
    assert done.addresses == ["0"]
    assert done.said == "GPUs wanted: 0,1,; offered: 0; nvidia-smi shows 0\n"
    driver.place.unlink()
    assert Started(tmp_path, "2").addresses == []
    driver.program.unlink()
    done = Started(tmp_path, "auto")
    assert (done.addresses, done.said) == ([], "")


def test_the_script_says_how_it_is_called():
    done = subprocess.run(
        [sys.executable, SCRIPT, "discover"], check=False, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "gpu.py settings FROM TO WANTED" in done.stderr


def state(*gpus: str) -> MasterState:
    """A master with this worker."""
    worker = Worker(name="w", state="ALIVE", cores=4, memory_mib=3584, web="", gpus=gpus)
    return MasterState(url="x", status="ALIVE", workers=(worker,), applications=())


def status_of(host: Host, told: dict[str, object], *gpus: str) -> host_status.HostStatus:
    units = {"spark-worker": {"active": "active", "enabled": "enabled"}}
    told_all = facts(gpus=told, cluster=OURS, units=units)
    return host_status._host(host, told_all, state(*gpus), up=True)


@pytest.mark.parametrize(
    ("gpus", "offered", "fault"),
    [
        ("auto", ("0", "MIG-1", "MIG-2"), ""),
        ("auto", ("0",), "has GPUs 0 instead of 0, MIG-1, MIG-2"),
        (("GPU-a",), ("GPU-a",), ""),
        (("0", "7"), ("0",), "spark_gpus has 7, nvidia-smi shows 0, MIG-1, MIG-2"),
        (("0", "7"), ("0", "7"), "has GPUs 0, 7 instead of 0"),
        (4, ("0", "MIG-1", "MIG-2"), "spark_gpus is 4, nvidia-smi shows 3"),
    ],
)
def test_status_names_what_differs(gpus, offered: tuple[str, ...], fault: str):
    found = status_of(replace(HOST, gpus=gpus), two(), *offered)
    mine = [text for text in found.faults if "GPU" in text or "gpus" in text]
    assert (fault in mine) if fault else mine == []
    assert found.gpus == offered


def test_status_shows_gpus_by_name_and_tells_all_in_json():
    found = status_of(HOST, two(1, 2, None), "0", "MIG-1")
    assert _row(found)[5] == "2 × NVIDIA L4, 45.0 of 45.0 GiB"
    assert [one["free_mib"] for one in asdict(found)["gpu_devices"]] == [1, 2, None]
    assert asdict(found)["gpus"] == ("0", "MIG-1")
    json.dumps(asdict(found))
    # One that the host does not know any more, by its address; no GPU.
    assert _row(status_of(HOST, two(), "0", "5"))[5] == "0,5"
    assert _row(status_of(HOST, two()))[5] == "-"
    assert host_gpus.shown(["GPU-a"], found.gpu_devices) == "1 × NVIDIA L4"
    other = replace(found.gpu_devices[1], name="Tesla T4")
    pair = (found.gpu_devices[0], other)
    assert host_gpus.shown(["0", "MIG-1"], pair) == "1 × NVIDIA L4 + 1 × Tesla T4"


def card(number: int, *, free: int | None = 20992, use: int | None = 50) -> Gpu:
    return Gpu(
        address=str(number), uuid=f"GPU-{number}", name="NVIDIA L4", driver="550",
        memory_mib=24576, free_mib=free, utilization=use,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("addresses", "there", "held", "says"),
    [
        (("0", "GPU-1"), (card(0), card(1, free=23552, use=25)), 1,
         "1 held, 38 % busy, 4.5 of 48.0 GiB"),
        (("1",), (card(0), card(1, use=0)), 0, "0 % busy, 3.5 of 24.0 GiB"),
        (("0",), (card(0, use=None),), 1, "1 held, 3.5 of 24.0 GiB"),
        (("0", "1"), (card(0), card(1, free=None)), 0, "50 % busy"),
        (("0", "1"), (card(0), card(1, free=None, use=None)), 2, "2 held"),
        (("0", "7"), (card(0),), 1, "1 held"),  # 7 has vanished
        ((), (card(0),), 0, ""),
    ],
)  # fmt: skip
def test_status_shows_what_is_held_and_used_as_far_as_it_is_known(
    addresses: tuple[str, ...], there: tuple[Gpu, ...], held: int, says: str
):
    assert host_gpus.in_use(addresses, there, held=held) == says
    host = host_status.HostStatus(
        name="w", daemons=("worker",), faults=(), gpus=addresses, gpus_used=addresses[:held],
        gpu_devices=there,
    )  # fmt: skip
    shown = host_gpus.shown(addresses, there)
    assert _row(host)[5] == (f"{shown}, {says}" if says else shown)


# Of Spark 4's master with a worker that offers two GPUs and an application that has one.
ANSWER = {
    "url": "spark://127.0.0.1:7077",
    "status": "ALIVE",
    "workers": [
        {
            "id": "w-20250131120000-127.0.0.1-41231",
            "state": "ALIVE",
            "webuiaddress": "http://127.0.0.1:8081",
            "cores": 2,
            "coresused": 1,
            "memory": 600,
            "resources": {"gpu": {"name": "gpu", "addresses": ["0", "1"]}},
            "resourcesused": {"gpu": {"name": "gpu", "addresses": ["0"]}},
        }
    ],
    "activeapps": [
        {
            "id": "app-20250131120000-0000",
            "name": "mine",
            "user": "sparkjob",
            "cores": 1,
            "memoryperexecutor": 500,
            "resourcesperexecutor": [{"name": "gpu", "amount": 1}],
        }
    ],
}


def test_the_master_tells_which_gpus_are_held_and_how_many_an_executor_has():
    told = parse_state(ANSWER)
    worker, application = told.workers[0], told.applications[0]
    assert (worker.gpus, worker.gpus_used) == (("0", "1"), ("0",))
    assert _application(application) == "mine, 1 cores, sparkjob, 1 GPU an executor"
    assert "2 GPUs an executor" in _application(replace(application, gpus=2))
    units = {"spark-worker": {"active": "active", "enabled": "enabled"}}
    there = facts(gpus=two(), cluster=OURS, units=units)
    found = host_status._host(HOST, there, told, up=True)
    assert asdict(found)["gpus_used"] == ("0",)
    # A master that does not tell it.
    worker = {key: value for key, value in ANSWER["workers"][0].items() if "resources" not in key}
    plain = dict(ANSWER["activeapps"][0])
    del plain["resourcesperexecutor"]
    told = parse_state({**ANSWER, "workers": [worker], "activeapps": [plain]})
    assert (told.workers[0].gpus, told.workers[0].gpus_used) == ((), ())
    assert _application(told.applications[0]) == "mine, 1 cores, sparkjob"


def test_a_fault_of_the_driver_is_in_the_status():
    broken = {"addresses": [], "devices": [], "fault": "nvidia-smi hangs", "note": ""}
    assert "nvidia-smi hangs" in status_of(HOST, broken).faults
    assert "nvidia-smi hangs" not in status_of(replace(HOST, gpus="none"), broken).faults


def test_simulated_gpus_say_so_everywhere(driver: Driver):
    driver.simulated(1)
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True)
    assert "SIMULATED" in listed.stdout
    driver.place.unlink()
    failed = subprocess.run(["nvidia-smi"], check=False, capture_output=True, text=True)
    assert failed.returncode == 9
    assert "SIMULATED" in failed.stdout
