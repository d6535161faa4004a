"""G2: Debian 13, with Python 3.13 and Java 21, as a host and as the machine of an operator.

One machine, which is a cluster of its own. torch is a wheel with nothing in it, because for Python
3.13 there is only the CUDA build here, some gigabytes: all of `up` is real but for that, Spark and
the proof included. What needs torch itself (`sentiment`, `make demo`) is not shown here.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sparkbundle import remote, resources
from sparkbundle.hosts import Hosts
from sparkbundle.inventory import load
from sparkbundle.output import Steps
from sparkbundle.remote import Deployed, UpOptions
from sparkbundle.wheelhouse_lock import Target, lines, read_lock
from tests.cluster import machines
from tests.cluster.conftest import Stage
from tests.cluster.laptop import QUICK_JVMS, Cluster
from tests.cluster.test_5_hosts import left_behind
from tests.deploy.tiny_wheels import entry, make_wheel

NAME = machines.DEBIAN_13
MACHINES = (NAME,)
REPOSITORY = Path(__file__).parents[2]
TARGET = Target(python=(3, 13), machine=platform.machine())
JOB = """
from pyspark.sql import SparkSession
numbers = SparkSession.builder.getOrCreate().range(3000)
print("GROUPS", numbers.groupBy(numbers.id % 3).count().rdd.map(lambda row: row[1]).collect())
"""


def inventory_text(key: str) -> str:
    """An inventory of the one machine, for whoever has its key in this file."""
    host = {NAME: {"ansible_host": machines.address(NAME)}}
    size = {"spark_cores": 1, "spark_memory": "768m"}
    names = {"cluster_name": "debian-13", "ansible_user": machines.USER, "torch_build": "cpu"}
    variables = {**names, **size, "ansible_ssh_private_key_file": key, "spark_settings": QUICK_JVMS}
    groups = {group: {"hosts": host} for group in ("master", "workers")}
    return yaml.safe_dump({"all": {"vars": variables, "children": groups}})


class OneHost(Cluster):
    """The operator's laptop, with the inventory of the one machine."""

    def write_inventory(self, **_changes: Any) -> Path:
        self.inventory.write_text(inventory_text(str(machines.private_key())))
        return self.inventory


@pytest.fixture(scope="module")
def laptop(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneHost]:
    """The command line, and the bare machine, which is gone afterwards."""
    machines.fresh(NAME)
    yield OneHost(tmp_path_factory.mktemp("laptop"))
    machines.remove(NAME)


@pytest.fixture(scope="module")
def operator(laptop: OneHost, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder on the machine: `sparkbundle` from this checkout, with the packages of its lock."""
    folder = tmp_path_factory.mktemp("sent") / "operator"
    install_packages(folder / "packages")
    for name in ("deploy/sparkbundle", "deploy/playbooks", "roles"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / name, folder / "checkout" / name, ignore=ignored)
    shutil.copyfile(machines.private_key(), folder / "key")
    (folder / "key").chmod(0o600)
    (folder / "hosts.yml").write_text(inventory_text("~/operator/key"))
    laptop("push", folder, "operator")
    machines.ssh(
        NAME,
        "cd operator && python3 -m venv --without-pip venv &&"
        " printf '%s\\n' ~/operator/packages ~/operator/checkout/deploy"
        "   >venv/lib/python3.13/site-packages/operator.pth &&"
        " sed '1c #!/home/vagrant/operator/venv/bin/python' packages/bin/ansible-inventory"
        "   >venv/bin/ansible-inventory && chmod +x venv/bin/ansible-inventory",
    )
    return "operator"


def install_packages(folder: Path) -> None:
    """Install what sparkbundle needs under Python 3.13 into a folder of this machine."""
    lock = folder.with_suffix(".lock")
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock.write_text(lines(read_lock(REPOSITORY / "deploy/requirements.lock", TARGET)))
    words = ["--quiet", "--no-compile", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    # `pip install` compares what a package requires with the Python that pip itself runs on.
    words.append("--ignore-requires-python")
    words += [*TARGET.pip_arguments(), "--target", str(folder), "-r", str(lock)]
    subprocess.run([sys.executable, "-m", "pip", "install", *words], check=True)


def sparkbundle(*words: str, code: int = 0) -> str:
    """What `sparkbundle` prints on the machine, run there by its ordinary user."""
    command = f"cd operator && venv/bin/python -m sparkbundle {' '.join(words)}"
    done = machines.ssh(NAME, command, check=False)
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done.stderr if code else done.stdout


@pytest.fixture(scope="module")
def deployed(
    laptop: OneHost, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Hosts, Deployed]]:
    """The connections, and what came of `up` on the bare machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARKBUNDLE_STATE", laptop.env["SPARKBUNDLE_STATE"])
        lock_without_torch(patch, tmp_path_factory.mktemp("wheels"))
        with Hosts(load(laptop.inventory)) as hosts:
            yield hosts, deploy(hosts)


def lock_without_torch(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Have `up` install Spark, the job, and in torch's place a wheel with nothing in it."""
    tag = f"cp313-cp313-manylinux_2_28_{TARGET.machine}"
    wheel = make_wheel(folder, "torch", "2.13.0+nothing", tag=tag)
    (folder / "cpu.lock").write_text(entry(wheel, "torch", "2.13.0+nothing"))
    real = resources.locks()
    blocks = re.findall(r"^(?:pyspark|py4j)==.*(?:\n[ \t].*)*", real.job.read_text(), re.MULTILINE)
    (folder / "job.lock").write_text("".join(f"{block}\n" for block in blocks))
    locks = resources.Locks(
        job=folder / "job.lock", cpu=folder / "cpu.lock", cuda=real.cuda, builder=real.builder
    )
    patch.setattr(resources, "locks", lambda: locks)
    patch.setenv("PIP_FIND_LINKS", f"{folder} {os.environ.get('PIP_FIND_LINKS', '')}")


def deploy(hosts: Hosts) -> Deployed:
    options = UpOptions()
    return remote.up(hosts, options, steps=Steps(total=remote.up_steps(options)))


def test_a_bare_debian_13_will_do(laptop: OneHost):
    report = laptop.json("check")["hosts"][NAME]
    assert report["problems"] == []
    assert report["facts"]["os"]["VERSION_ID"] == "13"
    assert report["facts"]["python"][:2] == [3, 13]
    assert not report["facts"]["java"]["complete"]


def test_an_operator_without_java_is_told(operator: str):
    assert "One command to a secured Spark cluster" in sparkbundle("--help")
    assert "there is no Java" in sparkbundle("up", code=3)


@pytest.mark.xfail(
    strict=True,
    raises=AssertionError,
    reason="G2: openjdk-17-jre-headless is to be installed, which Debian 13 does not have",
)
def test_the_package_that_an_operator_is_told_to_install_is_there(operator: str):
    assert "openjdk-21-jre-headless" in sparkbundle("up", code=3)


def test_an_operator_sees_and_serves_hosts(operator: str):
    """The host is the machine itself, over SSH."""
    inventory = ("-i", "hosts.yml")
    assert "Debian GNU/Linux 13" in sparkbundle("check", *inventory)
    assert "42" in sparkbundle("run", *inventory, "--", "'echo $((6*7))'")
    sparkbundle("push", *inventory, "checkout/roles", "pushed")
    sparkbundle("pull", *inventory, f"{NAME}:pushed", "pulled")
    machines.ssh(NAME, "diff -r operator/checkout/roles operator/pulled")


def test_from_bare_to_ready(deployed: tuple[Hosts, Deployed], laptop: OneHost):
    _, report = deployed
    assert report.verdict is not None
    assert report.verdict.proven
    assert report.verdict.tasks == {NAME: 1}
    assert laptop.json("status")["healthy"]
    java = laptop("run", "--", "java -version 2>&1; /opt/sparkbundle/current/bin/python -V").stdout
    assert 'version "21.' in java
    assert "Python 3.13." in java


def test_again_it_changes_nothing(deployed: tuple[Hosts, Deployed]):
    hosts, _ = deployed
    assert deploy(hosts).count == 0


@pytest.mark.long
def test_a_job_with_a_shuffle(deployed: tuple[Hosts, Deployed], laptop: OneHost, tmp_path: Path):
    (tmp_path / "job.py").write_text(JOB)
    assert "GROUPS [1000, 1000, 1000]" in laptop("submit", "--wait", tmp_path / "job.py").stdout


@pytest.mark.long
def test_nothing_is_left(deployed: tuple[Hosts, Deployed], laptop: OneHost):
    laptop("down", "--purge")
    # What the operator's tests have brought, where they ran: it is no part of the cluster.
    machines.ssh(NAME, "rm -rf operator pushed .local/state/sparkbundle")
    assert left_behind(NAME) == ""
