"""What the notebook server of a cluster of hosts is told: settings, kernels, pages, its port."""

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from sparkbundle import host_notebook, resources
from sparkbundle.host_plan import ClusterPlan
from sparkbundle.inventory import Publication
from sparkbundle.kernels import NAME, ON_DEMAND
from sparkbundle.spark_settings import new_secrets
from tests.certificates import write_certificate
from tests.deploy.test_host_plan import BIG, HOUSE, SECRETS, daemons, plan, properties
from tests.deploy.test_hosts_check import HOST, MASTER

ON_MASTER = replace(MASTER, groups=frozenset({"master", "notebook"}))
ALONE = replace(HOST, name="n", groups=frozenset({"notebook"}))
MINE = {
    "Eight cores": {"spark.cores.max": "8", "spark.dynamicAllocation.executorIdleTimeout": "9s"}
}


def of(made: ClusterPlan, host: str = "m") -> dict[str, Any]:
    """The variables of the role on a host."""
    return made.hosts[host].variables["notebook"]


def config(made: ClusterPlan, host: str = "m") -> str:
    return of(made, host)["config"]


def settings(made: ClusterPlan, host: str = "m") -> dict[str, Any]:
    return json.loads(of(made, host)["files"]["jupyter_server_config.json"])


def kernel(made: ClusterPlan, name: str, host: str = "m") -> tuple[str, Mapping[str, str]]:
    """The title of a kernel, and the settings of its sessions."""
    spec = json.loads(of(made, host)["files"][f"kernels/{name}/kernel.json"])
    return spec["display_name"], json.loads(spec["env"]["SENTIMENT_SPARK_SETTINGS"])


@pytest.fixture
def publication(tmp_path: Path) -> Publication:
    pair = write_certificate(tmp_path, "a.example.org")
    return Publication(name="a.example.org", certificate=pair.certificate, key=pair.key)


def test_only_the_host_of_the_group_has_a_server():
    made = plan(HOST, ALONE)
    assert {name for name in made.hosts if of(made, name)} == {"n"}
    assert of(made, "m") == of(made, "w") == {}
    assert made.hosts["w"].variables["client_settings"] == ""
    assert of(plan(HOST), "m") == {}


def test_it_listens_on_the_loopback_address_and_knows_its_own_names_only():
    made = plan(HOST, master=ON_MASTER)
    server = settings(made)["ServerApp"]
    assert (server["ip"], server["port"], server["port_retries"]) == ("127.0.0.1", 8888, 0)
    assert server["allow_remote_access"] is server["allow_root"] is server["open_browser"] is False
    assert server["local_hostnames"] == ["localhost"]
    assert not {"certfile", "keyfile"} & server.keys()
    assert server["root_dir"] == "/var/lib/sparkbundle/notebook/notebooks"
    assert (of(made)["port"], of(made)["public_port"]) == (8888, 0)
    assert (of(made)["certificate"], of(made)["key"]) == ("", "")


def test_its_files_are_those_that_its_settings_name():
    made = plan(HOST, master=ON_MASTER, notebook_profiles=MINE)
    names = [NAME, f"{NAME}-2", f"{NAME}-3"]
    assert set(of(made)["files"]) == {
        "jupyter_server_config.json",
        "labconfig/default_setting_overrides.json",
        "tile.json",
        *(f"kernels/{name}/kernel.json" for name in names),
    }
    assert settings(made)["KernelSpecManager"] == {"allowed_kernelspecs": names}
    tile = settings(made)["ServerProxy"]["servers"]["spark"]
    assert "/etc/sparkbundle/notebook/tile.json" in tile["command"]
    assert tile["environment"] == {"PYTHONPATH": "/opt/sparkbundle/libexec/notebook"}
    assert tile["command"][0] == "/opt/sparkbundle/current/bin/python"


def test_kernels_take_executors_on_demand_or_hold_the_largest_worker():
    made = plan(HOST, BIG, master=ON_MASTER)
    title, first = kernel(made, NAME)
    assert title == "PySpark (this cluster)"
    assert ON_DEMAND.items() <= first.items()
    assert "spark.cores.max" not in first
    title, second = kernel(made, f"{NAME}-2")
    assert title == "PySpark (one worker)"
    assert second["spark.cores.max"] == "8"
    assert not ON_DEMAND.keys() & second.keys()


def test_the_users_profile_is_a_kernel_on_top_of_the_one_on_demand():
    made = plan(HOST, master=ON_MASTER, notebook_profiles=MINE)
    title, own = kernel(made, f"{NAME}-3")
    assert title == "Eight cores"
    assert own == kernel(made, NAME)[1] | MINE[title]


def test_a_profile_with_the_title_of_one_of_ours_takes_its_place():
    title = kernel(plan(HOST, master=ON_MASTER), NAME)[0]
    made = plan(HOST, master=ON_MASTER, notebook_profiles={title: {"spark.cores.max": "1"}})
    assert settings(made)["KernelSpecManager"]["allowed_kernelspecs"] == [NAME, f"{NAME}-2"]
    assert kernel(made, NAME)[1]["spark.cores.max"] == "1"


def test_drivers_are_reached_at_their_own_host_and_logged_where_the_history_server_reads():
    made = plan(HOST, ALONE, spark_settings={"spark.sql.shuffle.partitions": "7"})
    there = properties(made.hosts["n"].variables["client_settings"])
    at_master = properties(made.hosts["m"].variables["client_settings"])
    assert there["spark.driver.host"] == there["spark.driver.bindAddress"] == "10.0.0.6"
    assert at_master["spark.driver.host"] == "10.0.0.4"
    assert not [key for key in there if key.startswith("spark.eventLog")]
    assert there["spark.sql.shuffle.partitions"] == "7"
    own = {"spark.driver.host", "spark.driver.bindAddress"}
    rest = {key: value for key, value in at_master.items() if "eventLog" not in key}
    assert {k: v for k, v in there.items() if k not in own} == {
        k: v for k, v in rest.items() if k not in own
    }
    on_master = plan(HOST, master=ON_MASTER).hosts["m"].variables["client_settings"]
    assert properties(on_master)["spark.eventLog.dir"] == "file:///var/lib/sparkbundle/events"
    assert on_master == plan(HOST).hosts["m"].variables["client_settings"]


def test_the_pages_are_those_of_master_and_workers_as_its_host_reaches_them():
    pages = json.loads(of(plan(HOST, ALONE), "n")["files"]["tile.json"])
    assert pages == {
        "master": "10.0.0.4:8080",
        "fixed": ["10.0.0.4:18080"],
        "addresses": ["10.0.0.4", "10.0.0.5", "10.0.0.6"],
        "own": "10.0.0.6",
        "secrets": "/etc/sparkbundle/secrets.json",
    }


def test_no_secret_is_in_what_it_is_told(publication: Publication):
    made = plan(HOST, master=ON_MASTER, notebook_profiles=MINE, publication=publication)
    told = "".join(of(made)["files"].values())
    key = publication.key.read_text().splitlines()[1]
    for secret in (*asdict(SECRETS).values(), key, "token", "secretKey", "spark.authenticate"):
        assert secret not in told, secret
    assert key in of(made)["key"]
    assert key not in json.dumps({k: v for k, v in of(made).items() if k != "key"})


def test_published_it_speaks_tls_under_its_name(publication: Publication):
    made = plan(HOST, ALONE, publication=publication)
    server = settings(made, "n")["ServerApp"]
    assert server["ip"] == "127.0.0.1"
    assert server["local_hostnames"] == ["localhost", "a.example.org"]
    assert server["certfile"] == "/etc/sparkbundle/notebook/certificate.pem"
    assert server["keyfile"] == "/etc/sparkbundle/notebook/key.pem"
    assert of(made, "n")["public_port"] == 443
    assert of(made, "n")["certificate"] == publication.certificate.read_text()
    assert of(made, "n")["key"] == publication.key.read_text()


def test_port_443_is_open_where_it_is_published_only(publication: Publication):
    def opened(made: ClusterPlan) -> dict[str, list[int]]:
        return {name: host.variables["open_ports"] for name, host in made.hosts.items()}

    assert opened(plan(HOST, ALONE, publication=publication, open_ports=(80,))) == {
        "m": [80],
        "w": [80],
        "n": [80, 443],
    }
    assert opened(plan(HOST, ALONE)) == {"m": [], "w": [], "n": []}


def test_what_stands_beside_the_certificate_may_be_in_any_encoding(publication: Publication):
    whole = publication.certificate.read_bytes()
    publication.certificate.write_bytes(b"subject=O = Universit\xe4t\n" + whole)
    made = plan(HOST, master=ON_MASTER, publication=publication)
    assert of(made)["certificate"].endswith(whole.decode())


def test_it_is_started_anew_for_what_it_is_started_with(publication: Publication):
    before = config(plan(HOST, master=ON_MASTER))
    assert before == config(plan(HOST, master=ON_MASTER))
    published = config(plan(HOST, master=ON_MASTER, publication=publication))
    changed = [
        before,
        published,
        config(plan(HOST, master=ON_MASTER, notebook_profiles=MINE)),
        config(plan(HOST, master=ON_MASTER, house=replace(HOUSE, digest="e" * 16))),
        config(plan(replace(HOST, cores=2), master=ON_MASTER)),  # "one worker" is another one
        config(plan(HOST, replace(HOST, name="v"), master=ON_MASTER)),  # one more page
        config(plan(HOST, ALONE), "n"),
    ]
    write_certificate(publication.certificate.parent, publication.name)
    changed.append(config(plan(HOST, master=ON_MASTER, publication=publication)))
    assert len(set(changed)) == len(changed)


def test_it_is_not_started_anew_for_what_is_not_its_own():
    before = config(plan(HOST, master=ON_MASTER))
    for other in (
        plan(HOST, master=ON_MASTER, spark_settings={"spark.sql.shuffle.partitions": "7"}),
        plan(HOST, master=ON_MASTER, open_ports=(80,), firewall=False),
        plan(HOST, master=ON_MASTER, secrets=new_secrets()),
        plan(replace(HOST, labels=("fast",), memory_mib=1024), master=ON_MASTER),
        plan(HOST, master=ON_MASTER, told={"m": {"release": "abc", "open_ports": [1]}}),
    ):
        assert config(other) == before


def test_nothing_else_is_started_anew_for_it(publication: Publication):
    before, made = (
        plan(HOST, ALONE),
        plan(HOST, ALONE, notebook_profiles=MINE, publication=publication),
    )
    assert daemons(made) == daemons(before)
    changed = {name for name in made.hosts if made.desired(name) != before.desired(name)}
    assert changed == {"n"}


@pytest.mark.parametrize(
    "file",
    [
        "sparkbundle/tile.py",
        "sparkbundle/wire.py",
        "roles/notebook/templates/spark-notebook.service.j2",
        "roles/base/templates/sandbox.conf.j2",
    ],
)
def test_its_programs_are_among_what_it_is_started_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
):
    before = config(plan(HOST, master=ON_MASTER))
    shutil.copytree(host_notebook._PACKAGE, tmp_path / "sparkbundle")
    shutil.copytree(resources.roles(), tmp_path / "roles")
    monkeypatch.setattr(host_notebook, "_PACKAGE", tmp_path / "sparkbundle")
    monkeypatch.setattr(host_notebook, "roles", lambda: tmp_path / "roles")
    assert config(plan(HOST, master=ON_MASTER)) == before
    (tmp_path / "sparkbundle/proxy.py").write_text("# not one of its modules\n")
    assert config(plan(HOST, master=ON_MASTER)) == before
    with (tmp_path / file).open("a") as program:
        program.write("# changed\n")
    assert config(plan(HOST, master=ON_MASTER)) != before


def test_the_role_is_given_all_that_it_asks_for():
    role = resources.roles() / "notebook"
    asked = yaml.safe_load((role / "meta/argument_specs.yml").read_text())
    options = asked["argument_specs"]["main"]["options"]
    defaults = yaml.safe_load((role / "defaults/main.yml").read_text())
    plays = yaml.safe_load((resources.playbooks() / "up.yml").read_text())
    tasks = [task for play in plays for task in play.get("tasks", ())]
    (given,) = [task["vars"] for task in tasks if "vars" in task]
    assert {name for name, option in options.items() if option.get("required")} <= given.keys()
    assert given.keys() | defaults.keys() == options.keys()
    named = re.findall(r"host\.notebook\.(\w+)", " ".join(given.values()))
    assert set(named) == of(plan(HOST, master=ON_MASTER)).keys()
