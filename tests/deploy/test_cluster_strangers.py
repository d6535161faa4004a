"""Drivers without the secret are refused, in bounded time."""

import subprocess

import pytest

from tests.deploy.conftest import CommandLine


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
