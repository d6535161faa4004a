"""GPUs for a job: which executors follow from what the workers offer, and what is refused."""

from collections.abc import Mapping
from fractions import Fraction
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparkbundle.gpu_request import GpuRequest, idle, layout, parse_request, settings_of
from sparkbundle.spark_settings import WorkerSize


def worker(gpus: int, cores: int = 8, gib: int = 32) -> WorkerSize:
    return WorkerSize(cores=cores, memory_mib=gib << 10, gpus=gpus)


def settings(
    text: str, workers: list[WorkerSize], conf: Mapping[str, str] = MappingProxyType({})
) -> dict[str, str]:
    request = parse_request(text)
    return settings_of(request, layout(request, workers, conf=conf), task="t", conf=conf)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "0.7", "0.001", "x", "1/0", "", "nan"])
def test_what_is_no_amount_is_refused(text: str):
    with pytest.raises(ValueError, match=r"number|GPU"):
        parse_request(text)


@pytest.mark.parametrize(
    ("text", "executor", "tasks"), [("1", 1, 1), ("2", 2, 1), ("0.5", 1, 2), ("0.3", 1, 3)]
)
def test_an_amount_tells_how_many_tasks_share(text: str, executor: int, tasks: int):
    found = parse_request(text)
    assert (found.executor, found.tasks, str(found)) == (executor, tasks, text)


@pytest.mark.parametrize(
    ("text", "workers", "executors", "cores", "gib"),
    [
        ("1", [worker(0), worker(1), worker(2)], 3, 4, 16),
        ("1", [worker(4)], 4, 2, 8),
        ("2", [worker(1), worker(5)], 2, 4, 16),
        ("0.5", [worker(2, cores=4)], 2, 2, 16),
        ("0.25", [worker(2, cores=4)], 2, 2, 16),
        ("1", [worker(8, cores=2)], 2, 1, 16),
    ],
)
def test_an_executor_for_each_gpu(text, workers, executors, cores, gib):
    found = layout(parse_request(text), workers, conf={})
    assert found.executors == executors
    assert (found.size.cores, found.size.memory_mib) == (cores, gib << 10)


def test_the_settings_are_sparks():
    found = settings("0.5", [worker(2, cores=4)])
    assert found["spark.executor.resource.gpu.amount"] == "1"
    assert found["t"] == "0.5"
    assert found["spark.executor.cores"] == "2"
    assert found["spark.cores.max"] == "4"
    assert found["spark.executor.memory"] == "16384m"


def test_what_the_user_says_stays():
    conf = {"spark.executor.cores": "1", "spark.executor.memory": "2g", "spark.cores.max": "1"}
    assert conf.items() <= settings("1", [worker(2)], conf).items()


@pytest.mark.parametrize(
    ("text", "workers", "conf", "why"),
    [
        ("1", [worker(0)], {}, "no worker offers a GPU"),
        ("4", [worker(2), worker(1)], {}, "asks for 4 GPUs, and the most that a worker has is 2"),
        ("1", [WorkerSize(cores=4, memory_mib=400, gpus=1)], {}, "at least 1 GPU, 1 core and 512"),
        ("1", [worker(1)], {"spark.executor.memory": "64g"}, "fits no worker: they offer 1 GPU, 8"),
        ("1", [worker(1)], {"spark.task.resource.gpu.amount": "1"}, "say the same"),
    ],
)
def test_what_cannot_be_had_is_refused(text, workers, conf, why):
    with pytest.raises(ValueError, match=why):
        layout(parse_request(text), workers, conf=conf)


@pytest.mark.parametrize(
    ("text", "workers", "said"),
    [
        ("1", [worker(2)], ""),
        ("0.5", [worker(2, cores=4)], ""),
        ("1", [worker(8, cores=2)], "2 of 8 GPUs can be used: an executor has 1 core and"),
        ("1", [worker(1), worker(2, cores=1)], "2 of 3 GPUs can be used"),
        ("2", [worker(3)], "2 of 3 GPUs can be used"),
        ("0.25", [worker(2, cores=4)], "2 tasks at a time on a GPU, which has room for 4"),
    ],
)
def test_what_of_the_gpus_is_idle_is_told(text: str, workers: list[WorkerSize], said: str):
    request = parse_request(text)
    told = idle(request, layout(request, workers, conf={}), workers)
    assert told.startswith(said) and bool(told) == bool(said)


@given(
    workers=st.lists(
        st.builds(worker, gpus=st.integers(0, 8), cores=st.integers(1, 64), gib=st.integers(1, 99)),
        min_size=1,
        max_size=5,
    ),
    amount=st.sampled_from([Fraction(1, 4), Fraction(1, 2), Fraction(1), Fraction(2), Fraction(3)]),
)
def test_executors_never_take_more_than_there_is(workers: list[WorkerSize], amount: Fraction):
    """Placed one after the other, as Spark's master does, all of them find a place."""
    request = GpuRequest(amount)
    try:
        found = layout(request, workers, conf={})
    except ValueError:
        assert all(one.gpus < request.executor for one in workers)
        return
    size, placed = found.size, 0
    for one in workers:
        cores, memory, gpus = one.cores, one.memory_mib, one.gpus
        while cores >= size.cores and memory >= size.memory_mib and gpus >= size.gpus:
            cores, memory, gpus = cores - size.cores, memory - size.memory_mib, gpus - size.gpus
            placed += 1
    assert placed == found.executors >= 1
