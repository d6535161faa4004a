"""`load` and its parts. Ansible takes half a second a call: most tests run the parts only."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sparkbundle import inventory_keys
from sparkbundle.errors import PREFLIGHT, PreflightError
from sparkbundle.inventory import InventoryError, load, resolve
from sparkbundle.inventory_file import Problem, Scan, covers, scan, scan_text
from sparkbundle.output import show_error

EXAMPLE = Path(__file__).parents[2] / "inventory" / "example.yml"
HOSTS = Path("hosts.yml")
SMALL = "master:\n  hosts:\n    m:\nworkers:\n  hosts:\n    w:\n"


def lines(found: Scan) -> list[str]:
    return [problem.line for problem in found.problems]


def with_variables(text: str) -> Scan:
    """An inventory that has this text as the variables of one worker, from line 4 on."""
    indented = "".join(f"      {line}\n" for line in text.splitlines())
    return scan_text(HOSTS, f"workers:\n  hosts:\n    w:\n{indented}master: {{hosts: {{m: }}}}\n")


def listing(hosts: dict[str, dict[str, Any]] | None = None, **groups: list[str]) -> dict[str, Any]:
    """What ansible-inventory says of these hosts and groups."""
    members = groups or {"master": ["m"], "workers": ["w"]}
    return {
        "_meta": {"hostvars": hosts or {}},
        "all": {"children": ["ungrouped", *members]},
        **{group: {"hosts": names} for group, names in members.items()},
    }


def problems(
    hosts: dict[str, dict[str, Any]] | None = None, *, text: str = SMALL, **groups: list[str]
) -> list[str]:
    return [p.line for p in resolve(listing(hosts, **groups), scan=scan_text(HOSTS, text))[1]]


# The text


def test_a_good_inventory_has_no_problems():
    assert lines(scan_text(HOSTS, SMALL)) == []


def test_an_unknown_variable_is_named_with_its_line_and_its_nearest_neighbour():
    assert lines(with_variables("spark_core: 2")) == [
        "hosts.yml:4: unknown variable 'spark_core': did you mean 'spark_cores'?"
    ]


def test_variables_for_ansible_are_left_to_it_but_for_the_old_names():
    assert lines(with_variables("ansible_become_method: sudo")) == []
    assert "write 'ansible_host'" in lines(with_variables("ansible_ssh_host: h"))[0]


@pytest.mark.parametrize(
    ("variable", "says"),
    [
        ("spark_cores: 0", "number of cores"),
        ("spark_cores: true", "number of cores"),
        ("spark_cores: '4'", "number of cores"),
        ("spark_cores:", "has no value"),
        ("spark_cores: '{{ 2 + 2 }}'", "Jinja"),
        ("spark_cores: !vault x", "!vault cannot be used"),
        ("spark_memory: 6 gigs", "'6 gigs' is not a size"),
        ("spark_memory: 6", "is not a size"),
        ("spark_memory: 100m", "too little"),
        ("spark_gpus: -1", "auto, none or a number"),
        ("spark_gpus: yes", "auto, none or a number"),
        ("spark_gpus: [0, 0]", "'0' is in the list twice"),
        ("spark_gpus: [0, '0']", "'0' is in the list twice"),
        ("spark_gpus: [-1]", "-1 is no GPU: write its number or UUID"),
        ("spark_gpus: [true]", "True is no GPU"),
        ("spark_gpus: [1.5]", "1.5 is no GPU"),
        ("spark_gpus: ['00']", "'00' is no GPU"),
        ("spark_gpus: ['0,1']", "'0,1' is no GPU"),
        ("spark_gpus: ['GPU-5d5b $(x)']", "is no GPU"),
        ("spark_gpus: [NVIDIA L4]", "'NVIDIA L4' is no GPU"),
        ("spark_gpus: [auto]", "'auto' is no GPU"),
        ("spark_gpus: 'GPU-5d5b'", "auto, none or a number of GPUs, nor a list"),
        ("torch_build: gpu", "'gpu' is not auto, cpu or cuda"),
        ("torch_build: [cpu]", "['cpu'] is not auto, cpu or cuda"),
        ("torch_buid: cpu", "did you mean 'torch_build'?"),
        ("spark_labels: fast", "is not a list"),
        ("spark_labels: [two words]", "is not a word"),
        ("spark_labels: [a, a]", "twice"),
        ("spark_address: 0.0.0.0", "not the address of one host"),
        ("spark_address: 10.0.0.300", "not an IPv4 address"),
        ("spark_address: 'a b'", "not an IPv4 address"),
        ("ansible_port: 70000", "70000 is not a port"),
        ("ansible_port: x", "'x' is not a port"),
        ("ansible_host: '-oProxyCommand=x'", "not an address"),
        ("ansible_user: -x", "not the name of a user"),
        ("ansible_ssh_private_key_file: key", "not an absolute path"),
        ("ansible_ssh_private_key_file: /no/such/key", "there is no file"),
        ("ansible_ssh_private_key_file: ~no-such-user-here/key", "there is no file"),
        ("ansible_connection: local", "only SSH hosts"),
        ("firewall: true", "holds for the whole cluster"),
    ],
)
def test_a_wrong_value_is_named_with_its_line(variable, says):
    (line,) = lines(with_variables(variable))
    assert line.startswith("hosts.yml:4: ")
    assert says in line


@pytest.mark.parametrize(
    ("variable", "says"),
    [
        ("cluster_name: -x", "cannot be the name of a cluster"),
        ("cluster_name: 7", "put it in quotes"),
        ("firewall: maybe", "not true or false"),
        ("firewall_open_ports: 80", "not a list of ports"),
        ("firewall_open_ports: [0]", "not a port"),
        ("java_deb: https://example.org/j.deb", "local .deb"),
        ("spark_settings: [a]", "not a mapping"),
    ],
)
def test_a_wrong_value_for_the_cluster_is_named_with_its_line(variable, says):
    (line,) = lines(scan_text(HOSTS, f"all:\n  vars:\n    {variable}\n"))
    assert line.startswith("hosts.yml:3: ")
    assert says in line


@pytest.mark.parametrize(
    "setting",
    [
        "spark.authenticate: false",
        "spark.authenticate.secret: x",
        "spark.network.crypto.enabled: false",
        "spark.ui.filters: ''",
        "spark.org.apache.spark.ui.JWSFilter.param.secretKey: x",
        "spark.ui.killEnabled: true",
        "spark.master: local",
        "spark.master.rest.enabled: true",
        "spark.deploy.recoveryMode: NONE",
        "spark.port.maxRetries: 3",
        "spark.driver.host: h",
        "spark.driver.bindAddress: 0.0.0.0",
        "spark.worker.resource.gpu.amount: 1",
        "spark.worker.resourcesFile: /tmp/mine.json",
        "executor.memory: 1g",
        'spark.a: "x\\ny"',
        "spark.a: [1]",
        "spark.a: {b: 1}",
        "spark.a:",
        "spark.a: .nan",
        "spark.a: '{{ b }}'",
        "'spark.{{ b }}': 1",
        "spark.a b: 1",
    ],
)
def test_a_spark_setting_that_must_not_be_is_refused_on_its_own_line(setting):
    text = f"all:\n  vars:\n    spark_settings:\n      spark.fine: 1\n      {setting}\n"
    (line,) = lines(scan_text(HOSTS, text))
    assert line.startswith("hosts.yml:5: ")


def test_spark_settings_become_texts():
    given = {"spark.a": True, "spark.b": 2, "spark.c": 0.5, "spark.master.x": "é y"}
    assert inventory_keys.parse("spark_settings", given) == {
        "spark.a": "true",
        "spark.b": "2",
        "spark.c": "0.5",
        "spark.master.x": "é y",
    }


def test_a_double_key_is_an_error_with_both_lines():
    assert lines(with_variables("spark_cores: 2\nspark_cores: 3")) == [
        "hosts.yml:5: 'spark_cores' is there twice, first in line 4: "
        "only the last would count: remove one"
    ]
    assert (
        "hosts.yml:4: 'm' is there twice"
        in lines(scan_text(HOSTS, "master:\n  hosts:\n    m:\n    m:\n"))[0]
    )


def test_values_that_are_merged_in_are_checked_and_may_be_overridden():
    good = "workers:\n  hosts:\n    a: &big {spark_cores: 9}\n    b: {<<: *big, spark_cores: 1}\n"
    assert lines(scan_text(HOSTS, good)) == []
    bad = "workers:\n  hosts:\n    a: {<<: {spark_core: 1}}\n"
    assert "unknown variable" in lines(scan_text(HOSTS, bad))[0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("worker: {hosts: {a: }}", "hosts.yml:1: unknown group 'worker': did you mean 'workers'?"),
        ("all: {children: {gpus: {hosts: {a: }}}}", "unknown group 'gpus': a group of your own"),
        ("hosts: {a: }", "'hosts' is outside of any group: write it under 'all:'"),
        ("workers: {host: {a: }}", "did you mean 'hosts'?"),
        ("workers: {spark_cores: 2}", "write it under 'vars:'"),
        (
            "workers: {hosts: [a]}",
            "must be a mapping, not a list: write 'name:' instead of '- name'",
        ),
        ("workers: {hosts: {10: }}", "10 is not a text: put the key in quotes"),
        ("workers: {hosts: {[a]: }}", "this key is not a text"),
        ("workers: {hosts: {a: 3}}", "must be a mapping, not a single value"),
        ("workers: {hosts: {'a[1:999999999999]': }}", "more than 1000 hosts"),
        ("a: [", "hosts.yml:1: is not YAML"),
        ("a:\n  b: \x01", "hosts.yml:2: is not YAML: a character that cannot be in it (column 6)"),
        ("a: &x {b: *x}", "an alias contains itself"),
        ("[" * 5000, "nested too deeply"),
        ("just words", "an inventory must be a mapping"),
        ("", "is empty"),
        ("# nothing", "is empty"),
        ("[master]\nm\n", "this is an INI inventory: write YAML, see inventory/example.yml"),
        ("m ansible_host=h\n[workers]\n", "this is an INI inventory"),
        ("#!/bin/sh\n", "is a program (a dynamic inventory)"),
        ("plugin: x", "is a dynamic inventory"),
        ("$ANSIBLE_VAULT;1.1;AES256\n00", "is encrypted"),
    ],
)
def test_a_wrong_structure_is_named(text, says):
    assert any(says in line for line in lines(scan_text(HOSTS, text)))


def test_groups_below_ours_are_the_users_own():
    text = "workers: {children: {gpus: {children: {big: }}}}\nbig: {hosts: {a: }}\n"
    assert lines(scan_text(HOSTS, text)) == []


def test_a_file_that_ansible_would_not_read_is_refused():
    assert "let its name end in .yml" in lines(scan_text(Path("hosts.txt"), SMALL))[0]
    assert "INI" in lines(scan_text(Path("hosts.ini"), SMALL))[0]


@pytest.mark.parametrize(
    ("pattern", "host", "is_covered"),
    [
        ("w", "w", True),
        ("w", "w1", False),
        ("w.x", "wax", False),
        ("w[1:3]", "w3", True),
        ("w[1:3]", "w4", False),
        ("w[01:10].org:2222", "w07.org", True),
        ("w[:3]", "w0", True),
        ("w[a:c]", "wb", True),
        ("w[a:c]", "wd", False),
        ("w[1:2]-[4:5]", "w2-4", True),
    ],
)
def test_a_pattern_covers_its_hosts(pattern, host, is_covered):
    assert covers(pattern, host) == is_covered


# The files beside it


def write(directory: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    return directory / "hosts.yml"


def test_the_files_beside_the_inventory_are_checked_too(tmp_path):
    path = write(
        tmp_path,
        {
            "hosts.yml": SMALL,
            "group_vars/all/a.yml": "# ours\nfirewal: true\n",
            "group_vars/all/.hidden": "no: 1",
            "group_vars/all.yml": "firewall: true\n",
            "group_vars/worker.yml": "spark_cores: 1\n",
            "host_vars/w": "spark_cores: 0\n",
            "host_vars/m.yaml": "$ANSIBLE_VAULT;1.1;AES256\n00\n",
        },
    )
    found = [line.removeprefix(f"{tmp_path}/") for line in lines(scan(path))]
    assert sorted(found) == [
        "group_vars/all.yml: is not read: Ansible takes all instead: join them",
        "group_vars/all/a.yml:2: unknown variable 'firewal': did you mean 'firewall'?",
        f"group_vars/worker.yml: there is no group 'worker' in {path}: did you mean 'workers'?",
        "host_vars/w:1: spark_cores: 0 is not a number of cores, 1 or more",
    ]


def test_a_stray_file_may_belong_to_another_inventory(tmp_path):
    path = write(
        tmp_path, {"hosts.yml": SMALL, "other.yml": SMALL, "host_vars/x.yml": "spark_cores: 1\n"}
    )
    assert lines(scan(path)) == []


def test_a_file_that_is_none_is_refused(tmp_path):
    (tmp_path / "binary.yml").write_bytes(b"\xff\xfe\x00")
    for path, says in [
        (tmp_path, "is a directory"),
        (tmp_path / "none.yml", "there is no such file"),
        (tmp_path / "binary.yml", "not a text in UTF-8"),
    ]:
        with pytest.raises(InventoryError) as caught:
            load(path)
        assert says in caught.value.what
        assert caught.value.where == str(path)
        assert caught.value.code == PREFLIGHT


# What Ansible says


def test_the_smallest_inventory():
    inventory, wrong = resolve(listing(), scan=scan_text(HOSTS, SMALL))
    assert not wrong
    assert inventory is not None
    assert inventory.name == "hosts"
    assert inventory.master.name == "m"
    assert [worker.name for worker in inventory.workers] == ["w"]
    assert (inventory.firewall, inventory.open_ports, inventory.java_deb) == (True, (), None)


def test_hosts_have_the_order_of_the_file():
    text = "workers: {hosts: {z: , 'w[9:10]': }}\nmaster: {hosts: {a: }}\n"
    inventory, _ = resolve(
        listing(master=["a"], workers=["w9", "w10", "z"]),
        scan=scan_text(HOSTS, text),
    )
    assert inventory is not None
    assert [host.name for host in inventory.hosts] == ["z", "w9", "w10", "a"]


@pytest.mark.parametrize(
    ("groups", "says"),
    [
        ({"workers": ["w", "m"]}, "hosts.yml:1: the group 'master' has no host"),
        ({"master": ["m", "w"], "workers": ["w"]}, "'master' has 2 hosts: m, w"),
        ({"master": ["m", "w"]}, "hosts.yml:4: the group 'workers' has no host"),
        ({"master": ["m"], "workers": ["w"], "notebook": ["m", "w"]}, "'notebook' has 2 hosts"),
        ({"master": ["m"], "workers": ["w"], "ungrouped": ["x"]}, "'x' is in none of the groups"),
        ({"master": ["m"], "workers": ["m"]}, "hosts.yml:6: 'w' stands for no host"),
        ({"master": ["m"], "workers": ["w", "a%s"]}, "'a%s' cannot be a host's name"),
        ({"master": ["m"], "workers": ["w", "a" * 64]}, "cannot be a host's name"),
    ],
)
def test_wrong_groups_are_named(groups, says):
    assert any(says in line for line in problems(**groups))


@pytest.mark.parametrize(
    ("hosts", "says"),
    [
        (
            {"m": {"ansible_host": "H"}, "w": {"ansible_host": "h", "ansible_port": 22}},
            "same machine",
        ),
        ({"m": {"spark_address": "h"}, "w": {"spark_address": "h"}}, "spark_address of m"),
        ({"w": {"spark_address": "127.0.0.1"}}, "cannot reach w"),
        ({"m": {"cluster_name": "a"}, "w": {"cluster_name": "b"}}, "differs between m and w"),
        ({"w": {"java_deb": "no-such.deb"}}, "there is no file no-such.deb"),
        ({"w": {"spark_core": 1}}, "hosts.yml:6: unknown variable 'spark_core' for w"),
        ({"w": {"spark_cores": 0}}, "hosts.yml:6: spark_cores of w: 0 is not"),
        ({"w": {"spark_cores": {"__ansible_vault": "x"}}}, "encrypted"),
    ],
)
def test_wrong_hosts_are_named(hosts, says):
    (line,) = problems(hosts)
    assert says in line


def test_two_hosts_behind_one_address_differ_by_their_ports():
    hosts = {"m": {"ansible_host": "h", "ansible_port": 1}, "w": {"ansible_host": "h"}}
    assert problems(hosts) == []


def test_what_a_worker_offers_has_no_effect_elsewhere():
    text = SMALL.replace("    m:\n", "    m:\n      spark_cores: 2\n")
    (line,) = problems({"m": {"spark_cores": 2}}, text=text)
    assert line.startswith("hosts.yml:4: 'spark_cores' has no effect")


def test_every_host_may_have_a_build_of_torch():
    hosts = {"m": {"torch_build": "cuda"}}
    found, wrong = resolve(listing(hosts), scan=scan_text(HOSTS, SMALL))
    assert not wrong and found is not None
    assert {host.name: host.torch_build for host in found.hosts} == {"m": "cuda", "w": "auto"}


def test_a_file_name_that_cannot_name_a_cluster_needs_a_cluster_name():
    found = scan_text(Path("my hosts.yml"), SMALL)
    (problem,) = resolve(listing(), scan=found)[1]
    assert problem.todo == "set cluster_name"
    assert not resolve(listing({"m": {"cluster_name": "lab"}}), scan=found)[1]


# The error


def test_all_problems_are_shown_sorted_one_a_line(capsys):
    wrong = [Problem(where=f"b.yml:{n}", what="w", todo="t") for n in (10, 9)]
    error = InventoryError([*wrong, Problem(where="a.yml", what="w"), wrong[0]])
    show_error(error)
    assert capsys.readouterr().err.splitlines() == [
        "error: 3 problems in the inventory",
        "  a.yml: w",
        "  b.yml:9: w: t",
        "  b.yml:10: w: t",
    ]


def test_one_problem_is_shown_as_any_error(capsys):
    show_error(InventoryError([Problem(where="a.yml:3", what="w", todo="t")]))
    assert capsys.readouterr().err.splitlines() == ["error: a.yml:3: w", "  do:  t"]


# With Ansible


def test_the_example_loads(tmp_path, monkeypatch):
    # A group_vars and an ansible.cfg where the command is run are none of its business.
    write(tmp_path, {"group_vars/all.yml": "spark_cores: 77\n", "ansible.cfg": "[defaults\n"})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANSIBLE_INVENTORY_ENABLED", "ini")
    inventory = load(EXAMPLE)
    names = "head worker-1 worker-2 worker-3 old-box gpu-01.example.org gpu-02.example.org"
    assert [host.name for host in inventory.hosts] == names.split()
    assert inventory.name == "example"
    assert inventory.master.groups == {"master", "notebook"}
    assert inventory.master.address == "10.0.0.10"
    assert inventory.spark_settings["spark.sql.adaptive.enabled"] == "true"
    assert inventory.open_ports == (80, 443)
    worker, old, gpu = map(inventory.host, ("worker-1", "old-box", "gpu-02.example.org"))
    assert (worker.cores, worker.memory_mib, worker.gpus) == (None, 6144, "auto")
    assert (old.ssh_host, old.ssh_port, old.ssh_user) == ("192.0.2.20", 2222, "ubuntu")
    assert (old.cores, old.memory_mib) == (2, 1536)
    assert (gpu.cores, gpu.memory_mib, gpu.gpus, gpu.labels) == (16, 49152, 2, ("gpu", "fast"))


def test_group_vars_and_host_vars_count_as_for_ansible(tmp_path):
    path = write(
        tmp_path,
        {
            "hosts.yml": SMALL,
            "group_vars/all.yml": "cluster_name: lab\njava_deb: jdk.deb\n",
            "group_vars/workers/size.yml": "spark_cores: 2\nspark_memory: 1g\n",
            "host_vars/w.yml": "spark_cores: 3\n",
            "jdk.deb": "",
        },
    )
    inventory = load(path)
    worker = inventory.host("w")
    assert (inventory.name, inventory.java_deb) == ("lab", tmp_path / "jdk.deb")
    assert (worker.cores, worker.memory_mib) == (3, 1024)
    # Everything that is wrong comes at once: from the text, and from what Ansible makes of it.
    (tmp_path / "host_vars/w.yml").write_text("spark_core: 3\n")
    (tmp_path / "hosts.yml").write_text(SMALL.replace("    m:\n", "    m:\n    'n:2222':\n"))
    with pytest.raises(InventoryError) as caught:
        load(path)
    assert [problem.line.removeprefix(f"{tmp_path}/") for problem in caught.value.problems] == [
        "host_vars/w.yml:1: unknown variable 'spark_core': did you mean 'spark_cores'?",
        "hosts.yml:1: the group 'master' has 2 hosts: m, n: it can have one only",
    ]


def test_what_only_ansible_refuses_is_told_in_its_words(tmp_path):
    path = write(tmp_path, {"hosts.yml": SMALL + "  children: {master: {children: {workers: }}}\n"})
    with pytest.raises(InventoryError, match=r"Ansible: .*loop"):
        load(path)


def test_an_encrypted_file_without_its_password_names_the_variable(tmp_path, monkeypatch):
    monkeypatch.delenv("ANSIBLE_VAULT_PASSWORD_FILE", raising=False)
    path = write(
        tmp_path, {"hosts.yml": SMALL, "group_vars/all.yml": "$ANSIBLE_VAULT;1.1;AES256\n3030\n"}
    )
    with pytest.raises(InventoryError) as caught:
        load(path)
    assert caught.value.todo == "set ANSIBLE_VAULT_PASSWORD_FILE"


def test_without_ansible_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    path = Path(shutil.copy(EXAMPLE, tmp_path / "hosts.yml"))
    with pytest.raises(PreflightError, match="ansible-inventory cannot be run"):
        load(path)


# Anything at all

WORDS = [*inventory_keys.KEYS, "master", "workers", "notebook", "all", "hosts", "vars", "children"]
WORDS += ["spark.ui.port", "w[1:3]", "m", "<<", "ansible_x", ""]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.dates()
    | st.sampled_from([*WORDS, "6g", "10.0.0.1", "{{ x }}"])
    | st.text(max_size=8)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(WORDS) | SCALARS, inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(value=VALUES, variables=st.dictionaries(st.sampled_from(WORDS), VALUES, max_size=6))
def test_no_mapping_makes_the_checks_fail(value, variables):
    found = scan_text(HOSTS, yaml.safe_dump(value))
    inventory, wrong = resolve(listing({"m": variables, "w": {}}), scan=found)
    assert (inventory is None) == bool(wrong)


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="ab: -[]{}&*!?|>'\"\n\t<.0\x00\x85", max_size=40))
def test_no_text_makes_the_checks_fail(text):
    found = scan_text(HOSTS, text)
    assert found.readable or found.problems
