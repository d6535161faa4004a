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
from tests.deploy.test_hosts_check import HOST, MASTER, facts

SECRETS = Secrets(rpc="r" * 64, ui_key="u" * 43)
ROLES = resources.roles()
BIG = replace(HOST, name="big", cores=8, memory_mib=6144, gpus="auto", labels=("fast",))
HOUSE = Wheelhouse(
    digest="d" * 16, requirements=Path("requirements.txt"), bundles=(), python=(3, 11), size=0
)


def plan(
    *hosts: Host,
    master: Host = MASTER,
    secrets: Secrets = SECRETS,
    house: Wheelhouse = HOUSE,
    told=None,
    **settings,
) -> ClusterPlan:
    inventory = Inventory(path=Path("hosts.yml"), name="lab", hosts=(master, *hosts), **settings)
    found = {
        host.name: facts(address=f"10.0.0.{number}", **(told or {}).get(host.name, {}))
        for number, host in enumerate(inventory.hosts, start=4)
    }
    return make_plan(inventory, found, secrets=secrets, wheelhouse=house)


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
