"""The GPUs that Spark has given a job: how many a task gets, and what its tasks see of them.

An application holds its GPUs as long as it lives, an executor for each (`sparkbundle submit
--gpus-per-task`). Only stages that compute on them ask for them, by a resource profile of their
tasks: others run on all cores meanwhile. Spark: "Stage Level Scheduling Overview" in
https://spark.apache.org/docs/4.1.0/configuration.html.
"""

import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeVar

import torch
from pyspark import RDD, SparkContext, TaskContext
from pyspark.resource import ResourceProfile, ResourceProfileBuilder, TaskResourceRequests
from pyspark.sql import SparkSession

from sentiment.device import CPU, DeviceConfig, GpuError, gpu_use, no_cuda, on_device
from sentiment.errors import SentimentError, first_line
from sentiment.session import cores, slots

PER_TASK: Final = "spark.sparkbundle.gpus.perTask"
"""A setting of ours: how many GPUs a task that computes on them gets, 0.5 and the like included."""
RESOURCE: Final = "gpu"
Wanted = Literal["auto", "cpu", "cuda"]
T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True)
class Gpus:
    """What tasks that compute are given. `profile`: None where they compute on the CPU.

    `names`: the GPUs that were tried, each with its host.
    """

    device: DeviceConfig = CPU
    profile: ResourceProfile | None = None
    names: tuple[str, ...] = ()

    def slots(self, context: SparkContext) -> int:
        """How many such tasks could run at once now."""
        return slots(context, self.profile)

    def workers(self, spark: SparkSession) -> int:
        """How many workers a run has if nobody says: as many as work at the same time."""
        return cores(spark) if self.profile is None else max(1, self.slots(spark.sparkContext))

    def given_to(self, rdd: RDD[T]) -> RDD[T]:
        """The rows, whose stage's tasks get GPUs. A stage before it, of a shuffle, gets none."""
        return rdd if self.profile is None else rdd.withResources(self.profile)

    def run(
        self,
        rdd: RDD[T],
        function: Callable[[Iterable[T]], Iterable[U]],
        partitions: list[int] | None = None,
    ) -> list[U]:
        """SparkContext.runJob, which takes no profile, with ours."""
        if self.profile is None:
            return rdd.context.runJob(rdd, function, partitions)
        return rdd.context.runJob(self.given_to(rdd.mapPartitions(function)), _as_it_is, partitions)


NO_GPUS: Final = Gpus()


def _as_it_is(results: Iterable[U]) -> Iterable[U]:
    return results


def per_task(context: SparkContext) -> float:
    """How many GPUs the job was given for a task; 0 where it has none."""
    return float(context.getConf().get(PER_TASK, "0") or 0)


def gpus_for(
    context: SparkContext, wanted: DeviceConfig, kind: Wanted, *, warn: Callable[[str], None]
) -> Gpus:
    """What the job's tasks compute on: `wanted`, on the kind of device that was asked for.

    `auto` is the GPUs that the job was given, and else the CPU. The GPUs are tried first. `warn` is
    told if `auto` comes down to the CPU though the job was given GPUs, and of each that fails.

    Raises:
        SentimentError: `kind` is cuda, and the job has no GPU, or its tasks can use none.
    """
    amount = per_task(context)
    if kind == "cpu" or (kind == "auto" and not amount):
        if amount:
            warn("--device cpu: the GPUs that the job holds are not used")
        if wanted.precision != CPU.precision:
            warn(f"--precision {wanted.precision} is for GPUs: a CPU computes in {CPU.precision}")
        return NO_GPUS
    config = replace(wanted, kind="cuda", share=min(amount, 1.0) or 1.0)
    if not amount:
        return _without_profile(context, config)
    requests = TaskResourceRequests().cpus(1).resource(RESOURCE, amount)
    gpus = Gpus(config, ResourceProfileBuilder().require(requests).build)
    tried = try_each(context, gpus)
    faults = [f"{one.host}: {one.fault}" for one in tried if one.fault]
    if len(faults) < len(tried):
        for fault in faults:
            warn(f"{fault}; what fails there is done elsewhere")
        return replace(gpus, names=tuple(f"{one.host}: {one.name}" for one in tried if one.name))
    if kind == "cuda":
        raise SentimentError(
            f"--device cuda: {faults[0]}",
            todo="mend that, or leave --device out to use the CPU",
        )
    warn(f"{faults[0]}: the job computes on the CPU, and holds GPUs that it does not use")
    return NO_GPUS


@dataclass(frozen=True)
class Tried:
    """A task's GPU: its host, what is wrong with it or empty, its name."""

    host: str
    fault: str
    name: str


def try_each(context: SparkContext, gpus: Gpus) -> list[Tried]:
    """As many tasks at once as there are GPUs for, each of which computes a little on its own."""
    config = gpus.device

    def try_one(_: Iterable[int]) -> Iterator[Tried]:
        host = socket.gethostname()
        try:
            with task_device(config) as device:
                torch.ones(1, device=device).add(1).item()
                use = gpu_use(device)
            yield Tried(host, "", use.name if use else "")
        except (GpuError, RuntimeError) as error:
            address = ", ".join(task_addresses()) or "0"
            yield Tried(host, f"GPU {address}: {first_line(error)}", "")

    # Spark begins a job when all executors that it asks for are there, or after a while with some.
    context.parallelize(range(1), 1).count()
    number = max(1, gpus.slots(context))
    tasks = gpus.given_to(context.parallelize(range(number), number))
    return tasks.barrier().mapPartitions(try_one).collect()


def _without_profile(context: SparkContext, config: DeviceConfig) -> Gpus:
    """CUDA where nobody deals GPUs out: this process' own, of this machine."""
    if not str(context.master).startswith("local"):
        raise SentimentError(
            "--device cuda: the job has no GPUs",
            todo="ask for them: sparkbundle submit --gpus-per-task 1 sentiment …",
        )
    if why := no_cuda():
        raise SentimentError(f"--device cuda: {why}", todo="leave --device out to use the CPU")
    return Gpus(config)


@contextmanager
def task_device(config: DeviceConfig) -> Iterator[torch.device]:
    """The device of the task that this is, as long as the block lasts.

    Raises:
        GpuError: the task cannot use the GPU that it was given.
        SentimentError: its share of the GPU's memory is not enough.
    """
    try:
        with on_device(config, task_addresses()) as device:
            yield device
    except torch.OutOfMemoryError as error:
        text = str(error).split(". ", 1)[0]
        raise SentimentError(
            f"{text}; {config.share:.0%} of the GPU's memory is a task's",
            todo="give a smaller --batch-size, or tasks more of a GPU: --gpus-per-task",
        ) from error


def task_addresses() -> list[str]:
    """The addresses of the GPUs that Spark has given to the task that this is."""
    context = TaskContext.get()
    given = context.resources().get(RESOURCE) if context else None
    return list(given.addresses) if given else []
