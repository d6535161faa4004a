"""The operator's laptop in the tests: `sparkbundle` with the inventory of the test machines."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from sparkbundle.spark_settings import Secrets
from tests import processes
from tests.cluster import machines
from tests.conftest import QUICK_JVMS
from tests.deploy.conftest import wait_until

COMMAND = str(Path(sys.executable).with_name("sparkbundle"))
INVENTORY = Path(__file__).parents[2] / "inventory" / "vagrant.yml"
HOSTS = ("master", "worker-1", "worker-2")
WORKERS = HOSTS[1:]
MASTER = f"spark://{machines.address('master')}:7077"


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
        self.inventory.write_text(inventory_text(**changes))
        return self.inventory

    def change_inventory(self, **variables: Any) -> None:
        """Set these variables of all hosts in the inventory as it is; None takes one out."""
        tree = yaml.safe_load(self.inventory.read_text())
        merged = tree["all"]["vars"] | variables
        tree["all"]["vars"] = {key: value for key, value in merged.items() if value is not None}
        self.inventory.write_text(yaml.safe_dump(tree, sort_keys=False))

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
        return processes.popen(line, **(settings | options))

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
        lines = []
        for line in process.stderr:
            lines.append(line)
            if line.startswith(f"[{step}/"):
                return process
        raise AssertionError("".join(lines))

    def json(self, command: str, *words: object, code: int = 0) -> Any:
        return json.loads(self(command, "--json", *words, code=code).stdout)

    def secrets(self) -> Secrets:
        return Secrets(**json.loads(root("master", "cat /etc/sparkbundle/secrets.json")))

    def state(self, job: str) -> str:
        return self.json("jobs", job)["state"]

    def turns(self, job: str) -> int:
        """How many turns a sleeping job has had so far; the sum of each must be right."""
        sums = re.findall(r"^TURN \d+ (.*)$", output(job), re.MULTILINE)
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

    def is_healthy(self) -> bool:
        """Whether `status` finds nothing wrong, for those who ask again and again."""
        # Looked at first because it costs nothing: the workers' connections to the master.
        joined = root("master", "ss -Htn state established 'sport = :7077' | wc -l", check=False)
        if int(joined or 0) < len(WORKERS):
            return False
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return self.popen("status", **quiet).wait() == 0

    def invariant(self) -> None:
        """What must be true again after every fault: all is well, and `up` changes nothing."""
        assert self.json("up")["changed"] == 0
        report = self.json("status")
        assert report["healthy"], report
        assert sorted(host["name"] for host in report["hosts"]) == sorted(HOSTS)


def inventory_text(**changes: dict[str, Any] | None) -> str:
    """The inventory of the test machines, with a notebook server on the master's host."""
    tree = yaml.safe_load(INVENTORY.read_text())
    tree["all"]["vars"]["spark_settings"] = dict(QUICK_JVMS)
    tree["all"]["vars"]["ansible_ssh_private_key_file"] = str(machines.private_key())
    groups = tree["all"]["children"]
    groups["notebook"] = {"hosts": {"master": None}}
    for name, values in changes.items():
        host = name.replace("_", "-")
        group = groups["master" if host == "master" else "workers"]["hosts"]
        if values is None:
            del group[host]
        else:
            group.setdefault(host, {"ansible_host": machines.address(host)}).update(values)
    return yaml.safe_dump(tree, sort_keys=False)


def root(name: str, command: str, *, check: bool = True) -> str:
    """What a shell command of root prints on a machine."""
    return machines.attach(name, command, check=check).stdout


def output(job: str) -> str:
    """What a job has printed so far; straight from its file, for those who ask again and again."""
    return root("master", f"cat /var/lib/sparkbundle/jobs/{job}/output.log", check=False)


def executors(name: str) -> int:
    """How many executors run on a machine."""
    return int(root(name, "pgrep -c -f [C]oarseGrainedExecutorBackend", check=False))
