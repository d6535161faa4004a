"""A notebook server and its kernels when their cluster dies, comes back and ends.

These are the last tests of the notebook cluster: files run in the order of their names.
"""

import socket
import time

from tests.deploy.notebook_server import Kernel, Server


def test_a_cluster_that_dies_is_told_within_seconds_and_used_again_when_it_is_back(
    server: Server, kernel: Kernel
):
    assert kernel.run("spark.range(10).count()")[0] == "ok"
    daemons = [
        p
        for role in ("master", "worker-1", "worker-2")
        for p in server.run.processes("default", role)
    ]
    for process in daemons:
        process.kill()
    began = time.monotonic()
    status, shown = kernel.run("spark.range(10).count()")
    assert status == "error" and "the cluster went away: its master has not answered" in shown
    assert "Traceback" not in shown
    status, shown = kernel.run("spark.range(10).count()")
    assert status == "error" and "the master does not answer" in shown and "sparkbundle up" in shown
    assert time.monotonic() - began < 60, "not after a minute"
    server.run("up")
    assert kernel.run("spark.range(10).count()")[1].endswith("10")


def test_it_ends_with_the_cluster(server: Server):
    server.run("down")
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", server.port)) != 0
    assert not server.run.processes("default")
    refused = server.run("open", "notebook", "--no-browser", code=3)
    assert "cluster 'default' is not up" in refused.stderr
