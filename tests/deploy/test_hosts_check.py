"""What the check of hosts makes of what they tell; real hosts are in tests/cluster."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sparkbundle import host_status, preflight
from sparkbundle.errors import SparkbundleError
from sparkbundle.inventory import Host, Inventory, Publication
from sparkbundle.preflight import Checked, Facts, Problem
from tests.certificates import write_certificate

TOLD = {
    "python": [3, 11, 2],
    "root": True,
    "os": {"ID": "debian", "PRETTY_NAME": "Debian GNU/Linux 12 (bookworm)"},
    "machine": "x86_64",
    "systemd": True,
    "cores": 4,
    "memory_mib": 8192,
    "free_mib": {"/opt/sparkbundle": 20000, "/var/lib/sparkbundle": 20000},
    "listeners": {},
    "open_ports": [22],
    "address": "10.0.0.5",
    "address_is_mine": True,
    "ssh_port": 22,
    "java": {"version": 'openjdk version "17.0.15" 2025-04-15', "complete": True},
    "gpus": {"addresses": [], "fault": ""},
    "users": {"spark": "/var/lib/sparkbundle"},
    "cluster": None,
    "deployed": None,
    "release": "",
    "files": {},
    "units": {},
    "word_tables": [],
    "firewall": False,
}
HOST = Host(name="w", groups=frozenset({"workers"}), ssh_host="10.0.0.5", ssh_user="me")
MASTER = Host(name="m", groups=frozenset({"master"}), ssh_host="10.0.0.4")


def facts(skew: float = 0.0, **changes) -> Facts:
    return Facts({**TOLD, **changes}, skew)


def problems(host: Host, told: Facts, **settings) -> list[Problem]:
    inventory = Inventory(path=Path("hosts.yml"), name="lab", hosts=(MASTER, host), **settings)
    return list(preflight._host_problems(inventory, host, told))


def test_a_bare_host_that_will_do_has_no_problem():
    assert problems(HOST, facts()) == []
    assert problems(MASTER, facts()) == []


@pytest.mark.parametrize(
    ("changes", "check", "words"),
    [
        ({"os": {"ID": "fedora", "PRETTY_NAME": "Fedora 41"}}, "system", "Fedora 41"),
        ({"os": {}}, "system", "an unknown system"),
        ({"systemd": False}, "system", "does not run systemd"),
        ({"machine": "riscv64"}, "system", "riscv64"),
        ({"python": [3, 9, 2]}, "python", "3.9.2"),
        ({"root": False}, "sudo", "asks for a password"),
        ({"skew": 90.0}, "clock", "90 s ahead"),
        ({"skew": -21.0}, "clock", "21 s behind"),
        (
            {"memory_mib": 1200},
            "memory",
            "a worker needs 512 MiB; the host has 1200 MiB, less 1024",
        ),
        ({"free_mib": {"/opt/sparkbundle": 100, "/var/lib/sparkbundle": 9999}}, "disk", "100 MiB"),
        ({"gpus": {"addresses": [], "fault": "nvidia-smi hangs"}}, "gpu", "nvidia-smi hangs"),
        ({"address": ""}, "address", "not known"),
        ({"address_is_mine": False}, "address", "no address of this host"),
        ({"users": {"spark": "/home/spark"}}, "users", "'spark' that is not ours"),
        ({"users": {"sparknote": "/home/ada"}}, "users", "'sparknote' that is not ours"),
        ({"cluster": {"name": "other", "master": "spark://x:7077"}}, "cluster", "'other'"),
        (
            {"listeners": {"7078": {"by": "nc (pid 7)", "user": "root"}}},
            "port",
            "port 7078 (the worker) is taken by nc (pid 7)",
        ),
    ],
)
def test_what_is_wrong_is_told(changes: dict, check: str, words: str):
    found = problems(HOST, facts(**changes))
    assert [problem.check for problem in found] == [check]
    assert words in found[0].what
    assert found[0].todo
    assert not found[0].warning


def test_a_worker_that_asks_for_more_than_the_host_has_is_told_the_sum():
    greedy = replace(HOST, cores=8, memory_mib=7500, gpus=2)
    found = {
        one.check: one for one in problems(greedy, facts(gpus={"addresses": ["0"], "fault": ""}))
    }
    assert set(found) == {"cores", "memory", "gpu"}
    assert found["cores"].what == "spark_cores is 8, the host has 4"
    assert "spark_memory is 7500 MiB; the host has 8192 MiB, less 1024 MiB" in found["memory"].what
    assert "leaves 7168 MiB" in found["memory"].what
    assert found["memory"].todo == "spark_memory: 7168m or less"
    assert found["gpu"].what == "spark_gpus is 2, nvidia-smi shows 1"


def test_our_own_daemons_hold_their_ports_and_another_master_does_not_matter_to_a_worker():
    ours = {"7078": {"by": "java (pid 9)", "user": "spark"}}
    assert problems(HOST, facts(listeners=ours, cluster={"name": "lab", "master": "x"})) == []
    assert problems(HOST, facts(listeners={"7077": {"by": "x", "user": "root"}})) == []


NOTEBOOK = replace(HOST, groups=frozenset({"workers", "notebook"}))
OURS = {"name": "lab", "master": "x"}


@pytest.mark.parametrize("user", ["root", "ada", "sparkjob"])
@pytest.mark.parametrize("cluster", [None, OURS])
def test_the_notebooks_port_that_a_stranger_has_is_a_problem_on_its_host_only(
    user: str, cluster: dict | None
):
    told = facts(listeners={"8888": {"by": "jupyter (pid 7)", "user": user}}, cluster=cluster)
    (found,) = problems(NOTEBOOK, told)
    assert (found.check, found.warning) == ("port", False)
    assert found.what == "port 8888 (the notebook server) is taken by jupyter (pid 7)"
    assert problems(HOST, told) == []


def test_our_own_notebook_server_holds_its_port():
    mine = {"8888": {"by": "python (pid 9)", "user": "sparknote"}}
    assert problems(NOTEBOOK, facts(listeners=mine, cluster=OURS)) == []
    # A user of this name where there is no cluster is somebody else.
    assert len(problems(NOTEBOOK, facts(listeners=mine))) == 1


def test_port_443_matters_where_the_notebook_server_is_published():
    at = Publication(name="a.b", certificate=Path("c.pem"), key=Path("k.pem"))
    taken = {"443": {"by": "nginx (pid 7)", "user": "root"}}
    (found,) = problems(NOTEBOOK, facts(listeners=taken), publication=at)
    assert "443 (the published notebook server) is taken by nginx (pid 7)" in found.what
    assert "take notebook_name out" in found.todo
    assert problems(NOTEBOOK, facts(listeners=taken)) == []
    assert problems(HOST, facts(listeners=taken), publication=at) == []


def test_our_own_socket_holds_port_443_and_the_firewall_leaves_it_open():
    at = Publication(name="a.b", certificate=Path("c.pem"), key=Path("k.pem"))
    taken = {"443": {"by": "systemd (pid 1)", "user": "root"}}
    for state, wrong in {"active": 0, "inactive": 1, "failed": 1}.items():
        units = {"spark-notebook-public.socket": {"active": state}}
        told = facts(listeners=taken, cluster=OURS, units=units, open_ports=[22, 443])
        assert len(problems(NOTEBOOK, told, publication=at)) == wrong, state


class Answering:
    """Hosts that tell this; one of them that is not reached."""

    def __init__(self, *hosts: Host, away: str = "", **settings) -> None:
        self.inventory = Inventory(path=Path("hosts.yml"), name="lab", hosts=hosts, **settings)
        self.away = SparkbundleError("no route", todo="look", code=4)
        self.answers = {
            host.name: self.away if host.name == away else facts(address=f"10.0.0.{number}")
            for number, host in enumerate(hosts, start=4)
        }

    def each(self, _task, only=None) -> dict[str, Facts | SparkbundleError]:
        return {host.name: self.answers[host.name] for host in only or self.inventory.hosts}


@pytest.mark.parametrize("away", ["", "w"])
def test_a_certificate_of_no_use_is_a_problem_of_the_notebooks_host(tmp_path: Path, away: str):
    at = Publication(name="a.b", certificate=tmp_path / "c.pem", key=tmp_path / "k.pem")
    hosts = Answering(MASTER, NOTEBOOK, publication=at, away=away)
    found = [one for one in preflight.check(hosts).errors if one.check != "reach"]
    assert [(one.host, one.check, one.code) for one in found] == [("w", "certificate", 3)] * 2
    assert found[0].what == f"notebook_certificate: there is no file {tmp_path}/c.pem"
    assert found[0].todo == "notebook_certificate: the path of a file that you can read"
    assert found[1].what == f"notebook_key: there is no file {tmp_path}/k.pem"
    assert preflight.check(hosts, only=[MASTER]).problems == []
    assert preflight.check(Answering(MASTER, NOTEBOOK)).problems == []


@pytest.mark.parametrize(
    ("days", "errors", "says"),
    [(-1, 1, "has run out"), (5, 0, "runs out soon"), (30, 0, "")],
)
def test_a_certificate_that_runs_out_soon_stops_nothing(
    tmp_path: Path, days: int, errors: int, says: str
):
    pair = write_certificate(tmp_path, "a.example.org", days=days)
    at = Publication(name="a.example.org", certificate=pair.certificate, key=pair.key)
    checked = preflight.check(Answering(MASTER, NOTEBOOK, publication=at))
    assert len(checked.errors) == errors
    assert len(checked.problems) == bool(says)
    assert all(says in one.what for one in checked.problems)


def test_ports_that_the_firewall_will_close_are_a_warning_only():
    found = problems(HOST, facts(open_ports=[22, 80, 443]), open_ports=(443,))
    assert [(one.check, one.warning) for one in found] == [("firewall", True)]
    assert "port 80" in found[0].what
    assert Checked({"w": facts()}, found).errors == []
    assert problems(HOST, facts(open_ports=[22, 80]), firewall=False) == []


def test_all_hosts_must_have_one_python_and_different_addresses():
    told = {
        "a": facts(address="10.0.0.1"),
        "b": facts(address="10.0.0.2"),
        "c": facts(address="10.0.0.2", python=[3, 12, 1]),
    }
    found = list(preflight._common_problems(told))
    assert [(one.host, one.check) for one in found] == [
        ("c", "python"),
        ("b", "address"),
        ("c", "address"),
    ]
    assert "it has 3.12, most hosts have 3.11" in found[0].what


def test_all_problems_come_in_one_error_with_the_gravest_code():
    told = [
        Problem("a", "sudo", "no", "do"),
        Problem("b", "reach", "no", "do", code=4),
        Problem("c", "firewall", "will be closed", "do", warning=True),
    ]
    with pytest.raises(SparkbundleError) as caught:
        Checked({}, told).require()
    assert caught.value.code == 4
    assert [row.daemon for row in caught.value.troubles] == ["a", "b"]
    assert "2 problems on 2 hosts; nothing was changed" in caught.value.what


@pytest.mark.parametrize(
    ("said", "complete", "will_do"),
    [
        ('openjdk version "17.0.15" 2025-04-15', True, True),
        ('openjdk version "21" 2023-09-19', True, True),
        ('openjdk version "1.8.0_402"', True, False),
        ('openjdk version "17.0.15" 2025-04-15', False, False),
        ("", False, False),
    ],
)
def test_a_java_that_will_do(said: str, complete: bool, will_do: bool):
    assert facts(java={"version": said, "complete": complete}).java_will_do is will_do


def test_the_probe_tells_about_this_very_machine_and_changes_nothing():
    """The script as it runs on hosts, without a package of ours, here."""
    asked = json.dumps({"address": "127.0.0.1", "ports": [7077]})
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-", asked, "10.0.0.9 5000 10.0.0.5 2222"],
        stdin=preflight._SCRIPT.open("rb"),
        capture_output=True,
        check=True,
        timeout=120,
    )
    told = json.loads(done.stdout)
    assert told["python"][:2] == list(sys.version_info[:2])
    assert told["address"] == "127.0.0.1"
    assert told["address_is_mine"] is True
    assert told["ssh_port"] == 2222
    assert told["cores"] >= 1
    assert told["memory_mib"] > 256
    assert re.search(r' version "\d', told["java"]["version"])  # not the warning before it
    assert told["java"]["complete"]
    assert set(TOLD) <= set(told)


def test_status_of_a_host_that_was_taken_out_says_what_to_do():
    """`remove` leaves nothing there, while the inventory may still have it."""
    found = host_status._host(HOST, facts(), None, up=True)
    assert found.faults == (host_status.NOT_DEPLOYED,)
    assert "take it out of the inventory" in host_status.NOT_DEPLOYED
    assert host_status._host(HOST, facts(), None, up=False).faults == ("not deployed",)
