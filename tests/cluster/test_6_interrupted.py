"""Deploys that are killed, disks that are full, hosts that die: run again, all is as it shall be.

It ends with `down` and `down --purge`, and begins with them: from here on hosts have Java and
nftables, so nothing needs a network but the cluster's own.
"""

import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from tests.cluster import computer, machines
from tests.cluster.laptop import HOSTS, Cluster, root
from tests.cluster.test_5_hosts import left_behind
from tests.deploy.conftest import wait_until


def test_down_and_up_again_without_the_notebook_server(cluster: Cluster, sleeper: Path):
    """`down` ends all, `up` starts it again; what is in the inventory no more goes with it."""
    job = cluster.sleep(sleeper)
    cluster("down")
    report = cluster.json("status", code=1)
    assert not report["healthy"]
    for name in HOSTS:
        assert root(name, "pgrep -c java", check=False) == "0\n"
        assert "sparkbundle" in root(name, "nft list tables")
        daemon = "spark-master" if name == "master" else "spark-worker"
        assert root(name, f"systemctl is-enabled {daemon}; true") == "disabled\n"
    assert cluster("down").stdout.count("changed 0") == 3

    tree = yaml.safe_load(cluster.inventory.read_text())
    del tree["all"]["children"]["notebook"]
    cluster.inventory.write_text(yaml.safe_dump(tree, sort_keys=False))
    cluster("up")
    assert cluster.state(job) == "CANCELLED"
    assert "this cluster has no notebook server" in cluster("open notebook", code=3).stderr
    listed = "systemctl list-unit-files --plain --no-legend 'spark-notebook*'"
    assert root("master", listed, check=False) == ""
    assert ".ipynb" in root("master", "ls /var/lib/sparkbundle/notebook/notebooks")
    cluster.invariant()


def test_down_purge_leaves_nothing_behind(cluster: Cluster):
    cluster("down", "--purge")
    for name in HOSTS:
        assert left_behind(name) == "", name
    assert not (cluster.home / "state/hosts/vagrant").exists()
    assert cluster("down", "--purge").stdout.count("changed 0") == 3


@pytest.fixture(scope="module")
def no_registry(cluster: Cluster):
    """F19: the hosts reach each other and this machine, and nothing else."""
    rule = ("-s", computer.NETWORK, "!", "-d", computer.NETWORK, *machines.MARK)
    subprocess.run(["iptables", "-w", "-I", "FORWARD", *rule], check=True)
    yield
    subprocess.run(["iptables", "-w", "-D", "FORWARD", *rule], check=True)


@pytest.mark.long
@pytest.mark.parametrize("step", [3, 5, 6, 8, 10])
def test_a_deploy_killed_in_mid_phase(cluster: Cluster, no_registry, step: int):
    """F8: SIGKILL to the operator's process as soon as a phase has begun; the next run goes on.

    The first of these deploys finds bare hosts, the last one an almost complete cluster.
    """
    process = cluster.up_past(step - 1)
    time.sleep(2.0)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    # Nothing of the killed run works on here.
    alive = ["pgrep", "-f", str(cluster.home)]
    wait_until(lambda: subprocess.run(alive, check=False).returncode == 1, seconds=5)


@pytest.mark.long
def test_after_all_these_it_converges(cluster: Cluster, no_registry):
    told = cluster.json("up")
    assert told["verified"]["workers"].keys() == {"worker-1", "worker-2"}
    assert cluster.json("up", "--thorough")["changed"] == 0
    assert cluster.json("status")["healthy"]


@pytest.mark.long
def test_an_interrupted_deploy_says_so(cluster: Cluster):
    root("worker-1", "rm /etc/sparkbundle/worker.properties")
    process = cluster.up_past(3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted; hosts may be half done" in err
    cluster("up")
    cluster.invariant()


@pytest.mark.long
def test_a_disk_that_fills_up_and_a_host_that_dies_in_mid_deploy(cluster: Cluster):
    """F7: the others are done and work; the table says which one failed, where and why."""
    cluster("remove", "worker-2")
    process = cluster.up_past(3)  # the check would have refused it
    root("worker-2", "mkdir -p /opt/sparkbundle")
    root("worker-2", "mount -t tmpfs -o size=300m,mode=0755 small /opt/sparkbundle")
    _, err = process.communicate(timeout=500)
    root("worker-2", "umount --lazy /opt/sparkbundle")
    assert process.returncode == 7, err
    assert re.search(r"worker-2 +install the runtime: .*", err)
    assert "the disk is full: " in err
    # With room again the next run would mend it, but the host dies.
    process = cluster.up_past(4)
    machines.force_stop("worker-2")
    _, err = process.communicate(timeout=500)
    machines.start("worker-2")
    assert process.returncode == 7, err
    assert "worker-2 failed; the cluster works without" in err
    assert re.search(r"worker-2 +install the runtime: ", err)
    cluster("up")
    cluster.invariant()


@pytest.mark.long  # after the deploys above; test_down_purge_leaves_nothing_behind is daily
def test_the_end_leaves_nothing_behind(cluster: Cluster):
    cluster("down", "--purge")
    for name in HOSTS:
        assert left_behind(name) == "", name
