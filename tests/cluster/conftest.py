"""Real hosts for the tests: Vagrant machines with systemd and sshd, one cluster on them for all.

The files run in the order of their numbers, as one story: each test finds the cluster as the one
before has left it, and leaves it whole. SPARKBUNDLE_TEST_KEEP=1 uses what an earlier run has left
up, and keeps it.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sparkbundle.hosts import Hosts
from sparkbundle.inventory import load
from sparkbundle.spark_settings import Secrets
from tests.cluster import machines
from tests.cluster.computer import Unavailable
from tests.conftest import QUICK_JVMS, Sentiment
from tests.deploy.conftest import wait_until

COMMAND = str(Path(sys.executable).with_name("sparkbundle"))
INVENTORY = Path(__file__).parents[2] / "inventory" / "vagrant.yml"
HOSTS = ("master", "worker-1", "worker-2")
WORKERS = HOSTS[1:]
KEEP = bool(os.environ.get("SPARKBUNDLE_TEST_KEEP"))
MASTER = f"spark://{machines.address('master')}:7077"
SLEEPER = """
import os, time
from pyspark.sql import SparkSession
context = SparkSession.builder.getOrCreate().sparkContext
def slow(numbers):
    time.sleep(1)
    yield sum(numbers)
turn = 0
while not os.path.exists("enough"):
    print("TURN", turn, sum(context.parallelize(range(999), 9).mapPartitions(slow).collect()),
        flush=True)
    turn += 1
"""


class Cluster:
    """`sparkbundle` for the cluster of an inventory, as an operator's laptop runs it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.inventory = home / "vagrant.yml"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SPARK", "ANSIBLE"))}
        self.env = kept | {"SPARKBUNDLE_STATE": str(home / "state")}
        self.write_inventory()

    def write_inventory(self, **changes: dict[str, Any] | None) -> Path:
        """inventory/vagrant.yml with these machines' key; changes by host, None removes one."""
        tree = yaml.safe_load(INVENTORY.read_text())
        tree["all"]["vars"]["spark_settings"] = QUICK_JVMS
        tree["all"]["vars"]["ansible_ssh_private_key_file"] = str(machines.private_key())
        groups = tree["all"]["children"]
        for name, values in changes.items():
            host = name.replace("_", "-")
            group = groups["master" if host == "master" else "workers"]["hosts"]
            if values is None:
                del group[host]
            else:
                group.setdefault(host, {"ansible_host": machines.address(host)}).update(values)
        self.inventory.write_text(yaml.safe_dump(tree, sort_keys=False))
        return self.inventory

    def write_setting(self, line: str) -> None:
        """One more of Spark's settings in the inventory."""
        text = self.inventory.read_text()
        self.inventory.write_text(
            text.replace("spark_settings:\n", f"spark_settings:\n      {line}\n", 1)
        )

    def popen(self, command: str, *words: object, **options: Any) -> "subprocess.Popen[str]":
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE}
        settings = {"cwd": self.home, "env": self.env, "stderr": subprocess.PIPE, **streams}
        line = [COMMAND, *command.split(), "-i", str(self.inventory), *map(str, words)]
        return subprocess.Popen(line, text=True, **(settings | options))

    def __call__(
        self, command: str, *words: object, code: int = 0, timeout: float = 580
    ) -> "subprocess.CompletedProcess[str]":
        process = self.popen(command, *words)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"{command}: no end after {timeout} s\n{out}\n{err}") from None
        assert process.returncode == code, f"exit {process.returncode}\n{out}\n{err}"
        assert "Traceback" not in err
        return subprocess.CompletedProcess([command, *words], process.returncode, out, err)

    def up_past(self, step: int) -> "subprocess.Popen[str]":
        """An `up` that goes on, as soon as it has ended this step."""
        process = self.popen("up")
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if line.startswith(f"[{step}/"):
                return process
        raise AssertionError("".join(said))

    def json(self, command: str, *words: object, code: int = 0) -> Any:
        return json.loads(self(command, "--json", *words, code=code).stdout)

    def secrets(self) -> Secrets:
        return Secrets(**json.loads(root("master", "cat /etc/sparkbundle/secrets.json")))

    def state(self, job: str) -> str:
        return self.json("jobs", job)["state"]

    def turns(self, job: str) -> int:
        """How many turns a sleeping job has had so far; the sum of each must be right."""
        sums = re.findall(r"^TURN \d+ (.*)$", self("logs", job).stdout, re.MULTILINE)
        assert set(sums) <= {str(sum(range(999)))}
        return len(sums)

    def sleep(self, sleeper: Path) -> str:
        """Submit the sleeping job; its id, once its first turn is done."""
        job = self.json("submit", sleeper)["id"]
        wait_until(lambda: self.turns(job) >= 1)
        return job

    def wake(self, job: str, *, turns: int = 2) -> None:
        """Have the sleeping job go on for some turns, and end well."""
        before = self.turns(job)
        wait_until(lambda: self.turns(job) >= before + turns)
        root("master", f"touch {self.json('jobs', job)['work']}/enough")
        self("logs", "-f", job)
        assert self.state(job) == "SUCCEEDED"

    def invariant(self) -> None:
        """What must be true again after every fault: all is well, and `up` changes nothing."""
        assert self.json("up")["changed"] == 0
        found = self.json("status")
        assert found["healthy"], found
        assert sorted(one["name"] for one in found["hosts"]) == sorted(HOSTS)


def root(name: str, command: str, *, check: bool = True) -> str:
    """What a shell command of root prints on a machine."""
    return machines.attach(name, command, check=check).stdout


def executors(name: str) -> int:
    """How many executors run on a machine."""
    return int(root(name, "pgrep -c -f [C]oarseGrainedExecutorBackend", check=False))


@pytest.fixture(scope="session")
def hosts() -> Iterator[None]:
    """The machines, bare."""
    try:
        machines.up((*HOSTS, "outsider"))
    except Unavailable as error:
        if os.environ.get("CI"):
            raise  # there the tests of the cluster are not left out
        pytest.skip(f"no test hosts: {error} (root on Debian or Ubuntu brings them up)")
    if not KEEP:
        machines.fresh(*HOSTS, "outsider")
    yield
    if not KEEP:
        machines.destroy()


@pytest.fixture(scope="session")
def bare(hosts: None, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """The command line before the first `up`."""
    return Cluster(tmp_path_factory.mktemp("laptop"))


@pytest.fixture(scope="session")
def cluster(bare: Cluster) -> Cluster:
    """The command line, and a cluster that is up."""
    bare("up")
    return bare


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Sentiment:
    """`sentiment` on the laptop: in its own process, without a cluster."""
    command = Sentiment(tmp_path_factory.mktemp("laptop"))
    command.env |= {"SPARKBUNDLE_MASTER": "local[2]"}
    return command


@pytest.fixture
def sleeper(tmp_path: Path) -> Path:
    """A job of turns, each of nine tasks that sleep a second; it ends when it is told to."""
    path = tmp_path / "sleeper.py"
    path.write_text(SLEEPER)
    return path


@pytest.fixture
def connected(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hosts]:
    """SSH connections to the hosts, for tests that use the modules themselves."""
    monkeypatch.setenv("SPARKBUNDLE_STATE", cluster.env["SPARKBUNDLE_STATE"])
    with Hosts(load(cluster.inventory)) as opened:
        yield opened


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """With a failed test come the ends of the hosts' journals."""
    report = yield
    if report.failed and "tests/cluster" in str(item.path):
        for name in HOSTS:
            text = machines.journal(name, 60)
            report.sections.append((f"journal of {name}", text))
    return report
