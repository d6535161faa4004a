"""The notebooks run, each in order, in the kernel that users have; and hold no text of a review."""

import json
import re
import shutil
import sys
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from sentiment.notebook import FOLDER_VARIABLE
from sparkbundle.kernels import NAME, ON_DEMAND, TITLE, kernel_specs, write_kernels
from tests.conftest import QUICK_JVMS, Sentiment
from tests.job.driver_jvm import DriverJvm

NOTEBOOKS = Path(__file__).parents[2] / "job" / "notebooks"
NAMES = ("1-the-talk", "2-live-stream", "3-word-vectors", "4-errors")
PLOT = "application/vnd.plotly.v1+json"
# The notebook looks for films by their names in the texts; these words are in enough of them for
# several of its batches.
FILMS = ("horror", "comedy", "movie")


class Client(NotebookClient):
    """A front end that keeps what moves: how many points each update of a chart had."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.moved: list[tuple[int, int]] = []

    def process_message(self, msg: dict, cell: Any, cell_index: int) -> Any:
        if msg["msg_type"] == "update_display_data" and PLOT in msg["content"]["data"]:
            picture = msg["content"]["data"][PLOT]
            self.moved.append((cell_index, max(len(points(line)) for line in picture["data"])))
        return super().process_message(msg, cell, cell_index)


class Notebooks:
    """The notebooks in a folder of their own, which they share."""

    def __init__(self, home: Path, sentiment: Sentiment, driver_jvm: DriverJvm) -> None:
        self.folder = home / "the talk"  # a space in its name, as people have
        self._home = home
        for name in NAMES:
            shutil.copy(NOTEBOOKS / f"{name}.ipynb", home)
        environment = {
            "SPARKBUNDLE_STATE": sentiment.env["SPARKBUNDLE_STATE"],
            FOLDER_VARIABLE: str(self.folder),
            # Of the kernel and the commands of its cells one at a time has Spark.
            **driver_jvm.variables,
        }
        settings = {**ON_DEMAND, **QUICK_JVMS}
        specs = kernel_specs({TITLE: settings}, python=sys.executable, environment=environment)
        write_kernels(home / "jupyter", specs)

    def run(self, name: str, **parameters: Any) -> tuple[Any, Client]:
        """Execute a notebook from top to bottom; a cell that fails is an error."""
        notebook = nbformat.read(self._home / f"{name}.ipynb", as_version=4)
        if parameters:
            (at,) = [
                number
                for number, cell in enumerate(notebook.cells)
                if "parameters" in cell.metadata.get("tags", [])
            ]
            given = "\n".join(f"{key} = {value!r}" for key, value in parameters.items())
            notebook.cells.insert(at + 1, nbformat.v4.new_code_cell(given))
        client = Client(notebook, timeout=240, resources={"metadata": {"path": str(self._home)}})
        client.execute()
        return notebook, client


@pytest.fixture(scope="module")
def notebooks(
    tmp_path_factory: pytest.TempPathFactory, sentiment: Sentiment, driver_jvm: DriverJvm
) -> Iterator[Notebooks]:
    home = tmp_path_factory.mktemp("notebooks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(home / "jupyter"))
        yield Notebooks(home, sentiment, driver_jvm)


@pytest.fixture(scope="module")
def talk(notebooks: Notebooks, reviews: Path) -> tuple[Any, Client]:
    """The first one, which the others need, on 1,200 reviews."""
    return notebooks.run(
        "1-the-talk",
        REVIEWS=f"{reviews} --master local[2]",  # on the cluster: the README's story
        VECTORS="--dimensions 50 --min-count 3 --workers 1",
        TRAINING="--recipe quick --rounds-per-epoch 4 --learning-rate 0.01 --workers 2 --no-plan",
    )


def text_of(notebook: Any) -> str:
    """All that was printed, and tables as text."""
    told = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            told.append(output.get("text", "") + data.get("text/plain", ""))
    return "\n".join(told)


def pictures(notebook: Any) -> list[tuple[int, dict]]:
    """The plots, each with its cell's number, as a front end without widgets shows them."""
    return [
        (number, output.data[PLOT])
        for number, cell in enumerate(notebook.cells)
        for output in cell.get("outputs", [])
        if PLOT in output.get("data", {})
    ]


def points(trace: dict) -> list[Any]:
    """A trace's x: plotly packs arrays of numbers, lists stay as they are."""
    x = trace["x"]
    assert isinstance(x, list)
    return x


def cell_with(notebook: Any, words: str) -> int:
    (found,) = [n for n, cell in enumerate(notebook.cells) if words in cell.source]
    return found


def test_the_talk_trains_while_its_chart_moves_and_tells_reviews_apart(talk):
    notebook, client = talk
    following = cell_with(notebook, ".follow(alive")
    moved = [points for cell, points in client.moved if cell == following]
    assert len(set(accumulate(moved, max))) >= 3, "the chart moved while the cell ran"
    assert max(moved) == 12
    ((_, picture),) = [one for one in pictures(notebook) if one[0] == following]
    training = next(trace for trace in picture["data"] if trace["name"] == "training")
    assert points(training) == list(range(1, 13))
    losses = training["y"]
    assert losses[-1] < losses[0]
    told = re.search(r"([\d.]+)% of (\d+) reviews are told right", text_of(notebook))
    assert int(told[2]) == pytest.approx(240, abs=5)
    assert float(told[1]) > 65
    assert "A wonderful little film" in text_of(notebook)


def test_each_film_of_a_live_stream_has_a_line_that_moves(notebooks: Notebooks, talk):
    notebook, client = notebooks.run("2-live-stream", FILMS=FILMS, REVIEWS_A_SECOND=16)
    live = cell_with(notebook, "add_and_apply(")
    moved = [points for cell, points in client.moved if cell == live]
    assert len(set(moved)) >= 2
    ((_, picture),) = [one for one in pictures(notebook) if one[0] == live]
    assert {trace["name"] for trace in picture["data"]} == set(FILMS)
    for trace in picture["data"]:
        assert points(trace) == sorted(points(trace))
        assert all(0 <= share <= 1 for share in trace["y"])
    assert "ended; the same command goes on" in text_of(notebook)
    scored = re.search(r"scored +(\d+)", text_of(notebook))
    assert int(scored[1]) == sum(max(points(trace)) for trace in picture["data"])
    assert sum(n > live for n, _ in pictures(notebook)) == 2


def test_word_vectors_have_neighbours_coverage_and_a_map(notebooks: Notebooks, talk):
    notebook, _ = notebooks.run("3-word-vectors", ON_THE_MAP=60)
    text = text_of(notebook)
    assert "running words" in text
    ((_, picture),) = pictures(notebook)
    (words,) = picture["data"]
    assert len(words["text"]) == 60
    same, chance = map(int, re.search(r"colour: (\d+)% \(by chance (\d+)%", text).groups())
    assert same > chance


def test_errors_are_counted_and_what_the_source_lacks_is_said(notebooks: Notebooks, talk):
    notebook, _ = notebooks.run("4-errors")
    text = text_of(notebook)
    wrong, rows = map(int, re.search(r"told wrong: (\d+) of (\d+)", text).groups())
    assert rows == pytest.approx(240, abs=5)
    assert wrong < 0.35 * rows
    bars = [picture for _, picture in pictures(notebook)]
    assert len(bars) == 3
    for bar in bars:
        counted = [int(name.split("n = ")[1].replace(",", "")) for name in points(bar["data"][0])]
        assert sum(counted) == rows
    assert "no stars and no film" in text


def test_a_later_notebook_says_which_one_comes_first(tmp_path, monkeypatch):
    from sentiment.errors import InvalidInputError
    from sentiment.notebook import working_folder

    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "new"))
    with pytest.raises(InvalidInputError, match="no corpus and no model here yet") as error:
        working_folder("corpus", "model")
    assert "1-the-talk.ipynb" in error.value.todo
    assert working_folder() == tmp_path / "new"
    (tmp_path / "new" / "model").mkdir()
    assert working_folder("model") == tmp_path / "new"


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_in_the_repository_is_a_document_without_results(name):
    """So it holds no text of a review, and is the same wherever it was run."""
    notebook = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text())
    nbformat.validate(notebook)
    kernel = {"name": NAME, "display_name": TITLE, "language": "python"}
    assert notebook["metadata"] == {"kernelspec": kernel, "language_info": {"name": "python"}}
    first = notebook["cells"][0]
    assert first["cell_type"] == "markdown"
    assert first["source"][0].startswith("# ")
    for cell in notebook["cells"]:
        assert "attachments" not in cell
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


def test_all_notebooks_are_tested():
    assert sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")) == list(NAMES)
