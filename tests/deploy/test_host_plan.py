"""The plan of a cluster of hosts, what is written down of it, and what is found changed later."""

from dataclasses import replace
from pathlib import Path

import pytest

from sparkbundle import resources
from sparkbundle.errors import PreflightError
from sparkbundle.host_plan import ClusterPlan, make_plan
from sparkbundle.host_record import _picture, drift, is_as_deployed
from sparkbundle.inventory import Host, Inventory
from sparkbundle.spark_settings import Secrets, new_secrets
from sparkbundle.wheelhouse import Wheelhouse
from sparkbundle.wheelhouse_lock import CPU, CUDA
from tests.deploy.test_hosts_check import HOST, MASTER, facts

SECRETS = Secrets(rpc="r" * 64, ui_key="u" * 43)
ROLES = resources.roles()
BIG = replace(HOST, name="big", cores=8, memory_mib=6144, gpus="auto", labels=("fast",))
HOUSE = Wheelhouse(
    digest="d" * 16, requirements=Path("requirements.txt"), bundles=(), python=(3, 11), size=0
)
CUDA_HOUSE = replace(HOUSE, digest="c" * 16, requirements=Path("cuda.txt"))


def plan(
    *hosts: Host,
    master: Host = MASTER,
    secrets: Secrets = SECRETS,
    house: Wheelhouse = HOUSE,
    cuda: Wheelhouse = CUDA_HOUSE,
    told=None,
    **settings,
) -> ClusterPlan:
    inventory = Inventory(path=Path("hosts.yml"), name="lab", hosts=(master, *hosts), **settings)
    found = {
        host.name: facts(address=f"10.0.0.{number}", **(told or {}).get(host.name, {}))
        for number, host in enumerate(inventory.hosts, start=4)
    }
    return make_plan(inventory, found, secrets=secrets, wheelhouses={CPU: house, CUDA: cuda})


def properties(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if line)


def test_what_the_inventory_leaves_open_comes_from_the_host():
    made = plan(HOST, BIG, told={"big": {"gpus": {"addresses": ["0", "1"], "fault": ""}}})
    sizes = {name: (host.size.cores, host.size.memory_mib) for name, host in made.workers.items()}
    assert sizes == {"w": (4, 3584), "big": (8, 6144)}
    assert made.master.size is None
    assert made.hosts["big"].gpus == ("0", "1")
    client = properties(made.hosts["m"].variables["client_settings"])
    assert client["spark.cores.max"] == "12"
    # Every worker can hold an executor: it has the smallest one's memory.
    assert client["spark.executor.memory"] == "3584m"
    assert made.hosts["w"].variables["client_settings"] == ""


def test_every_settings_file_is_locked():
    made = plan(HOST)
    master = made.hosts["m"].variables
    files = [master["master_settings"], master["history_settings"], master["client_settings"]]
    for text in [*files, made.hosts["w"].variables["worker_settings"]]:
        assert properties(text)["spark.authenticate"] == "true"
    assert properties(master["master_settings"])["spark.master.rest.enabled"] == "false"


def test_the_users_settings_go_where_they_are_read():
    user = {"spark.worker.cleanup.enabled": "true", "spark.sql.shuffle.partitions": "7"}
    made = plan(HOST, spark_settings=user)
    client = properties(made.hosts["m"].variables["client_settings"])
    worker = properties(made.hosts["w"].variables["worker_settings"])
    assert client["spark.sql.shuffle.partitions"] == "7"
    assert worker["spark.worker.cleanup.enabled"] == "true"
    assert "spark.sql.shuffle.partitions" not in worker


@pytest.mark.parametrize(
    ("user", "profiles", "where"),
    [
        ({"spark.executor.cores": "9"}, {}, "spark_settings"),
        ({"spark.executor.cores": "9"}, {"Mine": {}}, "spark_settings"),
        ({}, {"x": {}, "Mine": {"spark.executor.cores": "9"}}, "notebook_profiles"),
        # A profile is asked for together with the settings that it stands on.
        (
            {"spark.executor.cores": "8"},
            {"Mine": {"spark.executor.memory": "7g"}},
            "notebook_profiles",
        ),
        ({"spark.executor.cores": "8"}, {"Mine": {"spark.executor.memory": "6g"}}, ""),
        ({"spark.executor.memory": "6g"}, {"Mine": {"spark.executor.memory": "1g"}}, ""),
    ],
)
def test_executors_that_fit_no_worker_are_refused(user: dict, profiles: dict, where: str):
    if not where:
        plan(HOST, BIG, spark_settings=user, notebook_profiles=profiles)
        return
    with pytest.raises(PreflightError, match="fits no worker") as caught:
        plan(HOST, BIG, spark_settings=user, notebook_profiles=profiles)
    assert caught.value.where == f"hosts.yml: {where}"
    assert caught.value.what.startswith("'Mine': an executor of ") is ("profiles" in where)
    assert "ask for less there" in caught.value.todo


def daemons(made: ClusterPlan) -> dict[str, str]:
    """What each daemon is started with."""
    return {
        f"{name}.{key}": value
        for name, host in made.hosts.items()
        for key, value in host.variables.items()
        if key.endswith("_config")
    }


def test_only_what_is_started_otherwise_is_started_anew():
    before = daemons(plan(HOST))
    assert before.keys() == {"m.master_config", "m.history_config", "w.worker_config"}
    # A second worker, or a setting of applications: the firewall and the clients, no daemon.
    more = daemons(plan(HOST, replace(HOST, name="v")))
    assert {name: more[name] for name in before} == before
    # One with more cores than any other: the master's spark.deploy.defaultCores.
    more = daemons(plan(HOST, BIG))
    assert {name for name in before if more[name] != before[name]} == {"m.master_config"}
    assert daemons(plan(HOST, spark_settings={"spark.sql.shuffle.partitions": "7"})) == before
    changed = daemons(plan(replace(HOST, memory_mib=1024)))
    assert {name for name in before if changed[name] != before[name]} == {"w.worker_config"}
    other = daemons(plan(HOST, secrets=new_secrets()))
    assert all(other[name] != before[name] for name in before)


def test_a_change_of_the_cluster_is_one_for_every_host():
    before, more = plan(HOST), plan(HOST, BIG)
    assert before.desired("w") == plan(HOST).desired("w")
    assert before.desired("w") != more.desired("w")  # it lets in another one
    assert more.without(["big"]).desired("w") == before.desired("w")
    # What a host has already is no part of what it shall be.
    assert plan(HOST, told={"w": {"release": "abc"}}).desired("w") == before.desired("w")


def gpus(*addresses: str) -> dict:
    return {"gpus": {"addresses": addresses, "devices": [], "fault": "", "note": ""}}


def test_hosts_with_gpus_get_the_cuda_build_and_the_others_the_cpu_build():
    one, two = replace(HOST, name="one"), replace(HOST, name="two")
    made = plan(HOST, one, two, told={"one": gpus("0"), "two": gpus("0", "1")})
    assert {name: host.torch_build for name, host in made.hosts.items()} == {
        "m": "cpu", "w": "cpu", "one": "cuda", "two": "cuda"
    }  # fmt: skip
    given = made.variables()["sparkbundle_hosts"]
    runtimes = {
        name: (host["runtime"]["digest"], host["runtime"]["requirements"])
        for name, host in given.items()
    }
    cpu, cuda = ("d" * 16, "requirements.txt"), ("c" * 16, "cuda.txt")
    assert runtimes == {"m": cpu, "w": cpu, "one": cuda, "two": cuda}
    # A job's Python is named by the release of the master's host, on every host.
    aliases = {name: host["runtime"]["alias"] for name, host in given.items()}
    assert aliases == {"m": "", "w": "", "one": "d" * 16, "two": "d" * 16}


def test_a_new_release_changes_the_hosts_that_have_something_of_it():
    one = replace(HOST, name="one")
    told = {"one": gpus("0")}
    before = plan(HOST, one, told=told)
    cuda = plan(HOST, one, told=told, cuda=replace(CUDA_HOUSE, digest="f" * 16))
    assert {n for n in before.hosts if before.desired(n) != cuda.desired(n)} == {"one"}
    # The host with GPUs has the name of the other build only: no daemon of its is started anew.
    cpu = plan(HOST, one, told=told, house=replace(HOUSE, digest="f" * 16))
    assert {n for n in before.hosts if before.desired(n) != cpu.desired(n)} == {"m", "w", "one"}
    was, now = daemons(before), daemons(cpu)
    assert {n for n in was if was[n] == now[n]} == {"one.worker_config"}
    other = plan(HOST, replace(one, torch_build="cpu"), told=told)
    assert daemons(other)["one.worker_config"] != was["one.worker_config"]


def test_builds_that_are_the_same_have_one_name():
    made = plan(replace(HOST, gpus=1), told={"w": gpus("0")}, house=CUDA_HOUSE)
    assert made.alias("w") == ""


def test_what_has_changed_since_is_named():
    told = facts(files={"/etc/a": "1", "/etc/b": "2"}, users=["spark"], release="r1")
    there = facts(**{**told.told, "deployed": _picture(told, "digest")})
    assert is_as_deployed(there, "digest")
    assert not is_as_deployed(there, "another")
    assert not is_as_deployed(told, "digest")
    assert drift(there) == []
    changed = facts(**{**there.told, "files": {"/etc/a": "1", "/etc/c": "3"}, "release": "r2"})
    assert drift(changed) == [
        "/etc/b has changed",
        "/etc/c has changed",
        "release has changed",
    ]
    assert drift(told) == ["the last deploy has not ended here"]


def test_no_role_takes_a_variable_that_it_does_not_name():
    """Every role has an argument specification, so that a wrong variable stops it at once."""
    for role in ROLES.iterdir():
        assert (role / "meta" / "argument_specs.yml").is_file(), role.name
