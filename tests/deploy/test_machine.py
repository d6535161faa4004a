from pathlib import Path

import pytest

from sparkbundle.errors import PREFLIGHT, PreflightError
from sparkbundle.machine import (
    Machine,
    Shape,
    check_disk,
    parse_size,
    plan_shape,
    this_machine,
)


@pytest.mark.parametrize(
    ("text", "mib"),
    [("1g", 1024), ("512m", 512), ("2GiB", 2048), (" 1t ", 1 << 20), ("3 GB", 3072)],
)
def test_sizes(text: str, mib: int):
    assert parse_size(text) == mib


@pytest.mark.parametrize("text", ["", "1", "g", "1.5g", "-1g", "1k", "1gg"])
def test_what_is_no_size(text: str):
    with pytest.raises(ValueError, match="not a size"):
        parse_size(text)


def plan(machine: Machine, **wish: int) -> Shape:
    return plan_shape(
        machine,
        workers=wish.get("workers"),
        cores=wish.get("cores"),
        memory_mib=wish.get("memory_mib"),
    )


def test_two_cores_and_eight_gigabytes_make_two_workers_of_one_core_and_one_gigabyte():
    assert plan(Machine(cores=2, memory_mib=8192)) == Shape(workers=2, cores=1, memory_mib=1024)


def test_one_core_still_makes_two_workers():
    assert plan(Machine(cores=1, memory_mib=4096)) == Shape(workers=2, cores=1, memory_mib=512)


def test_a_big_machine_does_not_give_all_to_java_heaps():
    assert plan(Machine(cores=64, memory_mib=512 * 1024)) == Shape(2, 32, 4096)


def test_too_much_memory_is_refused_with_the_sum():
    with pytest.raises(PreflightError) as caught:
        plan(Machine(cores=2, memory_mib=8192), workers=4, memory_mib=4096)
    assert caught.value.code == PREFLIGHT
    assert "4 workers × 4096 MiB = 16384 MiB" in caught.value.what
    assert "8192 MiB, less 2048 MiB" in caught.value.what
    assert "1536m" in caught.value.todo


def test_a_machine_that_is_too_small_is_refused_with_what_would_do():
    with pytest.raises(PreflightError) as caught:
        plan(Machine(cores=2, memory_mib=2800))
    assert "--workers 1" in caught.value.todo
    with pytest.raises(PreflightError, match="do not fit") as caught:
        plan(Machine(cores=2, memory_mib=1024))
    assert "2560 MiB" in caught.value.todo


def test_an_executor_smaller_than_spark_takes_is_refused():
    with pytest.raises(PreflightError, match="512 MiB"):
        plan(Machine(cores=2, memory_mib=8192), memory_mib=256)


def test_this_machine_has_something():
    assert this_machine().cores >= 1
    assert this_machine().memory_mib > 256


def test_disk_is_measured_where_the_state_will_be(tmp_path: Path):
    check_disk(tmp_path / "not" / "there" / "yet", needed_mib=0)
    with pytest.raises(PreflightError, match="MiB free") as caught:
        check_disk(tmp_path / "not" / "there" / "yet", needed_mib=1 << 40)
    assert caught.value.where == str(tmp_path)
