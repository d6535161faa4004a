"""A real cluster on this machine whose GPUs are SIMULATED: it schedules them, nothing computes."""

import json
import shutil
from typing import Any

import pytest

from tests.deploy.conftest import CommandLine, wait_until

DEALT = {"worker-1": ["0", "2"], "worker-2": ["1"]}
ONE_EACH = [f"--conf=spark.{who}.resource.gpu.amount=1" for who in ("executor", "task")]
APP = """
import json, os
from pyspark import TaskContext
from pyspark.sql import SparkSession

def mine(_):
    yield os.environ["SPARKBUNDLE_ROLE"], list(TaskContext.get().resources()["gpu"].addresses)

context = SparkSession.builder.getOrCreate().sparkContext
both = context.parallelize(range(2), 2).barrier()
print("TOLD", json.dumps(dict(both.mapPartitions(mine).collect())))
"""


def offered(cli: CommandLine) -> dict[str, list[str]]:
    """The GPUs of each worker in the master's book."""
    daemons = cli.json("status")["daemons"]
    return {one["name"]: one["gpus"] for one in daemons if one["name"] != "master"}


def told_by_a_job(cli: CommandLine) -> Any:
    (cli.home / "app.py").write_text(APP)
    shown = cli("submit", "--wait", *ONE_EACH, "app.py").stdout
    (line,) = [line for line in shown.splitlines() if line.startswith("TOLD ")]
    return json.loads(line.removeprefix("TOLD "))


def test_workers_offer_the_gpus_of_this_machine_and_jobs_get_them(gpus: CommandLine):
    shown = (gpus.home / "up.txt").read_text()
    assert "GPUs      0,1,2" in shown
    assert "warning" not in shown
    assert offered(gpus) == DEALT
    shown = gpus("status").stdout
    assert "600m, GPUs 0,2\n" in shown
    assert "600m, GPUs 1\n" in shown

    told = told_by_a_job(gpus)
    assert told["worker-1"] in (["0"], ["2"])
    assert told["worker-2"] == ["1"]

    refused = gpus("up", "--gpus", "none", code=3)
    assert "--gpus is 0,1,2, asked for none" in refused.stderr
    assert "nothing to do" in gpus("up", "--gpus", "3").stdout

    gpus.daemon("default", "worker-1").kill()
    (gpus.home / "gpus").write_text("1\n")  # what there is now is not asked
    try:
        wait_until(lambda: gpus.popen("status").wait() == 1)
        assert gpus.json("up")["changed"] == ["worker-1"]
        assert offered(gpus) == DEALT
    finally:
        (gpus.home / "gpus").write_text("3\n")


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="this machine has nvidia-smi")
def test_without_nvidia_smi_nobody_speaks_of_gpus(shared: CommandLine):
    for words in (("up",), ("up", "--gpus", "auto"), ("status",)):
        done = shared(*words, "--name", "one")
        assert "GPU" not in done.stdout + done.stderr
    assert all(one["gpus"] == [] for one in shared.json("status", "--name", "one")["daemons"])
