"""Which build of torch a host gets, CPU or CUDA, and whether its driver runs it."""

import re
from collections.abc import Iterator
from pathlib import Path

from sparkbundle import host_gpus, resources
from sparkbundle.errors import PreflightError
from sparkbundle.host_gpus import Told
from sparkbundle.inventory import Host
from sparkbundle.wheelhouse_lock import CPU, CUDA, Target, read_lock

# The oldest Linux driver that runs programs of a CUDA major version: CUDA Toolkit release notes,
# "CUDA Toolkit and Minimum Required Driver Version for CUDA Minor Version Compatibility".
OLDEST_DRIVER = {12: "525.60.13", 13: "580.65.06"}
_RUNTIME = re.compile(r"nvidia-cuda-runtime(-cu\d+)?")
# The lock has one CUDA for all hosts.
_ANY_HOST = Target(python=(3, 11), machine="x86_64")


def build_of(host: Host, told: Told) -> str:
    """The build that a host gets: the inventory's, else CUDA where its worker offers a GPU."""
    if host.torch_build != "auto":
        return host.torch_build
    return CUDA if host_gpus.offered(host, told) else CPU


def wrong(host: Host, told: Told) -> Iterator[tuple[str, str]]:
    """Why a host cannot run the build that it gets, and what to do.

    A driver whose version nvidia-smi does not tell is taken as new enough.

    Raises:
        PreflightError: as `oldest_driver`.
    """
    if build_of(host, told) != CUDA or any(host_gpus.wrong(host, told)):
        return  # the GPUs first
    if not told["addresses"]:
        why = told["fault"] or told.get("note") or "there is no NVIDIA driver"
        yield f"torch_build is cuda, but {why}", "install the driver, or say torch_build: cpu"
        return
    oldest = oldest_driver(resources.locks().cuda)
    for driver in sorted({one.driver for one in host_gpus.devices(told)}):
        if is_older(driver, oldest):
            yield (
                f"NVIDIA driver {driver} is too old for torch's CUDA build, which needs {oldest}",
                f"install driver {oldest} or later, or say torch_build: cpu",
            )


def warnings(host: Host, told: Told) -> Iterator[tuple[str, str]]:
    """What is worth a look: GPUs that torch cannot use."""
    if build_of(host, told) == CPU and host_gpus.offered(host, told):
        yield (
            "torch_build is cpu, and its worker offers GPUs: its tasks find no CUDA in torch, "
            "GPU jobs of torch's fail there",
            "say torch_build: auto, or spark_gpus: none; or leave it, for jobs without torch",
        )


def oldest_driver(lock: Path) -> str:
    """The oldest driver that runs torch's CUDA build as a lock has it.

    Raises:
        PreflightError: the lock cannot be read, or its CUDA is not known here.
    """
    for entry in read_lock(lock, _ANY_HOST):
        if _RUNTIME.fullmatch(entry.name):
            major = int(entry.version.split(".")[0])
            if major in OLDEST_DRIVER:
                return OLDEST_DRIVER[major]
    raise PreflightError(
        "it has no CUDA runtime of which the drivers are known",
        where=str(lock),
        todo="take the file of the release anew (in a checkout: git checkout, or make lock)",
    )


def is_older(driver: str, oldest: str) -> bool:
    """Whether a driver is older, number for number; not where its version is not known.

    What follows the numbers does not count: 535.247.01-SIMULATED.
    """
    found = re.match(r"\d+(\.\d+)*", driver)
    return found is not None and _numbers(found[0]) < _numbers(oldest)


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]
