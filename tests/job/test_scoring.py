"""A source on the cluster: spread over the cores, portion after portion, gone on with."""

import random
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from sentiment import notebook
from sentiment.errors import InvalidInputError
from sentiment.model import Model, model_from_files, read_model_files, save_model
from sentiment.recipes import RECIPES
from sentiment.score import NO_KNOWN_WORD, NO_LABEL, NO_WORD, ModelCache, score_batch, score_texts
from sentiment.score_parts import run_of, score_parts
from sentiment.scoring import Scoring, portions, score_source
from sentiment.sources import Source, SourceOptions, cut_files, find_source
from sentiment.stream_rows import reviews_of
from sentiment.text import text_id
from sentiment.vocabulary import Vocabulary

from .conftest import WORDS as KNOWN
from .conftest import small_network


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    path = tmp_path_factory.mktemp("model") / "model"
    network = small_network(RECIPES["quick"](), scale=1.5)
    save_model(path, network=network, vocabulary=Vocabulary(KNOWN), max_tokens=60, about={})
    return read_model_files(path)


def review(chance: random.Random) -> str:
    return " ".join(chance.choices(KNOWN[:-6], k=chance.randint(3, 90)))


def write(folder: Path, *, files: int, reviews: int, cut: int = 1) -> Source:
    """A folder of text files; one review of ten cannot be scored.

    Each file is a task of the plan, or about as many as it is `cut` into.
    """
    chance = random.Random(7)
    folder.mkdir()
    for number in range(files):
        lines = [review(chance) if n % 10 else "qwx zzz" for n in range(reviews)]
        (folder / f"{number}.txt").write_text("\n".join(lines) + "\n")
    largest = max(path.stat().st_size for path in folder.iterdir())
    source = find_source(str(folder), SourceOptions())
    return cut_files(source, task_bytes=2 * largest // cut if cut > 1 else largest)


@pytest.mark.parametrize(("number", "cut"), [(4, 1), (1, 6)], ids=["files", "one large file"])
def test_an_interrupted_run_goes_on_and_gives_what_an_undisturbed_one_does(
    spark: SparkSession, files: dict[str, bytes], tmp_path: Path, number: int, cut: int
):
    source = write(tmp_path / "reviews", files=number, reviews=120 // number, cut=cut)
    assert len(source.tasks) >= 4
    scoring = Scoring(spark, files)
    run = run_of(source, model_digest=scoring.digest)
    heard: list[int] = []

    def twice(rows: int, _: int) -> None:
        heard.append(rows)
        if len(heard) == 2:
            raise KeyboardInterrupt

    def score(out: Path, said) -> None:
        with score_parts(out, run, replace=False) as parts:
            score_source(scoring, source, parts, said=said, portion_bytes=1)
            parts.finish(model_digest=scoring.digest)

    disturbed, undisturbed = tmp_path / "disturbed.jsonl", tmp_path / "undisturbed.jsonl"
    with pytest.raises(KeyboardInterrupt):
        score(disturbed, twice)
    assert len(heard) == 2
    score(disturbed, twice)
    assert (len(heard), sum(heard)) == (len(source.tasks), 120), "the rest, and nothing else"
    score(undisturbed, lambda *_: None)
    for name in ("{}", "{}.quarantine.jsonl"):
        one, two = (
            path.with_name(name.format(path.name)).read_bytes() for path in (disturbed, undisturbed)
        )
        assert one == two
        assert one.count(b"\n") == (12 if "quarantine" in name else 108)


def test_one_large_file_is_spread_over_the_cores_and_stays_in_order(
    spark: SparkSession, files: dict[str, bytes], tmp_path: Path
):
    source = write(tmp_path / "reviews", files=1, reviews=3000)
    assert len(source.tasks) == 1
    scoring = Scoring(spark, files)
    with score_parts(tmp_path / "out.jsonl", {}, replace=False) as parts:
        score_source(scoring, source, parts, said=lambda *_: None)
        (table,) = parts.tables()
    jobs = spark.sparkContext.statusTracker().getJobIdsForGroup(None)
    stages = spark.sparkContext.statusTracker().getJobInfo(max(jobs)).stageIds
    tasks = [spark.sparkContext.statusTracker().getStageInfo(one).numTasks for one in stages]
    assert max(tasks) >= 3, "not by one core"
    assert table["line"].to_pylist() == list(range(1, 3001))
    lines = (tmp_path / "reviews/0.txt").read_text().splitlines()
    here = score_texts(model_from_files(files, where="here"), lines)
    there = np.array(table["probability"].to_pylist(), dtype=float)
    assert np.nanmax(np.abs(there - here.probability)) < 1e-6
    assert np.isnan(there).sum() == np.isnan(here.probability).sum() == 300


def test_portions_are_whole_tasks_of_about_a_size(tmp_path: Path):
    source = write(tmp_path / "reviews", files=7, reviews=10)
    size = source.tasks[0].size * 2.5
    found = list(portions(source, first=0, size=size))
    assert [first for first, _ in found] == [0, *(last for _, last in found[:-1])]
    assert found[-1][1] == 7
    assert all(last - first in (1, 2, 3) for first, last in found)
    assert list(portions(source, first=6, size=size)) == [(6, 7)]
    assert list(portions(source, first=7, size=size)) == []


def test_a_batch_goes_through_with_its_other_columns(model: Model):
    batch = pa.RecordBatch.from_pydict(
        {
            "row": [4, 5, 6, 7],
            "text": ["great plot", None, "great plot", "qwx"],
            "label": pa.array([1, None, None, 0], pa.int8()),
            "reason": [None, "not UTF-8", None, None],
        }
    )
    for labelled, expected in ((False, 2), (True, 1)):
        scored = score_batch(model, batch, labelled=labelled)
        assert scored["row"].to_pylist() == [4, 5, 6, 7]
        assert scored["probability"].null_count == 4 - expected
        reasons = scored["reason"].to_pylist()
        assert reasons[:2] == [None, "not UTF-8"]
        assert reasons[2] == (NO_LABEL if labelled else None)
        assert scored["id"][0] == scored["id"][2]
        assert "text" not in scored.schema.names


def test_a_process_makes_a_model_once_and_another_when_the_digest_changes():
    cache, made = ModelCache(keep=2), []

    def get(digest: str) -> str:
        return cache.get(digest, lambda: made.append(digest) or f"model {digest}")

    assert [get(one) for one in "aabab"] == [f"model {one}" for one in "aabab"]
    assert made == ["a", "b"]
    get("c")
    get("b")
    assert made == ["a", "b", "c"], "the last two are kept"
    get("a")
    assert made == ["a", "b", "c", "a"]


def test_rows_of_another_source_follow_the_rules_of_files(spark: SparkSession):
    """Bytes, columns with other names and types: `reason` and the columns as readers give them."""
    moment = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
    given = [
        (b" good plot ", 4.0, moment, "a"),
        (None, 5.0, moment, "a"),
        (b" \n", 1.0, moment, "a"),
        (b"caf\xe9", 1.0, moment, "a"),
        (b"a\0b", 1.0, moment, "a"),
        (b"bad film", 1.0, None, "a"),
        (b"dull film", 1.0, moment, "b"),
    ]
    frame = spark.createDataFrame(given, "value binary, stars double, at timestamp, topic string")
    options = SourceOptions(
        time_column="at", only=(("topic", "a"),), stars_of=5, need_labels=False, max_chars=20
    )
    found = reviews_of(frame.coalesce(1), options, place="kafka").toArrow().sort_by("row")
    assert found["text"].to_pylist() == ["good plot", None, None, None, None, None]
    assert found["stars"][0].as_py() == 8
    assert found["time"][0].as_py() == moment.timestamp()
    assert found["reason"].to_pylist() == [
        None,
        "no text: column 'value' holds none",
        "blank",
        "not UTF-8: byte 0xe9 at offset 3 (--encoding latin-1?)",
        "NUL byte",
        "no time: ''",
    ]
    assert set(found["file"].to_pylist()) == {"kafka"}
    assert found["line"].null_count == 6
    with pytest.raises(InvalidInputError, match="in none of the columns text and value"):
        reviews_of(frame.select("stars", "topic"), SourceOptions(), place="kafka")
    with pytest.raises(InvalidInputError, match="column 'stars' is no text but double"):
        reviews_of(frame, SourceOptions(text_column="stars"), place="kafka")


def test_a_notebook_gets_what_the_command_line_gives(
    spark: SparkSession, files: dict[str, bytes], tmp_path: Path
):
    chance = random.Random(11)
    texts = [review(chance) for _ in range(60)]
    path = tmp_path / "model"
    path.mkdir()
    for name, content in files.items():
        (path / name).write_bytes(content)
    expected = score_texts(model_from_files(files, where="here"), texts)
    here = notebook.score([*texts, None, "!!", "qwx", f" {texts[0]}\n"], path)
    assert here["probability"][:60].to_numpy() == pytest.approx(expected.probability, abs=1e-6)
    assert list(here["reason"][60:63]) == [
        "no text",
        NO_WORD,
        NO_KNOWN_WORD,
    ]
    assert here["id"][63] == here["id"][0] == text_id(texts[0])
    assert set(here["verdict"][:60]) == {"praise", "pan"}
    series = pd.Series([texts[0], None, float("nan")])
    assert list(notebook.score(series, path)["reason"].isna()) == [True, False, False]
    mine = pd.DataFrame({"review": texts[:2], "n": [1, 2]}, index=[7, 9])
    found = notebook.score(mine, path, column="review")
    assert list(found.index) == [7, 9]
    assert list(found.columns[:3]) == ["review", "n", "id"]
    assert found["probability"].to_numpy() == pytest.approx(expected.probability[:2], abs=1e-6)
    with pytest.raises(InvalidInputError, match="one text, not a list"):
        notebook.score(texts[0], path)
    with pytest.raises(InvalidInputError, match="not all text"):
        notebook.score([texts[0], 5], path)
    with pytest.raises(InvalidInputError, match="no column 'text'; there are review, n"):
        notebook.score(mine, path)
    frame = spark.createDataFrame(list(enumerate(texts)), "number int, review string")
    there = notebook.score(frame, path, column="review").orderBy("number").toPandas()
    assert list(there["review"]) == texts
    assert there["probability"].to_numpy() == pytest.approx(expected.probability, abs=1e-6)
    with pytest.raises(InvalidInputError, match="there is no column 'text'; there are number"):
        notebook.score(frame, path)
    with pytest.raises(InvalidInputError, match="has a column 'id' already"):
        notebook.score(frame.withColumnRenamed("number", "id"), path, column="review")
    with pytest.raises(InvalidInputError, match="there is no model here"):
        notebook.score(texts, tmp_path / "none")
