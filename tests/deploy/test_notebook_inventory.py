"""The inventory's keys for the notebook server: its kernels, and where it is published."""

from pathlib import Path
from textwrap import indent

import pytest
import yaml

from sparkbundle.errors import PREFLIGHT
from sparkbundle.inventory import Inventory, InventoryError, Publication, load, resolve
from sparkbundle.inventory_file import scan_text
from tests.certificates import write_certificate
from tests.deploy.conftest import CommandLine
from tests.deploy.test_inventory import listing

NAME = "notebook.example.org"
PUBLISHED = f"""\
notebook_name: {NAME}
notebook_certificate: notebook.crt
notebook_key: notebook.key
"""


def written(folder: Path, variables: str, *, notebook: bool = True) -> Path:
    """An inventory with these variables of the whole cluster, from line 3 on."""
    group = "    notebook: {hosts: {m: }}\n" if notebook else ""
    path = folder / "hosts.yml"
    path.write_text(
        f"all:\n  vars:\n{indent(variables, '    ')}\n  children:\n"
        f"    master: {{hosts: {{m: }}}}\n    workers: {{hosts: {{w: }}}}\n{group}"
    )
    return path


def read(
    folder: Path, variables: str, *, notebook: bool = True
) -> tuple[Inventory | None, list[str]]:
    """The inventory, or what is wrong with it, without the half second that Ansible takes."""
    path = written(folder, variables, notebook=notebook)
    given = yaml.safe_load(variables)
    groups = {"master": ["m"], "workers": ["w"]} | ({"notebook": ["m"]} if notebook else {})
    found, wrong = resolve(
        listing({"m": given, "w": given}, **groups), scan=scan_text(path, path.read_text())
    )
    return found, [problem.line.removeprefix(f"{folder}/") for problem in wrong]


def test_without_the_keys_it_has_no_kernels_of_the_users_and_is_not_published(tmp_path: Path):
    inventory, _ = read(tmp_path, "cluster_name: lab")
    assert inventory.notebook.name == "m"
    assert (inventory.notebook_profiles, inventory.publication) == ({}, None)


def test_without_a_host_in_the_group_there_is_no_notebook_server(tmp_path: Path):
    inventory, _ = read(tmp_path, "cluster_name: lab", notebook=False)
    assert inventory.notebook is None


def test_profiles_are_titles_with_spark_settings(tmp_path: Path):
    inventory, _ = read(
        tmp_path,
        "notebook_profiles:\n"
        "  Große Jobs (8 cores): {spark.cores.max: 8, spark.dynamicAllocation.enabled: false}\n"
        "  x: {}\n",
    )
    assert inventory.notebook_profiles == {
        "Große Jobs (8 cores)": {
            "spark.cores.max": "8",
            "spark.dynamicAllocation.enabled": "false",
        },
        "x": {},
    }


def test_it_is_published_at_a_name_with_files_that_stand_beside_the_inventory(tmp_path: Path):
    write_certificate(tmp_path / "tls", NAME)
    inventory, _ = read(
        tmp_path,
        f"notebook_name: {NAME.upper()}\n"
        f"notebook_certificate: tls/notebook.crt\nnotebook_key: {tmp_path}/tls/notebook.key\n",
    )
    tls = tmp_path / "tls"
    assert inventory.publication == Publication(
        name=NAME, certificate=tls / "notebook.crt", key=tls / "notebook.key"
    )


@pytest.mark.parametrize("file", ["no-such.pem", ".", "x" * 300])
def test_its_files_need_not_be_there(tmp_path: Path, file: str):
    """A colleague without the key asks for the status, or takes the cluster down, all the same."""
    inventory, wrong = read(
        tmp_path, f"notebook_name: {NAME}\nnotebook_certificate: {file}\nnotebook_key: {file}\n"
    )
    assert wrong == []
    assert inventory.publication == Publication(
        name=NAME, certificate=tmp_path / file, key=tmp_path / file
    )


@pytest.mark.parametrize(
    ("profiles", "says"),
    [
        ("", "has no value"),
        ("[A]", "['A'] is not a mapping of profiles"),
        ("A", "'A' is not a mapping of profiles"),
        ("{A: }", "A: None is not a mapping of Spark settings"),
        ("{A: [spark.cores.max]}", "A: ['spark.cores.max'] is not a mapping of Spark settings"),
        ("{7: {}}", "7 is not a title"),
        ("{'': {}}", "'' is not a title of 1 to 60 characters"),
        ("{' A': {}}", "' A' is not a title"),
        ("{'A ': {}}", "'A ' is not a title"),
        ('{"A\\tB": {}}', "'A\\tB' is not a title"),
        ('{"A\\nB": {}}', "'A\\nB' is not a title"),
        (f"{{{'A' * 61}: {{}}}}", "is not a title of 1 to 60 characters"),
        ("{'{{ A }}': {}}", "a Jinja template is not filled in here"),
        ("{A: {spark.cores.max: '{{ 8 }}'}}", "a Jinja template is not filled in here"),
        ("{A: {'spark.{{ b }}': 8}}", "a Jinja template is not filled in here"),
        ("{A: {cores: 8}}", "A: cores: the name of a setting starts with 'spark.'"),
        ("{A: {spark.cores.max: [8]}}", "A: spark.cores.max: [8] is not a text, a number"),
        ("{A: {spark.master: local}}", "A: spark.master: cannot be set: it is set for you"),
        ("{A: {spark.authenticate: false}}", "A: spark.authenticate: cannot be set: it protects"),
        ("{A: {spark.driver.host: h}}", "A: spark.driver.host: cannot be set"),
        ("{A: !vault x}", "cannot be read"),
    ],
)
def test_a_wrong_profile_is_named_with_its_line(profiles: str, says: str):
    found = scan_text(
        Path("hosts.yml"), f"all:\n  vars:\n    notebook_profiles: {profiles}\n"
    ).problems
    (line,) = [problem.line for problem in found]
    assert line.startswith("hosts.yml:3: notebook_profiles: ")
    assert says in line


@pytest.mark.parametrize(
    "name",
    [
        *"""
        notebook localhost 10.0.0.7 '::1' a.7 a..b .a.b a.b. -a.b a_b.c é.org '*.a.b' a.b:443
        https://a.b 7 [a.b] true ~/a.b "a.b\\n"
        """.split(),
        f"{'a' * 64}.b",
    ],
)
def test_what_is_no_name_with_a_dot_is_refused(tmp_path: Path, name: str):
    write_certificate(tmp_path, NAME)
    (line,) = read(tmp_path, PUBLISHED.replace(NAME, name))[1]
    assert line.startswith("hosts.yml:3: notebook_name: ")
    assert "is not a name such as notebook.example.org" in line


@pytest.mark.parametrize("key", ["notebook_certificate", "notebook_key"])
@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("", "has no value"),
        ("7", "7 is not the path of a local file"),
        ("[a.pem]", "is not the path of a local file"),
        ("''", "'' is not the path of a local file"),
        ("https://example.org/a.pem", "is not the path of a local file"),
        ("'{{ a }}.pem'", "a Jinja template"),
    ],
)
def test_what_is_no_path_is_refused(tmp_path: Path, key: str, value: str, says: str):
    given = yaml.safe_load(PUBLISHED)
    variables = "\n".join(f"{k}: {value if k == key else v}" for k, v in given.items())
    (line,) = read(tmp_path, variables)[1]
    assert line.startswith(f"hosts.yml:{3 + list(given).index(key)}: {key}: ")
    assert says in line


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("name", "'notebook_name' needs 'notebook_certificate' and 'notebook_key'"),
        ("certificate", "'notebook_certificate' needs 'notebook_key' and 'notebook_name'"),
        ("key", "'notebook_key' needs 'notebook_certificate' and 'notebook_name'"),
        ("name certificate", "'notebook_certificate' needs 'notebook_key'"),
        ("name key", "'notebook_key' needs 'notebook_certificate'"),
        ("certificate key", "'notebook_certificate' needs 'notebook_name'"),
    ],
)
def test_one_of_the_keys_of_publishing_needs_the_others(tmp_path: Path, given: str, says: str):
    write_certificate(tmp_path, NAME)
    lines = [line for line in PUBLISHED.splitlines() if line[9 : line.index(":")] in given.split()]
    (line,) = read(tmp_path, "\n".join(lines))[1]
    place = 3 + next(n for n, one in enumerate(lines) if one.startswith(says.split("'")[1]))
    assert line.startswith(f"hosts.yml:{place}: {says}: docs/notebooks.md")


@pytest.mark.parametrize("variables", ["notebook_profiles: {A: {}}\n", PUBLISHED])
def test_keys_of_a_notebook_server_that_is_not_there_have_no_effect(tmp_path: Path, variables: str):
    write_certificate(tmp_path, NAME)
    (line,) = read(tmp_path, variables, notebook=False)[1]
    key = variables.partition(":")[0]
    assert line == (
        f"hosts.yml:3: {key!r} has no effect: no host runs the notebook server: "
        "put one in the group notebook"
    )


def test_they_are_keys_of_the_whole_cluster():
    text = f"master:\n  hosts:\n    m:\n{indent(PUBLISHED, '      ')}workers: {{hosts: {{w: }}}}\n"
    lines = [problem.line for problem in scan_text(Path("hosts.yml"), text).problems]
    assert [line.partition(" '")[0] for line in lines] == [
        "hosts.yml:4:",
        "hosts.yml:5:",
        "hosts.yml:6:",
    ]
    assert all("holds for the whole cluster: write it under 'all: vars:'" in line for line in lines)


def test_all_of_it_from_the_file_with_ansible(tmp_path: Path):
    profiles = "notebook_profiles:\n  'Two: cores': {spark.cores.max: 2}\n"
    path = written(tmp_path, PUBLISHED.replace("notebook.crt", "7") + profiles)
    with pytest.raises(InventoryError) as caught:
        load(path)
    assert caught.value.code == PREFLIGHT
    assert [problem.line for problem in caught.value.problems] == [
        f"{path}:4: notebook_certificate: 7 is not the path of a local file",
    ]
    inventory = load(written(tmp_path, PUBLISHED + profiles))
    assert inventory.publication.name == NAME
    assert inventory.notebook_profiles == {"Two: cores": {"spark.cores.max": "2"}}


@pytest.mark.parametrize("days", [None, -1])
def test_the_status_needs_no_certificate(cli: CommandLine, days: float | None):
    """It has run out, or the files are another's: the hosts are asked all the same."""
    if days is not None:
        write_certificate(cli.home, NAME, days=days)
    address = "ansible_host: 127.0.0.1\nansible_port: 1\n"
    text = written(cli.home, PUBLISHED + address).read_text()
    (cli.home / "hosts.yml").write_text(text.replace("w: }", "w: {ansible_port: 2}}"))
    shown = cli("status", "-i", "hosts.yml", code=4)
    assert "certificate" not in shown.stdout + shown.stderr
