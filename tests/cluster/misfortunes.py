"""What goes wrong under a job, on hosts: each is done to a cluster and a job that runs on it."""

from tests.cluster import machines
from tests.cluster.laptop import Cluster, root
from tests.deploy.conftest import wait_until


def kill_executor(cluster: Cluster, job: str) -> None:
    """F1: kill -9 of an executor's JVM."""
    assert int(root("worker-1", "pkill -9 -c -f [C]oarseGrainedExecutorBackend")) >= 1


def kill_driver(cluster: Cluster, job: str) -> None:
    """kill -9 of the driver, and `resume`, which goes on from the last checkpoint."""
    pid = root("master", f"systemctl show -P MainPID sparkbundle-job-{job}")
    root("master", f"kill -9 {pid}")
    wait_until(lambda: cluster.state(job) == "FAILED", seconds=60)
    told = cluster.json("jobs", job)
    assert told["reason"] == "killed by SIGKILL"
    assert cluster.json("resume", job)["id"] == job


def kill_master(cluster: Cluster, job: str) -> None:
    """F5: kill -9 of the master; another one takes over what it had written down."""
    before = root("master", "systemctl show -P MainPID spark-master")
    root("master", f"kill -9 {before}")
    wait_until(
        lambda: root("master", "systemctl show -P MainPID spark-master") not in (before, "0\n"),
        seconds=60,
    )


def lose_machine(cluster: Cluster, job: str) -> None:
    """F3: the plug is pulled on a worker's machine."""
    machines.force_stop("worker-2")
    told = cluster.json("status", code=1)
    lost = next(host for host in told["hosts"] if host["name"] == "worker-2")
    assert "cannot be reached" in lost["faults"][0] or "in time" in lost["faults"][0]
