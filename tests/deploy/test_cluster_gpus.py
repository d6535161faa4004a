"""A real cluster on this machine whose GPUs are SIMULATED: it schedules them, nothing computes."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.conftest import CommandLine, wait_until

SIMULATED = Path(__file__).parents[1] / "cluster/simulated_nvidia_smi.sh"
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


def simulate(cli: CommandLine, *, gpus: int) -> CommandLine:
    """The command line on a machine with so many simulated GPUs."""
    program = cli.home / "bin/nvidia-smi"
    program.parent.mkdir()
    program.write_text(SIMULATED.read_text())
    program.chmod(0o755)
    (cli.home / "gpus").write_text(f"{gpus}\n")
    cli.env["PATH"] = f"{program.parent}{os.pathsep}{cli.env['PATH']}"
    cli.env["SIMULATED_GPUS"] = str(cli.home / "gpus")
    return cli


@pytest.fixture
def three(cli: CommandLine) -> CommandLine:
    return simulate(cli, gpus=3)


def offered(cli: CommandLine) -> dict[str, list[str]]:
    """The GPUs of each worker in the master's book."""
    daemons = cli.json("status")["daemons"]
    return {one["name"]: one["gpus"] for one in daemons if one["name"] != "master"}


def told_by_a_job(cli: CommandLine) -> Any:
    (cli.home / "app.py").write_text(APP)
    shown = cli("submit", "--wait", *ONE_EACH, "app.py").stdout
    (line,) = [line for line in shown.splitlines() if line.startswith("TOLD ")]
    return json.loads(line.removeprefix("TOLD "))


def test_workers_offer_the_gpus_of_this_machine_and_jobs_get_them(three: CommandLine):
    shape = ("--workers", "2", "--cores-per-worker", "1", "--memory-per-worker", "512m")
    done = three("up", *shape)
    assert "GPUs      0,1,2" in done.stdout
    assert "warning" not in done.stderr
    assert offered(three) == DEALT
    shown = three("status").stdout
    assert "512m, GPUs 0,2\n" in shown
    assert "512m, GPUs 1\n" in shown

    told = told_by_a_job(three)
    assert told["worker-1"] in (["0"], ["2"])
    assert told["worker-2"] == ["1"]

    refused = three("up", "--gpus", "none", code=3)
    assert "--gpus is 0,1,2, asked for none" in refused.stderr
    assert "nothing to do" in three("up", "--gpus", "3").stdout

    three.daemon("default", "worker-1").kill()
    (three.home / "gpus").write_text("1\n")  # what there is now is not asked
    wait_until(lambda: three.popen("status").wait() == 1)
    assert three.json("up")["changed"] == ["worker-1"]
    assert offered(three) == DEALT


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="this machine has nvidia-smi")
def test_without_nvidia_smi_nobody_speaks_of_gpus(shared: CommandLine):
    for words in (("up",), ("up", "--gpus", "auto"), ("status",)):
        done = shared(*words, "--name", "one")
        assert "GPU" not in done.stdout + done.stderr
    assert all(one["gpus"] == [] for one in shared.json("status", "--name", "one")["daemons"])
