"""Jobs with GPUs on real hosts. The GPUs are SIMULATED: Spark deals them out, nothing computes."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import machines
from tests.cluster.laptop import WORKERS, Cluster, output, root
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
def wishes(cluster: Cluster) -> dict[str, Any]:
    """What `up` tells, as JSON, of three wishes at once.

    A setting of Spark's for the master's drivers, an open port on every host, and on the workers
    simulated GPUs: a program in nvidia-smi's place, good for scheduling only.
    """
    cluster.write_setting("spark.sql.shuffle.partitions: 7")
    cluster.change_inventory(firewall_open_ports=[8088])
    link = "ln -sf /usr/local/lib/simulated-nvidia-smi /usr/local/bin/nvidia-smi"
    for name, number in CARDS.items():
        root(name, f"echo {number} > /etc/simulated-gpus; {link}")
    return cluster.json("up")


@pytest.fixture(scope="module")
def cards(cluster: Cluster, wishes: dict[str, Any]) -> Cluster:
    """The cluster, whose workers have found two simulated cards and one."""
    assert offered(cluster) == {"worker-1": ["0", "1"], "worker-2": ["0"]}
    return cluster


def test_the_users_own_settings_reach_the_jobs(wishes: dict[str, Any]):
    changed = {name: set(host["changed"]) for name, host in wishes["hosts"].items()}
    opened = {"firewall : Write the rules", "firewall : Load the rules now and at every start"}
    assert changed["master"] == opened | {"secrets : Write the settings of drivers"}
    # A host with GPUs has another sandbox, and its worker is started with them.
    with_gpus = {
        "base : Write the daemons' common sandbox",
        "spark_worker : Write its unit",
        "spark_worker : Start it now and at every start of the host",
    }
    assert changed["worker-1"] == changed["worker-2"] == opened | with_gpus
    settings = root("master", "cat /etc/sparkbundle/spark-defaults.conf")
    assert "spark.sql.shuffle.partitions=7\n" in settings


def test_open_ports_of_the_inventory_stay_open(wishes: dict[str, Any]):
    probe = "timeout 3 bash -c '</dev/tcp/{}/{}' && echo open || echo closed"
    for port, expected in ((8088, "open\n"), (8089, "closed\n")):
        root("worker-1", f"systemd-run --unit=web python3 -m http.server {port}")
        try:
            wait_until(lambda port=port: f":{port} " in root("worker-1", "ss -Hltn"))
            asking = probe.format(machines.address("worker-1"), port)
            assert machines.ssh("outsider", asking).stdout == expected
        finally:
            root("worker-1", "systemctl stop web")


def test_simulated_gpus_are_offered_and_tried(cards: Cluster, wishes: dict[str, Any]):
    # The program that proves a GPU ran for each, in the sandbox: it can do nothing with these.
    proofs = wishes["verified"]["gpus"]
    addresses = {name: [gpu["address"] for gpu in tried] for name, tried in proofs.items()}
    assert addresses == {"worker-1": ["0", "1"], "worker-2": ["0"]}
    errors = {gpu["error"] for tried in proofs.values() for gpu in tried}
    assert errors == {"torch's build has no CUDA"}


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


@pytest.mark.parametrize("jobs", [5, pytest.param(50, marks=pytest.mark.long)])
def test_no_gpu_is_given_twice_over_random_jobs(cards: Cluster, tmp_path: Path, jobs: int):
    """Of four applications, three at a time, each of them of so many Spark jobs."""
    (tmp_path / "random_jobs.py").write_text(RANDOM)

    def run(number: int) -> list[list[Use]]:
        amount, parts, most, *conf = APPS[number]
        report = cards(
            "submit --wait", "--gpus-per-task", amount, "--conf", f"spark.cores.max={most}", *conf,
            tmp_path / "random_jobs.py", number, jobs, parts,
        ).stdout  # fmt: skip
        return uses(report)

    with ThreadPoolExecutor(3) as pool:
        done = [job for ended in pool.map(run, range(len(APPS))) for job in ended]
    assert len(done) == len(APPS) * jobs
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
        lines = re.findall("^ROUND (.*)$", output(job), re.MULTILINE)
        return [json.loads(line) for line in lines]

    try:
        wait_until(lambda: ["worker-1", "worker-2"] in rounds())
        root("worker-2", "echo 0 > /etc/simulated-gpus.gone")
        wait_until(lambda: rounds()[-3:] == [["worker-1"]] * 3)
        assert told(cards)["worker-2"]["faults"] == ["has GPUs 0 instead of none"]
        root("master", f"touch {cards.json('jobs', job)['work']}/enough")
        cards("logs", "-f", job)
        assert cards.state(job) == "SUCCEEDED"
    except BaseException:
        print(output(job)[-6000:])
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


def test_a_driver_that_fails_is_told_and_the_worker_does_without_its_gpus(cards: Cluster):
    root("worker-2", "rm /etc/simulated-gpus; systemctl restart spark-worker")
    try:
        report = {host["name"]: host for host in cards.json("status", code=1)["hosts"]}
        assert any("nvidia-smi fails" in fault for fault in report["worker-2"]["faults"])
        wait_until(lambda: offered(cards)["worker-2"] == [])
    finally:
        root("worker-2", f"echo {CARDS['worker-2']} > /etc/simulated-gpus")
        root("worker-2", "systemctl restart spark-worker")
        wait_until(lambda: offered(cards)["worker-2"] == ["0"])


@pytest.mark.long
def test_what_nobody_wishes_any_more_goes(cards: Cluster):
    """The cards, the open port and the setting; that things go again is tested daily with the
    notebook server (test_6_interrupted.py)."""
    for name in CARDS:
        root(name, "rm -f /usr/local/bin/nvidia-smi /etc/simulated-gpus*")
    cards.write_inventory()
    cards("up")
    assert offered(cards) == {"worker-1": [], "worker-2": []}
    assert "8088" not in root("worker-1", "nft list table inet sparkbundle")
    assert "partitions" not in root("master", "cat /etc/sparkbundle/spark-defaults.conf")
    cards.invariant()
