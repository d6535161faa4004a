"""Real hosts for the tests: Vagrant machines with systemd and sshd, one cluster on them for all.

Each file begins on a healthy cluster, whatever ran before it, and can run alone: the machines
are put back to the installed layer (layers.py), which `up` on bare machines has made. Within a
file, each test finds the cluster as the one before has left it, and leaves it whole.
SPARKBUNDLE_TEST_KEEP=1 uses what an earlier run has left up, and keeps it.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from sparkbundle.hosts import Hosts
from sparkbundle.inventory import load
from tests.cluster import box, computer, layers, machines
from tests.cluster.computer import Unavailable
from tests.cluster.laptop import HOSTS, Cluster, inventory_text
from tests.cluster.layers import Layer
from tests.conftest import Sentiment

KEEP = bool(os.environ.get("SPARKBUNDLE_TEST_KEEP"))
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


class Stage:
    """The machines and the laptop of a test run, set up for each file as it needs them."""

    def __init__(self, home: Path) -> None:
        self.laptop = Cluster(home)
        self.is_whole = False
        """Whether the machines are as a file has found them that began on the layer."""
        running = all(machines.condition(name) == "RUNNING" for name in HOSTS)
        self._is_left_up = KEEP and running and (home / "state/hosts").exists()

    def bare(self) -> Cluster:
        """Bare machines, and a laptop that knows none of them."""
        self.is_whole = self._is_left_up = False
        machines.fresh(*HOSTS)
        shutil.rmtree(self.laptop.env["SPARKBUNDLE_STATE"], ignore_errors=True)
        self.laptop.write_inventory()
        return self.laptop

    def deployed(self) -> Cluster:
        """A cluster that is up and healthy."""
        if self._is_left_up:
            self.laptop("up")
        elif not self.is_whole:
            layers.ensure().restore(self.laptop)
        self._is_left_up = False
        return self.laptop


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The machines, of this run alone."""
    try:
        computer.install()
        with layers.claimed():
            machines.up((*HOSTS, "outsider"))
            home = (
                box.cache().with_name("test-laptop") if KEEP else tmp_path_factory.mktemp("laptop")
            )
            home.mkdir(parents=True, exist_ok=True)
            yield Stage(home)
            if not KEEP:
                machines.destroy()
    except Unavailable as error:
        if os.environ.get("CI"):
            raise  # there the tests of the cluster are not left out
        pytest.skip(f"no test hosts: {error} (root on Debian or Ubuntu brings them up)")


@pytest.fixture(scope="module")
def bare(stage: Stage) -> Cluster:
    """The command line before the first `up`."""
    return stage.bare()


@pytest.fixture(scope="session")
def layer(stage: Stage) -> Layer:
    """The installed layer, and the `up` on bare machines that made it."""
    return layers.ensure()


@pytest.fixture(scope="module")
def cluster(stage: Stage, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The command line, and a cluster that is up: as `up` on bare machines has left it, or as
    another file has left it that says it LEAVES_IT_WHOLE and in which nothing failed."""
    laptop = stage.deployed()
    stage.is_whole = False
    yield laptop
    stage.is_whole = (
        getattr(request.module, "LEAVES_IT_WHOLE", False)
        and request.path not in FAILED
        and laptop.inventory.read_text() == inventory_text()
    )


FAILED: set[Path] = set()
"""Files in which a test has failed."""


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


def pytest_itemcollected(item: pytest.Item) -> None:
    """More time than other tests have: the first to run may have to build the box and the layer,
    or to wait for another process that does so."""
    item.add_marker(pytest.mark.timeout(1200))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Function) -> Iterator[None]:
    """With a failed test come the ends of its hosts' journals: MACHINES, if its file has that."""
    report = yield
    if report.failed and "tests/cluster" in str(item.path):
        FAILED.add(item.path)
        for name in getattr(item.module, "MACHINES", HOSTS):
            text = machines.journal(name, 60)
            report.sections.append((f"journal of {name}", text))
    return report
