"""The cluster grows and shrinks: `add`, `remove`, with jobs running."""

from pathlib import Path

import pytest

from tests.cluster import machines
from tests.cluster.laptop import HOSTS, Cluster, executors, root
from tests.deploy.conftest import wait_until

pytestmark = pytest.mark.long
SPARE = {"spark_cores": 1, "spark_memory": "768m"}


@pytest.fixture(scope="module")
def spare(cluster: Cluster) -> str:
    """A fresh machine that the cluster knows nothing of."""
    machines.fresh("worker-3")
    return "worker-3"


def test_a_host_must_be_in_the_inventory(cluster: Cluster, spare: str):
    refused = cluster("add", spare, code=3)
    assert "add it to the group workers there" in refused.stderr


def test_add_touches_the_new_host_and_what_must_change(cluster: Cluster, spare: str, sleeper: Path):
    job = cluster.sleep(sleeper)
    starts = {name: started(name) for name in HOSTS}
    cluster.write_inventory(worker_3=SPARE)
    told = cluster.json("add", spare)
    changed = {name: len(host["changed"]) for name, host in told["hosts"].items()}
    assert changed["worker-3"] > 10
    # The firewall lets the new host in; the master's drivers learn how many cores there are.
    assert changed["worker-1"] == changed["worker-2"] == 2
    assert changed["master"] == 3
    assert {name: started(name) for name in HOSTS} == starts
    assert cluster.state(job) == "RUNNING"
    found = {host["name"]: host for host in cluster.json("status")["hosts"]}
    assert found["worker-3"]["cores"] == 1
    assert cluster.json("up")["changed"] == 0
    cluster.wake(job)


def started(name: str) -> str:
    """Which start its daemons are at."""
    return root(name, "systemctl show -P InvocationID spark-master spark-worker")


def test_remove_drains_the_worker_under_a_job_and_leaves_nothing(
    cluster: Cluster, spare: str, sleeper: Path
):
    job = cluster.sleep(sleeper)
    wait_until(lambda: executors(spare) == 1)
    done = cluster("remove", spare, "--drain", "60")
    assert f"{spare}  drained" in done.stdout
    assert "take worker-3 out of" in done.stderr
    cluster.write_inventory()
    cluster.wake(job)
    assert left_behind(spare) == ""
    # The others let it in no more.
    assert machines.address(spare) not in root("worker-1", "nft list table inet sparkbundle")
    assert "spark.cores.max=3\n" in root("master", "cat /etc/sparkbundle/spark-defaults.conf")
    cluster.invariant()


def left_behind(name: str) -> str:
    """S15: what there still is of the cluster on a host."""
    return root(
        name,
        "find / -xdev \\( -name '*sparkbundle*' -o -path '/etc/systemd/*spark*' \\)"
        " -not -path '/proc/*' -not -path '/var/log/*' -not -path '/tmp/*';"
        " find / -xdev \\( -nouser -o -nogroup \\) -not -path '/proc/*' 2>/dev/null;"
        " systemctl list-units --all --plain --no-legend | grep -i spark;"
        " systemctl list-unit-files --plain --no-legend | grep -i spark;"
        " systemctl list-timers --all --no-legend | grep -i spark;"
        " getent passwd spark sparkjob sparknote; getent group spark;"
        " pgrep -a java; nft list tables | grep sparkbundle;"
        " ss -Hltn 2>/dev/null | grep -E ':(7077|7078|8080|8081|8888|18080) '; true",
    )


def test_the_master_and_the_last_worker_stay(cluster: Cluster):
    for names in (("master",), ("worker-1", "worker-2")):
        refused = cluster("remove", *names, code=3)
        assert "cannot be taken out" in refused.stderr
    cluster.invariant()


def test_a_dead_host_is_taken_out_and_put_back(cluster: Cluster):
    machines.force_stop("worker-2")
    try:
        done = cluster("remove", "worker-2", code=7)
        assert "not reached: it is taken out, and not cleaned" in done.stdout
        cluster.write_inventory(worker_2=None)
        assert cluster.json("status")["healthy"]
    finally:
        machines.start("worker-2")
        cluster.write_inventory()
    cluster("up")
    cluster.invariant()
