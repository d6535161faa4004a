"""Wrong use and bad input of train, evaluate and score: one message, the right exit code."""

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.conftest import Sentiment


def message(sentiment: Sentiment, *words, code: int) -> str:
    done = sentiment(*words, code=code)
    assert done.stdout == ""
    assert "error:" in done.stderr.lower()
    return done.stderr


@pytest.mark.parametrize(
    "words",
    [(), ("train",), ("evaluate",), ("score",), ("vectors", "build"), ("ingest",), ("board",)],
)
def test_help_has_examples(sentiment: Sentiment, words):
    shown = sentiment(*words, "--help").stdout
    assert "sentiment" in shown
    assert "Examples:" in shown or not words


def test_a_wrong_option_is_a_usage_error(sentiment: Sentiment):
    sentiment("train", "--no-such", code=2)
    sentiment("score", "--model", "m", code=2)
    sentiment("score", "--model", "m", "--text", "x", "source", code=2)
    sentiment("score", "--model", "m", "-", "out.csv", code=2)
    assert "best" in message(
        sentiment, "train", "c", "m", "--vectors", "t", "--recipe", "bst", code=2
    )


def test_train_says_what_is_missing(sentiment: Sentiment, corpus: Path, table: Path):
    assert "none" in message(sentiment, "train", "none", "m", "--vectors", table, code=3)
    assert "none" in message(sentiment, "train", corpus, "m", "--vectors", "none", code=3)
    assert "epochs" in message(
        sentiment, "train", corpus, "m", "--vectors", table, "--epochs", "0", code=2
    )


def test_train_does_not_overwrite(sentiment: Sentiment, corpus: Path, table: Path, tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("42")
    shown = message(sentiment, "train", corpus, tmp_path / "mine", "--vectors", table, code=1)
    assert "exists already" in shown
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "42"


def test_force_replaces_models_only(
    sentiment: Sentiment, corpus: Path, table: Path, tmp_path: Path
):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("42")
    words = ("train", corpus, tmp_path / "mine", "--vectors", table, "--force")
    assert "no model" in message(sentiment, *words, code=3)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "42"


def test_too_few_reviews_for_the_workers_are_refused_with_the_numbers(
    sentiment: Sentiment, corpus: Path, table: Path, tmp_path: Path
):
    words = (
        "train",
        corpus,
        tmp_path / "m",
        "--vectors",
        table,
        "--workers",
        "700",
        "--master",
        "local[1]",
    )
    shown = message(sentiment, *words, code=3)
    assert "of label 0" in shown
    assert "700" in shown


def test_reviews_without_labels_are_for_scoring(sentiment: Sentiment, table: Path, tmp_path: Path):
    (tmp_path / "plain.txt").write_text("good film\nbad film\nno film\n")
    there = ("--master", "local[1]")
    done = sentiment("ingest", tmp_path / "plain.txt", tmp_path / "plain", *there)
    assert "next: sentiment score --model MODEL" in done.stderr
    words = ("train", tmp_path / "plain", tmp_path / "m", "--vectors", table, *there)
    assert "its reviews have no labels" in message(sentiment, *words, code=3)
    assert not (tmp_path / "m.events.jsonl").exists()


def test_a_file_is_no_corpus(sentiment: Sentiment, reviews: Path, table: Path):
    assert "is no corpus" in message(sentiment, "train", reviews, "m", "--vectors", table, code=3)


def test_fewer_steps_than_rounds_make_fewer_rounds(
    sentiment: Sentiment, corpus: Path, table: Path, tmp_path: Path
):
    words = ("train", corpus, tmp_path / "m", "--vectors", table, "--epochs", "1")
    sentiment(*words, "--batch-size", "800", "--rounds-per-epoch", "4", "--master", "local[1]")
    recipe = json.loads((tmp_path / "m" / "model.json").read_text())["recipe"]
    assert recipe["train"]["rounds_per_epoch"] == 2  # 910 reviews, one shard
    assert recipe["extra"]["rounds_per_epoch"] == "2"


def test_a_loss_that_is_no_number_ends_the_run_with_the_rows(
    sentiment: Sentiment, corpus: Path, table: Path, tmp_path: Path
):
    words = ("train", corpus, tmp_path / "m", "--vectors", table, "--learning-rate", "1e38")
    there = ("--workers", "2", "--master", "local[1]")
    shown = message(sentiment, *words, *there, "--no-plan", code=1)
    assert "1 of 2 workers run at a time: they take turns" in shown
    assert "no number any more in epoch 1, part 1, step" in shown
    assert re.search(r"rows of that step have the positions \d+, \d+", shown)
    assert "the last good state: none" in shown
    assert "smaller --learning-rate" in shown
    assert not (tmp_path / "m").exists()
    assert not (tmp_path / "m.checkpoints").exists()


def test_a_cluster_that_does_not_answer_is_named(
    sentiment: Sentiment, corpus: Path, table: Path, tmp_path: Path
):
    words = ("train", corpus, tmp_path / "m", "--vectors", table, "--master")
    assert "spark://127.0.0.1:9" in message(sentiment, *words, "spark://127.0.0.1:9", code=4)
    assert "no cluster 'nowhere'" in message(sentiment, *words, "nowhere", code=4)


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors", "words.txt"])
@pytest.mark.parametrize("how", ["missing", "altered"])
def test_a_damaged_model_is_refused(sentiment: Sentiment, trained: Path, tmp_path: Path, name, how):
    model = tmp_path / "model"
    shutil.copytree(trained, model)
    if how == "missing":
        (model / name).unlink()
    else:
        data = bytearray((model / name).read_bytes())
        data[len(data) // 2] ^= 0xFF
        (model / name).write_bytes(data)
    shown = message(sentiment, "score", "--model", model, "--text", "good", code=3)
    assert name in shown
    assert str(model) in shown


def test_evaluate_needs_labels(sentiment: Sentiment, trained: Path, tmp_path: Path):
    path = tmp_path / "texts.csv"
    path.write_text("text\ngood\nbad\n")
    assert "no labels" in message(
        sentiment, "evaluate", "--model", trained, "--reviews", path, code=3
    )


def test_nothing_that_can_be_scored_is_an_error(
    sentiment: Sentiment, trained: Path, tmp_path: Path
):
    path = tmp_path / "texts.csv"
    path.write_text("text,label\n...,1\n!!!,0\n")
    words = ("evaluate", "--model", trained, "--reviews", path, "--master", "local[1]")
    assert "no word in it" in message(sentiment, *words, code=3)


def test_score_says_which_texts_it_cannot_score(sentiment: Sentiment, trained: Path):
    done = sentiment("score", "--model", trained, "--text", "good", "--text", "\U0001f600", code=7)
    assert "no word in it" in done.stdout
    assert "1 of 2 texts scored" in done.stderr
    sentiment("score", "--model", trained, "--text", "", code=3)


def test_score_wants_a_suffix_it_knows_and_does_not_overwrite(
    sentiment: Sentiment, trained: Path, reviews: Path, tmp_path: Path
):
    words = ("score", "--model", trained, reviews)
    assert ".parquet" in message(sentiment, *words, tmp_path / "out.xls", code=2)
    (tmp_path / "out.csv").write_text("mine")
    assert "exists already" in message(sentiment, *words, tmp_path / "out.csv", code=1)
    assert (tmp_path / "out.csv").read_text() == "mine"
    (tmp_path / "new.csv.quarantine.jsonl").write_text("mine")
    assert "exists already" in message(sentiment, *words, tmp_path / "new.csv", code=1)
    (tmp_path / "folder.csv").mkdir()
    assert "exists" in message(sentiment, *words, tmp_path / "folder.csv", "--force", code=1)


def test_score_does_not_write_over_what_it_reads(
    sentiment: Sentiment, trained: Path, tmp_path: Path
):
    (tmp_path / "in").mkdir()
    mine = tmp_path / "in/mine.csv"
    mine.write_text("text\na good film\n")
    words = ("score", "--model", trained, "--force")
    assert "files that are scored" in message(sentiment, *words, mine, mine, code=3)
    inside = message(sentiment, *words, tmp_path / "in", tmp_path / "in/out.csv", code=3)
    assert "lies in SOURCE" in inside
    assert mine.read_text() == "text\na good film\n"


def test_json_errors_are_json(sentiment: Sentiment):
    done = sentiment("evaluate", "--model", "none", "--reviews", "none", "--json", code=3)
    error = json.loads(done.stdout)
    assert error["code"] == 3
    assert error["todo"]


def test_debug_shows_the_traceback(sentiment: Sentiment):
    process = sentiment.popen("--debug", "score", "--model", "none", "--text", "x")
    _, err = process.communicate(timeout=100)
    assert "Traceback" in err
    assert process.returncode != 0
