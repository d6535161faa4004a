"""GPUs for a job: an executor for each, so that every process has the same one all its life.

Spark gives an executor all its GPUs when it starts, to no other one meanwhile, and each of its
tasks the part that the task asks for (Spark: "Custom Resource Scheduling and Configuration
Overview"). It accepts an application whose executors fit nowhere, and waits for ever.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Final

from sparkbundle.executor_size import asked_of, counted
from sparkbundle.spark_settings import WorkerSize

TASK: Final = "spark.task.resource.gpu.amount"
SENTIMENT_TASK: Final = "spark.sparkbundle.gpus.perTask"
"""As the packaged job knows it: only its stages that compute on GPUs ask for them."""
EXECUTOR: Final = "spark.executor.resource.gpu.amount"
_LEAST_MIB: Final = 512
"""Spark: UnifiedMemoryManager asks for one and a half times 300 MB."""
_GOES_ELSEWHERE: Final = {
    # An executor is a GPU: one that fails a task is not asked again, the others do its work.
    "spark.excludeOnFailure.enabled": "true",
    "spark.excludeOnFailure.task.maxTaskAttemptsPerExecutor": "1",
    "spark.excludeOnFailure.stage.maxFailedTasksPerExecutor": "1",
    "spark.excludeOnFailure.application.maxFailedTasksPerExecutor": "1",
}


@dataclass(frozen=True)
class GpuRequest:
    """GPUs for each task that computes on them: a whole number, or a part of one."""

    per_task: Fraction

    @property
    def executor(self) -> int:
        """GPUs of an executor."""
        return ceil(self.per_task)

    @property
    def tasks(self) -> int:
        """Tasks that have room on an executor's GPUs at a time; each needs a core, too."""
        return int(1 / self.per_task) if self.per_task < 1 else 1

    def __str__(self) -> str:
        """As Spark reads it."""
        return f"{float(self.per_task):g}"


def parse_request(text: str) -> GpuRequest:
    """What --gpus-per-task says.

    Raises:
        ValueError: it is neither a whole number nor a part of one (Spark: TaskResourceRequest).
    """
    try:
        amount = Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"{text!r} is no number") from None
    if amount <= 0 or (amount > 1 and amount.denominator != 1):
        raise ValueError(f"{text} is neither a whole number of GPUs nor a part of one, like 0.5")
    if Fraction(1, 2) < amount < 1:
        raise ValueError(f"{text}: of a GPU a task gets one half at most, or all of it")
    if amount < Fraction(1, 100):
        raise ValueError(f"{text} is too small a part of a GPU: 0.01 at least")
    return GpuRequest(amount)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The executors of a job: how many there can be at most, and the size of each."""

    executors: int
    size: WorkerSize


def layout(
    request: GpuRequest, workers: Sequence[WorkerSize], *, conf: Mapping[str, str]
) -> Layout:
    """As many executors as there are GPUs for.

    Each has an even share of its worker's cores and memory, or what `conf`, the user's, says.

    Raises:
        ValueError: no worker can hold one, or `conf` says something else of GPUs.
    """
    if given := sorted(key for key in conf if ".resource.gpu." in key):
        raise ValueError(f"--gpus-per-task and {given[0]} say the same: give one of them")
    shares = [share for one in workers if (share := _share(request, one))]
    if not shares:
        raise ValueError(_misfit(request, workers))
    share = WorkerSize(
        cores=min(one.cores for one in shares),
        memory_mib=min(one.memory_mib for one in shares),
        gpus=request.executor,
    )
    size = asked_of(conf, instead=share)
    executors = sum(_held(size, one) for one in workers)
    if not executors:
        raise ValueError(f"an executor of {_shown(size)} fits no worker: {_offers(workers)}")
    return Layout(executors=executors, size=size)


def settings_of(
    request: GpuRequest, found: Layout, *, task: str, conf: Mapping[str, str]
) -> dict[str, str]:
    """Spark's settings for a job with GPUs; `task` is the key that a task's part goes to.

    `conf`: what the user says, which is not changed.
    """
    return {
        EXECUTOR: str(request.executor),
        task: str(request),
        "spark.executor.cores": str(found.size.cores),
        "spark.executor.memory": f"{found.size.memory_mib}m",
        # What can be had: Spark waits half a minute for the rest of what is asked for.
        "spark.cores.max": str(found.executors * found.size.cores),
        **_GOES_ELSEWHERE,
        **conf,
    }


def idle(request: GpuRequest, found: Layout, workers: Sequence[WorkerSize]) -> str:
    """What of the GPUs the job cannot use for want of cores or memory; empty if nothing."""
    used, there = found.executors * request.executor, sum(one.gpus for one in workers)
    size = f"an executor has {counted(found.size.cores, 'core')} and {found.size.memory_mib} MiB"
    if used < there:
        return f"{used} of {there} GPUs can be used: {size}, and the workers have no more"
    if found.size.cores < request.tasks:
        return (
            f"{counted(found.size.cores, 'task')} at a time on a GPU, which has room for "
            f"{request.tasks}: {size}"
        )
    return ""


def most_gpus(workers: Sequence[WorkerSize]) -> int:
    """Those of the worker that has most."""
    return max((one.gpus for one in workers), default=0)


def _share(request: GpuRequest, worker: WorkerSize) -> WorkerSize | None:
    """What an executor on this worker can have; None where there can be none."""
    number = min(worker.gpus // request.executor, worker.cores, worker.memory_mib // _LEAST_MIB)
    if number < 1:
        return None
    return WorkerSize(
        cores=worker.cores // number, memory_mib=worker.memory_mib // number, gpus=request.executor
    )


def _held(size: WorkerSize, worker: WorkerSize) -> int:
    return min(
        worker.gpus // size.gpus, worker.cores // size.cores, worker.memory_mib // size.memory_mib
    )


def _misfit(request: GpuRequest, workers: Sequence[WorkerSize]) -> str:
    most = most_gpus(workers)
    if not most:
        return "no worker offers a GPU"
    if most < request.executor:
        return f"a task asks for {request.executor} GPUs, and the most that a worker has is {most}"
    least = WorkerSize(cores=1, memory_mib=_LEAST_MIB, gpus=request.executor)
    return f"an executor of at least {_shown(least)} fits no worker: {_offers(workers)}"


def _offers(workers: Sequence[WorkerSize]) -> str:
    return "they offer " + "; ".join(_shown(one) for one in workers if one.gpus)


def _shown(size: WorkerSize) -> str:
    gpus = counted(size.gpus, "GPU")
    return f"{gpus}, {counted(size.cores, 'core')} and {size.memory_mib} MiB"
