"""The whole job through the command line, on real reviews and a real cluster."""

import csv
import json
import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from sentiment.events import read_events
from tests.conftest import Sentiment

from .conftest import TRAINING

pytestmark = pytest.mark.usefixtures("sentiment")


def test_training_learns_and_says_what_it_did(trained: Path, corpus: Path):
    events = read_events(trained.with_name("model.events.jsonl"))
    kinds = [event["event"] for event in events]
    assert kinds == ["planning", "plan", "start", *(["round"] * 4 + ["epoch"]) * 3, "end"]
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


def test_evaluate_prints_one_json_object(sentiment: Sentiment, trained: Path, corpus: Path):
    result = sentiment.json("evaluate", "--model", trained, "--reviews", corpus)
    assert {"accuracy", "f1", "rows", "quarantined"} <= result.keys()
    rows = json.loads((corpus / "manifest.json").read_text())["splits"]["test"]["rows"]
    assert (result["rows"], result["quarantined"]) == (rows, 0)
    assert result["accuracy"] > 0.65
    assert sum(result["confusion"].values()) == rows


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
    sentiment: Sentiment, trained: Path, reviews: Path, tmp_path: Path
):
    """Contract 1 across the ways in: this process, standard input, two workers, the files."""
    with reviews.open(newline="") as file:
        texts = [row["review"] for row in csv.DictReader(file, delimiter="\t")][::40]
    texts = [" ".join(text.split()) for text in texts]
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    scores = {}
    out = tmp_path / "out.jsonl"
    told = sentiment.json("score", "--model", trained, path, out)
    assert (told["rows"], told["quarantined"]) == (len(texts), 0)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    scores["cluster"] = [row["probability"] for row in rows]
    given = "".join(f"{text}\n" for text in texts)
    lines = sentiment("score", "--model", trained, "-", "--json", given=given).stdout.splitlines()
    scores["stdin"] = [json.loads(line)["probability"] for line in lines]
    alone = sentiment.json("score", "--model", trained, "--text", texts[0])
    assert alone["probability"] == pytest.approx(scores["stdin"][0], abs=1e-6)
    for way, found in scores.items():
        assert found == pytest.approx(scores["stdin"], abs=1e-6), way
    assert max(scores["stdin"]) - min(scores["stdin"]) > 0.3


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


def test_an_executor_killed_in_mid_training_changes_nothing_it_learns(
    sentiment: Sentiment, trained: Path, corpus: Path, table: Path
):
    """kill -9 of one executor: the same weights, bit for bit (contract 5, CHECKS F1)."""
    model = sentiment.home / "disturbed"
    run = sentiment.popen("train", corpus, model, "--vectors", table, *TRAINING)
    events = model.with_name("disturbed.events.jsonl")
    victim = None
    while run.poll() is None:
        rounds = _rounds(events)
        if victim is None and rounds >= 3:
            victim = _executors(sentiment)[0]
            os.kill(victim, signal.SIGKILL)
            assert rounds <= 9, "too late to be in mid-training"
        time.sleep(0.02)
    out, err = run.communicate()
    assert run.returncode == 0, out + err
    assert victim is not None, "no executor was killed"
    same = (model / "weights.safetensors").read_bytes()
    assert same == (trained / "weights.safetensors").read_bytes()
    assert _rounds(events) == 12


def _rounds(events: Path) -> int:
    if not events.exists():
        return 0
    return sum(event["event"] == "round" for event in read_events(events))


def _executors(sentiment: Sentiment) -> list[int]:
    """The executors' JVMs of this cluster."""
    work = str(sentiment.home / "state")
    found = []
    for process in psutil.process_iter():
        try:
            line = process.cmdline()
            ours = process.cwd().startswith(work)
        except psutil.Error:
            continue
        if ours and any("CoarseGrainedExecutorBackend" in word for word in line):
            found.append(process.pid)
    assert len(found) == 2, found
    return found


def test_the_place_does_not_change_what_is_learned(
    sentiment: Sentiment, trained: Path, corpus: Path, table: Path
):
    """One core in one process gives what two workers give, bit for bit."""
    model = sentiment.home / "local"
    words = ("train", corpus, model, "--vectors", table, *TRAINING, "--master", "local[1]")
    result = sentiment.json(*words)
    assert result["digest"] == json.loads((trained / "model.json").read_text())["digest"]


def test_an_interrupted_training_leaves_no_half_model(
    sentiment: Sentiment, corpus: Path, table: Path
):
    model = sentiment.home / "interrupted"
    run = sentiment.popen("train", corpus, model, "--vectors", table, *TRAINING)
    events = model.with_name("interrupted.events.jsonl")
    while run.poll() is None and _rounds(events) < 1:
        time.sleep(0.05)
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=120)
    assert run.returncode == 130, err
    assert "interrupted" in err
    assert "Traceback" not in err
    assert not model.exists()
    assert not [p for p in model.parent.iterdir() if p.name.startswith(".interrupted")]
