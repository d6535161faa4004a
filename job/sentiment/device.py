"""What a worker computes on: the CPU, or the GPU that it was given. It knows nothing of Spark.

A GPU's address is what `nvidia-smi -L` shows: the number of a card, or a UUID, of a MIG instance
too. CUDA reads CUDA_VISIBLE_DEVICES once in a process, when it starts; a Python worker of Spark's
lives longer than a task, and its next task may have another GPU.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal

import torch
from torch import Tensor

from sentiment.environment import restored
from sentiment.errors import first_line

Kind = Literal["cpu", "cuda"]
Precision = Literal["float32", "bfloat16"]

VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
_ENVIRONMENT: Final = {
    # Numbers are nvidia-smi's. CUDA's own order begins with the fastest card.
    "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    # The same sums in the same order: torch.nn.LSTM and use_deterministic_algorithms ask for it.
    "CUBLAS_WORKSPACE_CONFIG": ":16:8",
}


@dataclass(frozen=True, kw_only=True)
class DeviceConfig:
    """What workers compute on.

    `share`: of a GPU's memory, the most that a worker takes, at most 1. `precision`: of products
    and activations; weights and their moments are float32. `deterministic`: the same input gives
    the same bits, also where a faster way would not; on the CPU it is always so.
    """

    kind: Kind = "cpu"
    share: float = 1.0
    precision: Precision = "float32"
    deterministic: bool = True


CPU: Final = DeviceConfig()
ON_CPU: Final = torch.device("cpu")


class GpuError(RuntimeError):
    """A worker cannot compute on the GPU that it was given."""


@contextmanager
def on_device(config: DeviceConfig, addresses: Sequence[str] = ()) -> Iterator[torch.device]:
    """The device of a task, as long as the block lasts.

    On a GPU: the first of `addresses`, or where none is given, the first that this process sees.
    CUDA_VISIBLE_DEVICES is `addresses` meanwhile, for libraries and programs that the block starts,
    and then as it was.

    Raises:
        GpuError: torch cannot use that GPU.
    """
    if config.kind == "cpu":
        yield ON_CPU
        return
    deterministic = torch.are_deterministic_algorithms_enabled()
    with restored(VISIBLE):
        device = torch.device("cuda", _started(addresses))
        if addresses:
            os.environ[VISIBLE] = ",".join(addresses)
        try:
            torch.use_deterministic_algorithms(config.deterministic)
            with torch.cuda.device(device):
                # Set at each task: the one before in this process may have had another share.
                torch.cuda.set_per_process_memory_fraction(config.share, device)
                yield device
        finally:
            torch.use_deterministic_algorithms(deterministic)


def _started(addresses: Sequence[str]) -> int:
    """Start CUDA in this process if need be; which of its devices has the first address."""
    if why := no_cuda():
        raise GpuError(why)
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        for key, value in _ENVIRONMENT.items():
            os.environ.setdefault(key, value)
        # Numbers: all GPUs are seen, so that another task may have another. A MIG instance must be
        # named: CUDA sees one in a process at most.
        if VISIBLE not in os.environ and not all(one.isdecimal() for one in addresses):
            os.environ[VISIBLE] = ",".join(addresses)
    index = index_of(addresses, visible=_visible_at_start())
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
        torch.cuda.get_device_properties(index)
    except (RuntimeError, AssertionError) as error:
        name = addresses[0] if addresses else str(index)
        raise GpuError(f"GPU {name}: {first_line(error)}") from error
    return index


@cache
def _visible_at_start() -> str:
    """What CUDA_VISIBLE_DEVICES was when this process first asked, which is before CUDA starts."""
    return os.environ.get(VISIBLE, "")


def index_of(addresses: Sequence[str], *, visible: str) -> int:
    """CUDA's number of the first address, in a process where it started with `visible`.

    `visible` is what CUDA_VISIBLE_DEVICES was: empty, and CUDA sees the GPUs in nvidia-smi's order.

    Raises:
        GpuError: the process cannot use it any more.
    """
    if not addresses:
        return 0
    seen = visible.split(",") if visible else []
    if addresses[0] in seen:
        return seen.index(addresses[0])
    if not seen and addresses[0].isdecimal():
        return int(addresses[0])
    raise GpuError(
        f"this process has begun with other GPUs ({visible or 'by number'}) and cannot take "
        f"{addresses[0]}: set spark.python.worker.reuse=false"
    )


def no_cuda() -> str:
    """Why torch can use no GPU in this process; empty where it can."""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is the build for the CPU"
    if not torch.cuda.is_available():
        return f"torch's CUDA {torch.version.cuda} finds no GPU, or a driver that is too old"
    return ""


def moved(device: torch.device, *tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors on the device. To a GPU they travel while it computes, from pinned memory."""
    if device.type == "cpu":
        return tensors
    return tuple(one.pin_memory().to(device, non_blocking=True) for one in tensors)


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """In its block products are made with this precision (torch.autocast)."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


@dataclass(frozen=True, kw_only=True)
class GpuUse:
    """A GPU as it is used now; memory in MiB.

    `used_mib`: by anybody; `peak_mib`: the most that torch took in this process. `busy`: the share
    of the last moments in which it computed, in percent; None where the driver does not tell.
    """

    name: str
    memory_mib: int
    used_mib: int
    peak_mib: int
    busy: int | None


def gpu_use(device: torch.device) -> GpuUse | None:
    """How the device is used now; None: it is no GPU."""
    if device.type == "cpu":
        return None
    free, total = torch.cuda.mem_get_info(device)
    return GpuUse(
        name=torch.cuda.get_device_name(device),
        memory_mib=total >> 20,
        used_mib=(total - free) >> 20,
        peak_mib=torch.cuda.max_memory_reserved(device) >> 20,
        busy=_busy(device),
    )


def _busy(device: torch.device) -> int | None:
    """By nvidia-ml-py, which knows nothing of MIG instances, and is not everywhere."""
    try:
        return int(torch.cuda.utilization(device))
    except Exception:  # where it is absent, its errors have no class
        return None
