"""How the tests run attacks.py: as the insider, as the outsider, as a job; and who looks on."""

import contextlib
import json
import re
import shlex
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from sparkbundle.spark_settings import Secrets, new_secrets
from tests.cluster import machines
from tests.cluster.laptop import HOSTS, MASTER, Cluster, root

ATTACKS = Path(__file__).with_name("attacks.py")
ADDRESSES = {name: machines.address(name) for name in HOSTS}
# The jobs here run side by side: each takes one core, and less memory than a worker has.
SMALL = ("--conf", "spark.cores.max=1", "--conf", "spark.executor.memory=512m")
KINDS = ("right", "wrong", "none", "sasl")


def attack(name: str, *words: str, sudo: bool = False) -> Any:
    """What a part of attacks.py tells when a host's ordinary user, or root, runs it there."""
    command = f"{'sudo ' if sudo else ''}python3 - {shlex.join(words)}"
    return told(machines.ssh(name, command, given=ATTACKS.read_text()).stdout)


def told(out: str) -> Any:
    """The JSON in the output of attacks.py."""
    return json.loads(re.findall(r"^TOLD (.*)$", out, re.MULTILINE)[-1])


def job(cluster: Cluster, *words: str, settings: tuple[str, ...] = ()) -> Any:
    """What a part of attacks.py tells as a job of the cluster."""
    return told(cluster("submit", "--wait", *SMALL, *settings, ATTACKS, *words).stdout)


def ask(*requests: str) -> list[tuple[int, str]]:
    """The insider asks for pages: statuses and texts."""
    return attack("worker-1", "ask", *requests)


def listeners(name: str, user: str) -> dict[int, str]:
    """The TCP ports on which a user's processes listen, and the address, as the kernel has it."""
    uid = root(name, f"id -u {user}").strip()
    rows = [line.split() for line in root(name, "cat /proc/net/tcp /proc/net/tcp6").splitlines()]
    ends = [row[1].split(":") for row in rows if row[3] == "0A" and row[7] == uid]
    return {int(port, 16): address for address, port in ends}


def intrude(kind: str, secrets: Secrets) -> "subprocess.CompletedProcess[str]":
    """A driver of the insider, with no, a wrong or the right secret, or with other encryption."""
    here = ADDRESSES["worker-1"]
    right = {
        "spark.authenticate": "true",
        "spark.authenticate.secret": secrets.rpc,
        "spark.network.crypto.enabled": "true",
        "spark.network.crypto.cipher": "AES/GCM/NoPadding",
    }
    security = {
        "right": right,
        "wrong": right | {"spark.authenticate.secret": new_secrets().rpc},
        "none": {},
        "sasl": right | {"spark.network.crypto.enabled": "false"},
    }
    common = {
        "spark.master": MASTER,
        "spark.app.name": f"insider-{kind}",
        "spark.driver.host": here,
        "spark.driver.bindAddress": here,
        "spark.ui.enabled": "false",
        "spark.cores.max": "1",
        "spark.executor.memory": "512m",
        "spark.pyspark.python": "/opt/sparkbundle/current/bin/python",
    }
    text = "".join(f"{key}={value}\n" for key, value in (common | security[kind]).items())
    program = (
        f"umask 077; cat > {kind}.properties; export SPARK_LOCAL_IP={here}; "
        f"export PYSPARK_SUBMIT_ARGS='--properties-file {kind}.properties pyspark-shell'; "
        # A driver that was turned away may hang while it stops: Spark's trouble, not the cluster's.
        "timeout --kill-after=5 150 "
        "/opt/sparkbundle/current/bin/python attacks.py count 7000 2>&1; "
        f"code=$?; rm {kind}.properties; exit $code"
    )
    return machines.ssh("worker-1", program, given=text, check=False)


def words_of(secrets: Secrets) -> tuple[str, str]:
    return secrets.rpc, secrets.ui_key


def watched(command: list[str], env: dict[str, str], secrets: Secrets) -> tuple[str, str]:
    """What a command prints, on stdout and on stderr; fails when a secret is in any process'
    arguments meanwhile.

    The processes of the test machines are among those of this computer.
    """
    seen = set()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        streams = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": err}
        with subprocess.Popen(command, env=env, **streams) as process:
            while process.poll() is None:
                for path in Path("/proc").glob("[0-9]*/cmdline"):
                    with contextlib.suppress(OSError):  # it has ended
                        seen.add(path.read_text(errors="replace"))
                time.sleep(0.1)
        for file in (out, err):
            file.seek(0)
        printed = out.read(), err.read()
    assert process.returncode == 0, "".join(printed)
    assert any("ansible-playbook" in line for line in seen)
    assert not any(word in line for line in seen for word in words_of(secrets))
    return printed
