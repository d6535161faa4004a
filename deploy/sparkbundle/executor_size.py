"""Whether some worker can hold an executor of the size that a user asks for.

Spark itself accepts an application whose executors fit nowhere, and waits for ever.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from sparkbundle.spark_settings import WorkerSize

KEYS = ("spark.executor.memory", "spark.executor.cores")
# Spark: JavaUtils.byteStringAs; without a unit spark.executor.memory is in MiB.
_SIZE = re.compile(r"\s*(\d+)\s*(b|[kmgtp]b?)?\s*", re.IGNORECASE)
_MIB = {"b": 2**-20, "k": 2**-10, "m": 1.0, "g": 2.0**10, "t": 2.0**20, "p": 2.0**30}


def misfit(settings: Mapping[str, str], workers: Iterable[WorkerSize]) -> str:
    """Why no worker can hold an executor with these Spark settings; empty where one can.

    Spark: Master.canLaunchExecutor. A value that Spark will not read is left to Spark.
    """
    return misfit_of(asked_of(settings, instead=WorkerSize(cores=1, memory_mib=0)), workers)


def asked_of(settings: Mapping[str, str], *, instead: WorkerSize) -> WorkerSize:
    """The executor that Spark's settings ask for; of what they do not say, `instead` has it."""
    memory = _mib(settings.get("spark.executor.memory", ""))
    cores = settings.get("spark.executor.cores", "").strip()
    return replace(
        instead,
        cores=int(cores) if cores.isdecimal() else instead.cores,
        memory_mib=memory or instead.memory_mib,
    )


def misfit_of(executor: WorkerSize, workers: Iterable[WorkerSize]) -> str:
    """Why no worker can hold this executor; empty where one can."""
    offers = sorted({(one.memory_mib, one.cores) for one in workers}, reverse=True)
    if any(executor.memory_mib <= memory and executor.cores <= cores for memory, cores in offers):
        return ""
    shown = ", ".join(f"{counted(cores, 'core')} with {memory} MiB" for memory, cores in offers[:3])
    cores = counted(executor.cores, "core")
    return (
        f"an executor of {cores} with {executor.memory_mib} MiB fits no worker: "
        f"the largest offer {shown}"
    )


def _mib(text: str) -> int:
    match = _SIZE.fullmatch(text)
    return int(int(match[1]) * _MIB[(match[2] or "m")[0].lower()]) if match else 0


def counted(count: int, noun: str) -> str:
    """1 core, 2 cores."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
