"""`up` from bare hosts, again, and on hosts that somebody has changed."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import machines
from tests.cluster.conftest import HOSTS, MASTER, WORKERS, Cluster, root
from tests.deploy.conftest import wait_until

PACKAGE_TASKS = (
    "java : Install the distribution's package",
    "firewall : Install nftables",
)
NOTHING = "nothing to do: all hosts are as they shall be"


def test_from_bare_to_ready_in_one_command(bare: Cluster, capsys: pytest.CaptureFixture[str]):
    done = bare("up")
    with capsys.disabled():  # the time of every phase, in the log of every run
        print("", *(line for line in done.stderr.splitlines() if line.startswith("[")), sep="\n")
        log = max((bare.home / "state/hosts/vagrant/logs").glob("*-up.log"))
        print(f"of that the package manager of the hosts: {package_manager_seconds(log):.1f} s")
    steps = re.findall(r"^\[(\d+)/(\d+)\] (.*) … .*\(?\d+\.\d s\)?$", done.stderr, re.MULTILINE)
    assert [int(number) for number, _, _ in steps] == list(range(1, int(steps[0][1]) + 1))
    for name in HOSTS:
        assert re.search(rf"^ +{name} +changed \d+, ok \d+$", done.stderr, re.MULTILINE)
    assert "worker-1   ALIVE, 2 cores, 1024 MiB" in done.stdout
    assert "worker-2   ALIVE, 1 cores, 768 MiB" in done.stdout
    assert "worker-1: 2 tasks, worker-2: 1 tasks" in done.stdout
    assert "next:\n  sparkbundle submit -i" in done.stderr


def package_manager_seconds(log: Path) -> float:
    """How long the tasks ran that install the system's packages: Java, nftables."""
    lines = [line for line in log.read_text().splitlines() if line.startswith("{")]
    events = [event for event in map(json.loads, lines) if event["event"] in ("task", "result")]
    seconds = 0.0
    for number, event in enumerate(events):
        if event["event"] == "task" and event["name"] in PACKAGE_TASKS:
            ends = [one["at"] for one in events[number:] if one.get("task") == event["name"]]
            seconds += max(ends, default=event["at"]) - event["at"]
    assert seconds
    return seconds


def test_again_it_changes_nothing_and_asks_no_role(cluster: Cluster):
    done = cluster("up")
    assert done.stderr.count(NOTHING) == 6
    assert "is ready (changed=0)" in done.stdout


def test_with_every_role_at_every_host_it_would_change_nothing_either(cluster: Cluster):
    """That it does not is seen at the end of test_6_interrupted.py, after all that can happen."""
    assert cluster("up", "--check", "--thorough").stdout.startswith("nothing would change")


def test_status_tells_the_same_truth(cluster: Cluster):
    told = cluster.json("status")
    assert told["healthy"]
    assert told["master"] == MASTER
    found = {host["name"]: host for host in told["hosts"]}
    assert [found[name]["daemons"] for name in HOSTS] == [["master"], ["worker"], ["worker"]]
    assert [(found[name]["cores"], found[name]["memory_mib"]) for name in WORKERS] == [
        (2, 1024),
        (1, 768),
    ]
    assert found["worker-1"]["labels"] == ["big"]


def test_what_somebody_changed_is_told_and_mended(cluster: Cluster):
    """A settings file, a unit, the firewall, a daemon that was stopped: each on another host."""
    root("master", "echo spark.ui.killEnabled=true >> /etc/sparkbundle/master.properties")
    root("worker-1", "nft delete table inet sparkbundle")
    root("worker-2", "systemctl disable --now spark-worker")
    told = cluster.json("status", code=1)
    faults = {host["name"]: " ".join(host["faults"]) for host in told["hosts"]}
    assert "/etc/sparkbundle/master.properties has changed" in faults["master"]
    assert "firewall has changed" in faults["worker-1"]
    assert "spark-worker is inactive" in faults["worker-2"]
    told = cluster.json("up")
    changed = {name: host["changed"] for name, host in told["hosts"].items()}
    assert len(changed["master"]) == 2  # the file, and the master that is started with it
    assert len(changed["worker-1"]) == 1
    assert len(changed["worker-2"]) == 1
    assert told["verified"]["smoke_tasks"] == {"worker-1": 2, "worker-2": 1}
    cluster.invariant()


def test_a_host_serves_one_cluster(cluster: Cluster, tmp_path):
    other = Cluster(tmp_path)
    text = other.inventory.read_text()
    other.inventory.write_text(text.replace("cluster_name: vagrant", "cluster_name: other"))
    refused = other("up", code=3)
    assert refused.stderr.count("it belongs to cluster 'vagrant'") == 3
    assert "nothing was changed on any host" in refused.stderr
    cluster.invariant()


def test_a_job_that_takes_too_much_memory_does_not_take_the_worker_with_it(
    cluster: Cluster, tmp_path
):
    """F11: the kernel kills what is too large in the worker's control group; the worker lives."""
    before = root("worker-1", "systemctl show -P MainPID spark-worker")
    root("worker-1", "systemctl set-property --runtime spark-worker MemoryMax=1800M")
    job = tmp_path / "greedy.py"
    job.write_text(
        "from pyspark import SparkConf, SparkContext\n"
        "sc = SparkContext(conf=SparkConf().set('spark.task.maxFailures', '1'))\n"
        "eat = lambda _: [len(bytearray(b'x') * (4 << 30))]\n"
        "print(sc.parallelize(range(3), 3).mapPartitions(eat).collect())\n"
    )
    try:
        out = cluster("submit", "--wait", job, code=1).stdout
    finally:
        root("worker-1", "systemctl set-property --runtime spark-worker MemoryMax=infinity")
    assert re.search("Python worker exited unexpectedly|ExecutorLostFailure|MemoryError", out)
    assert root("worker-1", "systemctl show -P MainPID spark-worker") == before
    cluster.invariant()


@pytest.fixture(scope="module")
def asked(cluster: Cluster) -> Iterator[dict[str, Any]]:
    """What `up` tells, as JSON, of three wishes at once; and back.

    A setting of Spark's for the master's drivers, an open port on every host, and on worker-2 two
    simulated GPUs: a program in nvidia-smi's place, good for scheduling only.
    """
    cluster.write_setting("spark.sql.shuffle.partitions: 7")
    text = cluster.inventory.read_text()
    opened = "vars:\n    firewall_open_ports: [8088]\n"
    cluster.inventory.write_text(text.replace("vars:\n", opened, 1))
    link = "/usr/local/lib/simulated-nvidia-smi /usr/local/bin/nvidia-smi"
    root("worker-2", f"echo 2 > /etc/simulated-gpus; ln -s {link}")
    try:
        told = cluster.json("up")
        yield told
    finally:
        root("worker-2", "rm -f /usr/local/bin/nvidia-smi /etc/simulated-gpus")
        cluster.write_inventory()
        cluster("up")
    cluster.invariant()


def test_the_users_own_settings_reach_the_jobs(asked: dict[str, Any]):
    # The firewall's rules are written and loaded on each host; the setting is the master's.
    changed = [len(asked["hosts"][name]["changed"]) for name in ("master", "worker-1")]
    assert changed == [3, 2]
    settings = root("master", "cat /etc/sparkbundle/spark-defaults.conf")
    assert "spark.sql.shuffle.partitions=7\n" in settings


def test_open_ports_of_the_inventory_stay_open(asked: dict[str, Any]):
    probe = "timeout 3 bash -c '</dev/tcp/{}/{}' && echo open || echo closed"
    for port, expected in ((8088, "open\n"), (8089, "closed\n")):
        root("worker-1", f"systemd-run --unit=web python3 -m http.server {port}")
        try:
            wait_until(lambda port=port: f":{port} " in root("worker-1", "ss -Hltn"))
            asking = probe.format(machines.address("worker-1"), port)
            assert machines.ssh("outsider", asking).stdout == expected
        finally:
            root("worker-1", "systemctl stop web")


GPU_JOB = """
import json
from pyspark import SparkConf, SparkContext, TaskContext
conf = SparkConf().set("spark.executor.resource.gpu.amount", "1")
sc = SparkContext(conf=conf.set("spark.task.resource.gpu.amount", "1").set("spark.cores.max", "1"))
mine = lambda _: [TaskContext.get().resources()["gpu"].addresses]
print("GPUS", json.dumps(sc.parallelize([0], 1).mapPartitions(mine).collect()))
"""


def test_simulated_gpus_are_offered_and_given_to_tasks(cluster: Cluster, asked, tmp_path):
    # The program that proves a GPU ran for each, in the sandbox: it can do nothing with these.
    proofs = asked["verified"]["gpus"]
    assert proofs.keys() == {"worker-2"}
    assert [one["address"] for one in proofs["worker-2"]] == ["0", "1"]
    assert {one["error"] for one in proofs["worker-2"]} == {"torch's build has no CUDA"}
    told = {host["name"]: host for host in cluster.json("status")["hosts"]}
    assert told["worker-2"]["gpus"] == ["0", "1"]
    assert told["worker-1"]["gpus"] == []
    job = tmp_path / "gpu.py"
    job.write_text(GPU_JOB)
    out = cluster("submit", "--wait", job).stdout
    assert re.search(r'^GPUS \[\["[01]"\]\]$', out, re.MULTILINE)
    # A driver that fails is told, and the worker does without its GPUs.
    root("worker-2", "rm /etc/simulated-gpus; systemctl restart spark-worker")
    told = {host["name"]: host for host in cluster.json("status", code=1)["hosts"]}
    assert any("nvidia-smi fails" in fault for fault in told["worker-2"]["faults"])
