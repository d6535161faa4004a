"""Drivers without the secret are refused, in bounded time; and the end of the shared cluster."""

import subprocess

import psutil
import pytest

from tests.deploy.conftest import INTRUDER, CommandLine, wait_until
from tests.deploy.test_cluster_access import SLEEP


@pytest.mark.parametrize("kind", ["wrong-secret", "no-secret"])
def test_no_application_without_the_secret(
    shared: CommandLine, intruders: dict[str, "subprocess.Popen[str]"], kind: str
):
    # Spark itself tries for a minute; the drivers were started before all other tests.
    out, _ = intruders[kind].communicate(timeout=150)
    assert intruders[kind].returncode != 0
    assert "LET IN" not in out
    master_log = (shared.directory("one") / "logs/master.log").read_text()
    assert f"Registered app {kind}" not in master_log
    assert shared.json("status", "--name", "one")["healthy"]


def test_the_same_program_with_the_secret_is_let_in(shared: CommandLine):
    driver = shared.application(INTRUDER, shared.directory("one") / "conf/client.properties", "own")
    out, _ = driver.communicate(timeout=150)
    assert driver.returncode == 0 and "LET IN 45" in out


def test_down_says_which_applications_lose_their_cluster(cli: CommandLine):
    cli("up", "--name", "one", "--workers", "1", "--memory-per-worker", "512m")
    driver = cli.application(SLEEP, cli.directory("one") / "conf/client.properties")
    try:
        wait_until(lambda: cli.json("status", "--name", "one")["applications"])
        done = cli("down", "--name", "one")
        assert "1 applications have lost cluster 'one': sleeper (app-" in done.stderr
        assert driver.poll() is None  # the user's own process
    finally:
        for process in [*psutil.Process(driver.pid).children(recursive=True), driver]:
            process.kill()
        driver.communicate()
    assert cli.processes("one") == []
    assert (cli.directory("one") / "logs/master.log").exists()
    assert not (cli.directory("one") / "conf").exists()
    assert "nothing to do" in cli("down", "--name", "one", "--purge").stdout
    assert not cli.directory("one").exists()
