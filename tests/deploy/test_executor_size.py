"""Executors that fit no worker are refused, with the sum."""

import json
from pathlib import Path

import pytest

from sparkbundle.executor_size import misfit
from sparkbundle.master import parse_state
from sparkbundle.spark_settings import WorkerSize
from tests.deploy.conftest import CommandLine, wait_until

WORKERS = [WorkerSize(cores=2, memory_mib=1024), WorkerSize(cores=4, memory_mib=768)]
HERE = ("--name", "one")


@pytest.mark.parametrize(
    ("memory", "cores", "fits"),
    [
        ("1g", "2", True),
        ("1024", "2", True),
        ("1048576k", "1", True),
        ("1025m", "1", False),
        ("0.5g", "1", True),  # not Spark's syntax: Spark says so itself
        ("768m", "4", True),
        ("1g", "4", False),
        ("1g", "5", False),
        ("1TB", "1", False),
    ],
)
def test_some_worker_must_hold_it_in_memory_and_cores(memory: str, cores: str, fits: bool):
    settings = {"spark.executor.memory": memory, "spark.executor.cores": cores}
    assert (misfit(settings, WORKERS) == "") is fits


def test_the_sum_is_told():
    assert misfit({"spark.executor.memory": "5g"}, WORKERS) == (
        "an executor of 1 core with 5120 MiB fits no worker: "
        "the largest offer 2 cores with 1024 MiB, 4 cores with 768 MiB"
    )


@pytest.mark.parametrize(
    ("memory", "cores", "waits"), [(2048, 0, True), (512, 0, False), (2048, 1, False)]
)
def test_an_application_that_waits_for_ever_is_named(memory: int, cores: int, waits: bool):
    worker = {
        "id": "worker-1-20261125000000-10.0.0.1-7078",
        "state": "ALIVE",
        "cores": 2,
        "coresused": 0,
        "memory": 1024,
        "webuiaddress": "",
    }
    app = {"id": "a", "name": "n", "user": "u", "cores": cores, "memoryperexecutor": memory}
    told = {"url": "", "status": "ALIVE", "workers": [worker], "activeapps": [app]}
    assert bool(parse_state(told).applications[0].note) is waits


def test_submit_refuses_it_and_status_names_one_that_got_in(shared: CommandLine, tmp_path: Path):
    job = tmp_path / "large.py"
    job.write_text(
        "from pyspark.sql import SparkSession\n"
        "import sys, time\n"
        "SparkSession.builder.config('spark.executor.memory', sys.argv[1]).getOrCreate()\n"
        "time.sleep(600)\n"
    )
    refused = shared("submit", *HERE, "--conf", "spark.executor.memory=900g", str(job), code=3)
    assert "an executor of 1 core with 921600 MiB fits no worker" in refused.stderr
    refused = shared("submit", *HERE, "--conf", "spark.authenticate=false", str(job), code=3)
    assert "spark.authenticate cannot be set: it protects the cluster" in refused.stderr
    started = shared("submit", *HERE, "--json", str(job), "900g").stdout
    try:
        wait_until(lambda: "large.py" in shared("status", *HERE).stdout)
        assert (
            "waits for ever: an executor of 1 core with 921600 MiB"
            in shared("status", *HERE).stdout
        )
    finally:
        shared("cancel", *HERE, json.loads(started)["id"])
