"""The whole job through the command line, on real reviews and a real cluster."""

import json
from pathlib import Path

import pytest

from sentiment.events import read_events
from tests.conftest import Sentiment

from .conftest import TRAINING, Scored

pytestmark = pytest.mark.usefixtures("sentiment")


def test_training_learns_and_says_what_it_did(trained: Path, corpus: Path):
    events = read_events(trained.with_name("model.events.jsonl"))
    kinds = [event["event"] for event in events]
    assert kinds == ["planning", "plan", "start", *(["round", "layers"] * 4 + ["epoch"]) * 3, "end"]
    _, plan, start, *_, end = events
    rows = json.loads((corpus / "manifest.json").read_text())["splits"]["train"]["rows"]
    assert start["rows"] + start["validation_rows"] == rows
    assert start["validation_rows"] == pytest.approx(rows / 20, abs=1)
    assert end["validation_accuracy"] > 0.65
    assert plan["measured"]["workers"] == 2
    assert plan["chosen"] in plan["rows"]
    assert {row["strategy"] for row in plan["rows"]} == {"averaging", "allreduce"}
    assert end["predicted_speed_up"] == round(plan["chosen"]["speed_up"], 3)
    for event in events[1:-1]:
        if event["event"] == "round":
            assert len(event["shards"]) == 2
            assert all(shard["rows"] for shard in event["shards"])
    assert sum(e["train_rows"] for e in events if e["event"] == "round") == 3 * start["rows"]
    description = json.loads((trained / "model.json").read_text())
    assert description["digest"] == end["digest"]
    assert description["recipe"]["extra"]["learning_rate"] == "0.01"


def test_evaluate_prints_one_json_object(evaluated: dict, corpus: Path):
    assert {"accuracy", "f1", "rows", "quarantined"} <= evaluated.keys()
    rows = json.loads((corpus / "manifest.json").read_text())["splits"]["test"]["rows"]
    assert (evaluated["rows"], evaluated["quarantined"]) == (rows, 0)
    assert evaluated["accuracy"] > 0.65
    assert sum(evaluated["confusion"].values()) == rows


def test_evaluate_takes_any_labelled_source_and_drops_nothing_in_silence(
    sentiment: Sentiment, trained: Path, tmp_path: Path
):
    rows = [
        ("wonderful and funny", "pos"),
        ("dull and stupid", "neg"),
        ("...", "neg"),
        ("qwxzy vbnmq", "pos"),
        ("good", "perhaps"),
        ("good\0bad", "pos"),
    ]
    path = tmp_path / "some.tsv"
    path.write_text("text\tlabel\n" + "".join(f"{t}\t{y}\n" for t, y in rows))
    words = ("evaluate", "--model", trained, "--reviews", path, "--master", "local[1]")
    result = sentiment.json(*words)
    assert (result["rows"], result["quarantined"]) == (2, 4)
    assert sum(result["quarantine_reasons"].values()) == 4
    assert "no word that the model knows" in result["quarantine_reasons"]


def test_a_score_is_the_same_by_text_by_line_and_by_source(
    sentiment: Sentiment, trained: Path, scored: Scored
):
    """Contract 1 across the ways in: this process, standard input, two workers, the files."""
    assert (scored.told["rows"], scored.told["quarantined"]) == (len(scored.texts), 2)
    there = [json.loads(line)["probability"] for line in scored.table.splitlines()]
    given = "".join(f"{text}\n" for text in scored.texts)
    lines = sentiment("score", "--model", trained, "-", "--json", given=given).stdout.splitlines()
    here = [json.loads(line)["probability"] for line in lines]
    assert there == pytest.approx(here, abs=1e-6)
    alone = sentiment.json("score", "--model", trained, "--text", scored.texts[0])
    assert alone["probability"] == pytest.approx(here[0], abs=1e-6)
    assert max(here) - min(here) > 0.3


def test_scoring_quarantines_with_reason_and_place(
    sentiment: Sentiment, trained: Path, tmp_path: Path
):
    path = tmp_path / "mixed.txt"
    path.write_bytes("good film\n\n!!!\nna\u00efve\ncaf\xe9\n".encode("latin-1") + b"bad film")
    out = tmp_path / "out.jsonl"
    told = sentiment.json("score", "--model", trained, path, out, "--master", "local[1]")
    assert told["rows"] + told["quarantined"] == 6
    quarantine = [json.loads(line) for line in Path(told["quarantine"]).read_text().splitlines()]
    assert len(quarantine) == told["quarantined"] >= 3
    assert all(row["reason"] and row["line"] for row in quarantine)
    assert len(out.read_text().splitlines()) == told["rows"]


def test_neither_the_place_nor_listeners_change_what_is_learned(
    sentiment: Sentiment, trained: Path, corpus: Path, table: Path
):
    """One core in one process, without listeners, gives what two workers give, bit for bit."""
    model = sentiment.home / "local"
    words = ("train", corpus, model, "--vectors", table, *TRAINING, "--master", "local[1]")
    result = sentiment.json(*words, "--no-listeners")
    kinds = {event["event"] for event in read_events(Path(result["events"]))}
    assert kinds == {"start", "round", "epoch", "end"} | ({"warning"} & kinds)
    assert result["digest"] == json.loads((trained / "model.json").read_text())["digest"]
