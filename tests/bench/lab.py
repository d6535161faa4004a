"""A cluster of the tests' own Vagrant machines, its links as slow as a benchmark asks for."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import yaml

from tests.cluster import machines

COMMAND = str(Path(sys.executable).with_name("sparkbundle"))
# The tests' outsider is a fourth worker here.
WORKERS = ("worker-1", "worker-2", "worker-3", "outsider")


class Lab:
    """The machines, and `sparkbundle` for them."""

    def __init__(self, home: Path, workers: tuple[str, ...], *, cores: int = 2) -> None:
        self.workers = workers
        self.inventory = home / "lab.yml"
        self.environment = {**os.environ, "SPARKBUNDLE_STATE": str(home / "state")}
        addresses = {name: {"ansible_host": machines.address(name)} for name in workers}
        sizes = {"spark_cores": cores, "spark_memory": "1g"}
        tree = {
            "all": {
                "vars": {
                    "cluster_name": "bench",
                    "ansible_user": "vagrant",
                    "ansible_ssh_private_key_file": str(machines.private_key()),
                },
                "children": {
                    "master": {"hosts": {"master": {"ansible_host": machines.address("master")}}},
                    "workers": {
                        "hosts": {name: at | sizes for name, at in addresses.items()},
                    },
                },
            }
        }
        self.inventory.write_text(yaml.safe_dump(tree))

    def __call__(self, *words: str) -> str:
        done = self.run(*words)
        if done.returncode:
            raise click.ClickException(f"exit code {done.returncode} of {words}: {done.stdout}")
        return done.stdout

    def run(self, *words: str, stderr: int | None = None) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [COMMAND, *words],
            env=self.environment | {"SPARKBUNDLE_INVENTORY": str(self.inventory)},
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            check=False,
        )

    def drop(self, name: str) -> None:
        """Take the last worker out of the cluster."""
        self("remove", name)
        tree = yaml.safe_load(self.inventory.read_text())
        del tree["all"]["children"]["workers"]["hosts"][name]
        self.inventory.write_text(yaml.safe_dump(tree))
        self.workers = tuple(one for one in self.workers if one != name)


@contextmanager
def lab_of(home: Path, workers: int, *, cores: int = 2) -> Iterator[Lab]:
    """A cluster on so many fresh machines; they are gone afterwards."""
    names = WORKERS[:workers]
    machines.up(("master", *names))
    machines.fresh("master", *names)
    try:
        lab = Lab(home, names, cores=cores)
        lab("up")
        yield lab
    finally:
        machines.destroy()


def root(name: str, command: str) -> str:
    return machines.attach(name, command).stdout


@contextmanager
def limited(names: tuple[str, ...], rate: str) -> Iterator[None]:
    """Every link with this rate in each direction."""
    limit = f"root tbf rate {rate} burst 256kb latency 25ms"
    for name in names:
        root(name, f"tc qdisc replace dev eth0 {limit}")
        inside = machines.MACHINES[name].interface
        subprocess.run(["tc", "qdisc", "replace", "dev", inside, *limit.split()], check=True)
    try:
        yield
    finally:
        for name in names:
            root(name, "tc qdisc del dev eth0 root")
            inside = machines.MACHINES[name].interface
            subprocess.run(["tc", "qdisc", "del", "dev", inside, "root"], check=True)
