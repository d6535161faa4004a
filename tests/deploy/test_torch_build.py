"""Which build of torch a host gets, and which drivers run it. There is no GPU here."""

from dataclasses import replace
from pathlib import Path

import pytest

from sparkbundle import probe, resources, torch_build
from sparkbundle.errors import PreflightError
from sparkbundle.inventory import Host
from tests.deploy.test_host_gpus import Driver, driver, two
from tests.deploy.test_hosts_check import HOST, MASTER, facts, problems

__all__ = ["driver"]  # the fixture

NONE = {"addresses": [], "devices": [], "fault": "", "note": ""}
OLD, NEW = "580.65.05", "580.65.06"


def with_driver(version: str) -> dict[str, object]:
    """What a host tells that has GPUs with this driver."""
    told = two()
    return {**told, "devices": [{**one, "driver": version} for one in told["devices"]]}


@pytest.mark.parametrize(
    ("host", "told", "build"),
    [
        (HOST, two(), "cuda"),
        (HOST, NONE, "cpu"),
        (replace(HOST, gpus=2), two(), "cuda"),
        (replace(HOST, gpus="none"), two(), "cpu"),
        (MASTER, two(), "cpu"),  # it has no worker
        (replace(HOST, torch_build="cpu"), two(), "cpu"),
        (replace(HOST, torch_build="cuda"), NONE, "cuda"),
        (replace(MASTER, torch_build="cuda"), two(), "cuda"),
    ],
)
def test_the_build_is_the_inventorys_or_what_the_gpus_need(host: Host, told: dict, build: str):
    assert torch_build.build_of(host, told) == build


@pytest.mark.parametrize(
    ("build", "version", "old"),
    [
        ("auto", OLD, True),
        ("auto", NEW, False),
        ("auto", "580.105.08", False),  # number for number, not letter for letter
        ("auto", "1000.1", False),
        ("auto", "580", True),
        ("auto", "535.247.01-SIMULATED", True),
        ("auto", "580.65.06-SIMULATED", False),
        ("auto", "", False),  # nvidia-smi does not tell
        ("auto", "unknown", False),
        ("cuda", OLD, True),
        ("cuda", NEW, False),
        ("cpu", OLD, False),
    ],
)
def test_a_driver_that_is_too_old_for_the_cuda_build_is_a_problem(
    build: str, version: str, old: bool
):
    found = problems(replace(HOST, torch_build=build), facts(gpus=with_driver(version)))
    errors = [one for one in found if not one.warning]
    assert len(errors) == old  # one for the host, whatever the number of its GPUs
    for one in errors:
        assert one.check == "torch"
        assert one.what == (
            f"NVIDIA driver {version} is too old for torch's CUDA build, which needs {NEW}"
        )
        assert one.todo == f"install driver {NEW} or later, or say torch_build: cpu"


def test_the_simulated_driver_is_read_as_a_real_one(driver: Driver):
    driver.simulated(2, mig="1 3g.20gb\n")
    told = facts(gpus=probe.gpus())
    (found,) = problems(HOST, told)
    assert found.what.startswith("NVIDIA driver 535.247.01-SIMULATED is too old")
    (found,) = problems(replace(HOST, torch_build="cpu"), told)
    assert found.warning


@pytest.mark.parametrize("gpus", ["auto", 1, ("0",)])
def test_gpus_that_torch_cannot_use_are_a_warning(gpus: str | int | tuple[str, ...]):
    host = replace(HOST, torch_build="cpu", gpus=gpus)
    (found,) = problems(host, facts(gpus=two()))
    assert (found.check, found.warning) == ("torch", True)
    assert "its tasks find no CUDA in torch" in found.what
    assert problems(replace(host, gpus="none"), facts(gpus=two())) == []
    if gpus == "auto":
        assert problems(host, facts(gpus=NONE)) == []


@pytest.mark.parametrize(
    ("host", "changes", "says"),
    [
        (HOST, {}, "torch_build is cuda, but there is no NVIDIA driver"),
        (MASTER, {}, "torch_build is cuda, but there is no NVIDIA driver"),
        (HOST, {"note": "an NVIDIA card without driver"}, "but an NVIDIA card without driver"),
        (MASTER, {"fault": "nvidia-smi hangs"}, "torch_build is cuda, but nvidia-smi hangs"),
        (HOST, {"fault": "nvidia-smi hangs"}, "nvidia-smi hangs"),  # said once
    ],
)
def test_the_cuda_build_without_a_driver_is_a_problem(host: Host, changes: dict, says: str):
    told = facts(gpus={**NONE, **changes})
    (found,) = [one for one in problems(replace(host, torch_build="cuda"), told) if not one.warning]
    assert found.what.endswith(says)
    assert found.todo


def test_the_drivers_of_the_locked_cuda_are_known():
    assert torch_build.oldest_driver(resources.locks().cuda) == NEW


@pytest.mark.parametrize(
    ("package", "oldest"),
    [
        ("nvidia-cuda-runtime-cu12==12.8.90", "525.60.13"),
        ("nvidia-cuda-runtime==13.0.96 ; sys_platform == 'linux'", "580.65.06"),
        ("nvidia-cuda-runtime==99.0", None),
        ("nvidia-cudnn-cu13==9.20.0.48", None),
    ],
)
def test_the_lock_says_which_drivers_it_needs(tmp_path: Path, package: str, oldest: str | None):
    lock = tmp_path / "lock"
    lock.write_text(f"{package} \\\n    --hash=sha256:{'1' * 64}\n")
    if oldest:
        assert torch_build.oldest_driver(lock) == oldest
        return
    with pytest.raises(PreflightError, match="no CUDA runtime of which the drivers") as caught:
        torch_build.oldest_driver(lock)
    assert (caught.value.where, bool(caught.value.todo)) == (str(lock), True)
