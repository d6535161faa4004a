"""`up` from bare hosts, again, and on hosts that somebody has changed."""

import json
import re
from pathlib import Path

import pytest

from tests.cluster.attackers import watched, words_of
from tests.cluster.laptop import COMMAND, HOSTS, MASTER, WORKERS, Cluster, root
from tests.cluster.layers import Layer

LEAVES_IT_WHOLE = True

PACKAGE_TASKS = (
    "java : Install the distribution's package",
    "firewall : Install nftables",
)
NOTHING = "nothing to do: all hosts are as they shall be"


def test_from_bare_to_ready_in_one_command(layer: Layer, capsys: pytest.CaptureFixture[str]):
    """The `up` that made the layer on which all tests begin."""
    done = layer.up
    with capsys.disabled():  # the time of every phase, in the log of every run
        print("", *(line for line in done.stderr.splitlines() if line.startswith("[")), sep="\n")
        seconds = package_manager_seconds(layer.log)
        print(f"of that the package manager of the hosts: {seconds:.1f} s")
    steps = re.findall(r"^\[(\d+)/(\d+)\] (.*) … .*\(?\d+\.\d s\)?$", done.stderr, re.MULTILINE)
    assert [int(number) for number, _, _ in steps] == list(range(1, int(steps[0][1]) + 1))
    for name in HOSTS:
        assert re.search(rf"^ +{name} +changed \d+, ok \d+$", done.stderr, re.MULTILINE)
    assert "worker-1   ALIVE, 2 cores, 1024 MiB" in done.stdout
    assert "worker-2   ALIVE, 1 cores, 768 MiB" in done.stdout
    assert "worker-1: 2 tasks, worker-2: 1 tasks" in done.stdout
    assert "exact result from 2 workers, and in a notebook" in done.stderr
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
    """All hosts have booted since: the services are back by themselves, the smoke job is exact."""
    done = cluster("up")
    assert done.stderr.count(NOTHING) == 6
    assert "is ready (changed=0)" in done.stdout
    proven = ("worker-1: 2 tasks, worker-2: 1 tasks", "it has passed since the last start")
    assert any(text in done.stdout for text in proven)


def test_status_tells_the_same_truth(cluster: Cluster):
    told = cluster.json("status")
    assert told["healthy"]
    assert told["master"] == MASTER
    found = {host["name"]: host for host in told["hosts"]}
    daemons = [["master", "notebook"], ["worker"], ["worker"]]
    assert [found[name]["daemons"] for name in HOSTS] == daemons
    assert [(found[name]["cores"], found[name]["memory_mib"]) for name in WORKERS] == [
        (2, 1024),
        (1, 768),
    ]
    assert found["worker-1"]["labels"] == ["big"]


def test_what_somebody_changed_is_told_and_mended_and_no_secret_is_told(cluster: Cluster):
    """Settings and secrets, the firewall, a daemon that was stopped: each on another host.

    All roles look at all hosts and change what was changed, nothing else. S8: no secret is in the
    output, the logs, the differences, or seen by those who look at processes.
    """
    secrets = cluster.secrets()
    files = "secrets.json spark-defaults.conf history.properties"
    root("master", "echo spark.ui.killEnabled=true >> /etc/sparkbundle/master.properties")
    root("master", f"cd /etc/sparkbundle; for f in {files}; do echo >> $f; done")
    root("worker-1", "nft delete table inet sparkbundle")
    root("worker-1", "echo >> /etc/sparkbundle/worker.properties")
    root("worker-2", "systemctl disable --now spark-worker")
    report = cluster.json("status", code=1)
    faults = {host["name"]: " ".join(host["faults"]) for host in report["hosts"]}
    assert "/etc/sparkbundle/master.properties has changed" in faults["master"]
    assert "/etc/sparkbundle/secrets.json has changed" in faults["master"]
    assert "firewall has changed" in faults["worker-1"]
    assert "/etc/sparkbundle/worker.properties has changed" in faults["worker-1"]
    assert "spark-worker is inactive" in faults["worker-2"]

    talkative = {"ANSIBLE_VERBOSITY": "4", "ANSIBLE_DIFF_ALWAYS": "1", "ANSIBLE_DEBUG": "1"}
    command = [COMMAND, "--debug", "up", "-i", str(cluster.inventory)]
    checked, shown = watched([*command, "--check"], cluster.env | talkative, secrets)
    mended, told = watched([*command, "--json"], cluster.env | talkative, secrets)
    paths = [path for path in (cluster.home / "state").rglob("*") if path.is_file()]
    logs = "".join(path.read_text(errors="replace") for path in paths)
    assert "changes would be made" in checked
    assert checked.count("Write its settings") >= 3
    for text in (checked, shown, mended, told, logs):
        assert not any(word in text for word in words_of(secrets))
    for text in (checked, mended, logs):
        assert "Write the secrets" in text

    report = json.loads(mended)
    settings, start = "Write its settings", "Start it now and at every start of the host"
    assert {name: set(host["changed"]) for name, host in report["hosts"].items()} == {
        "master": {
            *("secrets : Write the secrets", "secrets : Write the settings of drivers"),
            *(f"spark_master : {settings}", f"spark_master : {start}"),
            *(f"spark_history : {settings}", f"spark_history : {start}"),
        },
        "worker-1": {
            "firewall : Load the rules now and at every start",
            *(f"spark_worker : {settings}", f"spark_worker : {start}"),
        },
        "worker-2": {f"spark_worker : {start}"},
    }
    assert report["verified"]["smoke_tasks"] == {"worker-1": 2, "worker-2": 1}
    cluster.invariant()


def test_a_host_serves_one_cluster(cluster: Cluster, tmp_path):
    other = Cluster(tmp_path)
    text = other.inventory.read_text()
    other.inventory.write_text(text.replace("cluster_name: vagrant", "cluster_name: other"))
    refused = other("up", code=3)
    assert refused.stderr.count("it belongs to cluster 'vagrant'") == 3
    assert "nothing was changed on any host" in refused.stderr
    assert cluster.is_healthy()  # the next test ends with the whole invariant


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
