"""Jobs with GPUs on real hosts. The GPUs are SIMULATED: Spark deals them out, nothing computes."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import WORKERS, Cluster, root
from tests.deploy.conftest import wait_until
from tests.gpu_apps import RANDOM, VANISHING, Use, apps_at_once, most_at_once, uses

CARDS = {"worker-1": 2, "worker-2": 1}
APPS = (
    # --gpus-per-task, the parts that its jobs ask for, how many cores it takes at most
    ("1", "1,0.5,0", "1"),
    ("0.5", "0.5,1,0.25,0", "2", "--conf", "spark.executor.cores=2"),
    ("2", "2,1,0.5,0", "2"),
    ("1", "1,0.3,0", "3"),
)


def told(cluster: Cluster) -> dict[str, dict[str, Any]]:
    """What `status` says of each worker, whether all is well or not."""
    hosts = json.loads(cluster.popen("status --json").communicate()[0])["hosts"]
    return {one["name"]: one for one in hosts if one["name"] in WORKERS}


def offered(cluster: Cluster) -> dict[str, list[str]]:
    return {name: one["gpus"] for name, one in told(cluster).items()}


@pytest.fixture(scope="module")
def cards(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster, whose workers have found two simulated cards and one."""
    link = "ln -sf /usr/local/lib/simulated-nvidia-smi /usr/local/bin/nvidia-smi"
    for name, number in CARDS.items():
        root(name, f"echo {number} > /etc/simulated-gpus; {link}; systemctl restart spark-worker")
    try:
        wait_until(lambda: offered(cluster) == {"worker-1": ["0", "1"], "worker-2": ["0"]})
        yield cluster
    finally:
        for name in CARDS:
            root(name, "rm -f /usr/local/bin/nvidia-smi /etc/simulated-gpus*")
            root(name, "systemctl restart spark-worker")
        wait_until(lambda: not any(offered(cluster).values()))
    cluster.invariant()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["4"], "a task asks for 4 GPUs, and the most that a worker has is 2"),
        (["1", "--conf", "spark.executor.memory=4g"], "1 GPU, 1 core and 4096 MiB fits no worker"),
    ],
)
def test_what_no_worker_has_is_refused_at_once(cards: Cluster, tmp_path: Path, words, why):
    job = tmp_path / "app.py"
    job.write_text("print(1)\n")
    refused = cards("submit", "--gpus-per-task", *words, str(job), code=3, timeout=60)
    assert why in refused.stderr
    assert "sparkbundle status" in refused.stderr


def test_no_gpu_is_given_twice_over_two_hundred_random_jobs(cards: Cluster, tmp_path: Path):
    """Of four applications, three at a time, each of them of 50 Spark jobs."""
    (tmp_path / "random_jobs.py").write_text(RANDOM)

    def run(number: int) -> list[list[Use]]:
        amount, parts, most, *conf = APPS[number]
        said = cards(
            "submit --wait", "--gpus-per-task", amount, "--conf", f"spark.cores.max={most}", *conf,
            tmp_path / "random_jobs.py", number, 50, parts,
        ).stdout  # fmt: skip
        return uses(said)

    with ThreadPoolExecutor(3) as pool:
        done = [job for jobs in pool.map(run, range(len(APPS))) for job in jobs]
    assert len(done) == 200
    tasks = [task for job in done for task in job]
    for task in tasks:
        assert len(task.gpus) == (0 if not task.amount else max(1, int(task.amount)))
    used = most_at_once(tasks)
    assert used.keys() == {("worker-1", "0"), ("worker-1", "1"), ("worker-2", "0")}
    assert max(used.values()) <= 1.0 + 1e-9, used
    assert max(apps_at_once(tasks).values()) == 1
    assert any(task.amount == 0 for task in tasks)
    # Parts of a GPU were at work side by side, or the sum above would say nothing.
    halves = most_at_once([task for task in tasks if 0 < task.amount < 1])
    assert max(halves.values()) > 0.5


def test_work_goes_on_elsewhere_when_a_gpu_vanishes(cards: Cluster, tmp_path: Path):
    (tmp_path / "vanishing.py").write_text(VANISHING)
    job = cards.json("submit", "--gpus-per-task", "1", tmp_path / "vanishing.py")["id"]

    def rounds() -> list[list[str]]:
        return [json.loads(one) for one in re.findall("^ROUND (.*)$", logs(), re.MULTILINE)]

    def logs() -> str:
        return cards("logs", job).stdout

    try:
        wait_until(lambda: ["worker-1", "worker-2"] in rounds())
        root("worker-2", "echo 0 > /etc/simulated-gpus.gone")
        wait_until(lambda: rounds()[-3:] == [["worker-1"]] * 3)
        assert told(cards)["worker-2"]["faults"] == ["has GPUs 0 instead of none"]
        root("master", f"touch {cards.json('jobs', job)['work']}/enough")
        cards("logs", "-f", job)
        assert cards.state(job) == "SUCCEEDED"
    except BaseException:
        print(logs()[-6000:])
        raise
    finally:
        root("worker-2", "rm -f /etc/simulated-gpus.gone")


@pytest.mark.long
def test_a_driver_that_hangs_costs_its_host_the_gpus_only(cards: Cluster):
    root("worker-2", "touch /etc/simulated-gpus.hang; systemctl restart spark-worker")
    try:
        wait_until(lambda: offered(cards)["worker-2"] == [])
        found = told(cards)
        assert any("nvidia-smi hangs" in fault for fault in found["worker-2"]["faults"])
        assert found["worker-1"]["gpus"] == ["0", "1"]
    finally:
        root("worker-2", "rm -f /etc/simulated-gpus.hang; systemctl restart spark-worker")
        wait_until(lambda: offered(cards) == {"worker-1": ["0", "1"], "worker-2": ["0"]})
