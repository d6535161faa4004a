"""What this machine has, and the share of it that the cluster's workers get."""

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import psutil

from sparkbundle.errors import PreflightError

RESERVED_MIB = 2048
"""Left alone: the operating system, the driver, the Spark daemons (256 MiB each)."""
MINIMUM_MIB = 512
"""The smallest executor: Spark itself refuses less than 450 MiB."""
DEFAULT_MAXIMUM_MIB = 4096
DEFAULT_WORKERS = 2

_SIZE = re.compile(r"(\d+)\s*(m|g|t)(?:i?b)?", re.IGNORECASE)
_UNIT_MIB = {"m": 1, "g": 1024, "t": 1024 * 1024}
_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True)
class Machine:
    """The cores that this process may use, and the memory in MiB."""

    cores: int
    memory_mib: int


@dataclass(frozen=True)
class Shape:
    """How many workers there are, and what each of them offers: cores, memory in MiB."""

    workers: int
    cores: int
    memory_mib: int


def parse_size(text: str) -> int:
    """A size such as 1g, 1536m or 2GiB in MiB.

    Raises:
        ValueError: it is no such size.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is not a size such as 1g or 1536m")
    return int(found.group(1)) * _UNIT_MIB[found.group(2).lower()]


def this_machine() -> Machine:
    """What there is here, or the part of it that a container or an affinity mask leaves."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    memory = psutil.virtual_memory().total
    for path in _CGROUP_LIMITS:
        try:
            memory = min(memory, int(Path(path).read_text()))
        except (OSError, ValueError):
            continue  # no such limit ("max"), or no control groups
    return Machine(cores=cores, memory_mib=memory // (1 << 20))


def plan_shape(
    machine: Machine, *, workers: int | None, cores: int | None, memory_mib: int | None
) -> Shape:
    """Divide the machine among the workers; None stands for "choose".

    The default memory of an executor is a third of a worker's share of what the
    reserve leaves, between 512 MiB and 4 GiB: the model and the word vectors
    live in the executor's Python processes, not in its Java heap.

    Raises:
        PreflightError: what was asked for does not fit; the message shows the sum.
    """
    workers = DEFAULT_WORKERS if workers is None else workers
    cores = max(1, machine.cores // 2) if cores is None else cores
    available = machine.memory_mib - RESERVED_MIB
    share = available // workers
    fits = (
        f"this machine has {machine.memory_mib} MiB, less {RESERVED_MIB} MiB for the system and "
        f"the driver leaves {max(0, available)} MiB"
    )
    if memory_mib is None:
        memory_mib = min(DEFAULT_MAXIMUM_MIB, max(MINIMUM_MIB, share // 3 // 256 * 256))
    elif memory_mib < MINIMUM_MIB:
        raise PreflightError(
            f"{memory_mib} MiB for each worker is too little: Spark needs {MINIMUM_MIB} MiB",
            todo=f"--memory-per-worker {MINIMUM_MIB}m or more",
        )
    if workers * memory_mib > available:
        raise PreflightError(
            f"{workers} workers × {memory_mib} MiB = {workers * memory_mib} MiB do not fit: {fits}",
            todo=_smaller(available, workers=workers),
        )
    return Shape(workers=workers, cores=cores, memory_mib=memory_mib)


def _smaller(available: int, *, workers: int) -> str:
    if available // workers >= MINIMUM_MIB:
        return f"--memory-per-worker {available // workers}m or less, or fewer --workers"
    if available >= MINIMUM_MIB:
        return f"--workers {available // MINIMUM_MIB} or fewer"
    return f"a machine with at least {RESERVED_MIB + MINIMUM_MIB} MiB of memory"


def check_disk(directory: Path, *, needed_mib: int) -> None:
    """Check that there is room where the state will be.

    Raises:
        PreflightError: less than `needed_mib` MiB are free, with both figures.
    """
    existing = directory
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free // (1 << 20)
    if free < needed_mib:
        raise PreflightError(
            f"{free} MiB free, {needed_mib} MiB needed",
            where=str(existing),
            todo="make room there, or name another disk: export SPARKBUNDLE_STATE=DIRECTORY, "
            "or ask for less: --min-free-disk",
        )
