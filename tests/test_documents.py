"""The documents: their commands run, their links lead somewhere."""

import re
from pathlib import Path

import pytest
from click import Context

from sparkbundle import inventory_keys
from sparkbundle.cli import cli
from sparkbundle.inventory_file import scan_text

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files(document: Path):
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_make_targets_in_documents_exist(document: Path):
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for target in re.findall(r"^make (\w+)", document.read_text(), re.MULTILINE):
        assert target in targets


def test_every_command_has_a_page_or_a_line_in_the_readme():
    text = "".join(document.read_text() for document in DOCUMENTS)
    for command in cli.list_commands(Context(cli)):
        assert f"sparkbundle {command}" in text
    for command in (
        "ingest",
        "vectors build",
        "vectors train",
        "train",
        "evaluate",
        "score",
        "films",
        "board",
    ):
        assert f"sentiment {command}" in text


def test_every_key_of_an_inventory_is_in_its_document():
    text = (ROOT / "docs/inventory.md").read_text()
    assert [key for key in inventory_keys.KEYS if f"\n| `{key}` | " not in text] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_inventories_in_documents_are_right(document: Path):
    found = re.findall(r"^```yaml\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL)
    for text in found:
        if text.startswith(("all:", "master:", "workers:", "notebook:")):
            assert [one.line for one in scan_text(Path("hosts.yml"), text).problems] == [], text


def test_what_is_commented_out_in_the_example_is_right():
    path = ROOT / "inventory/example.yml"
    text = re.sub(r"^    # (?=notebook_|  )", "    ", path.read_text(), flags=re.MULTILINE)
    found = scan_text(path, text)
    assert found.problems == []
    keys = {entry.key for entry in found.entries}
    assert {key for key in inventory_keys.KEYS if key.startswith("notebook_")} <= keys
