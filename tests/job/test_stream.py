"""`sentiment stream` through its command line: what arrives, what goes wrong, and going on."""

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from sentiment.events import read_events
from sentiment.model import load_model, save_model
from sentiment.recipes import RECIPES
from sentiment.score import score_texts
from sentiment.stream_sink import DUPLICATE
from sentiment.text import text_id
from sentiment.vocabulary import Vocabulary
from tests.conftest import Sentiment, small_disk
from tests.job.driver_jvm import DriverJvm

from .conftest import WORDS, small_network

NOW = ("--interval", "0.2", "--settle", "0")
TWO_CORES, ONE_CORE = ("--master", "local[2]"), ("--master", "local[1]")
"""Each core has a Python process, which loads torch."""


class Streams:
    """The command line in a folder of its own, with an inbox and a model."""

    def __init__(self, home: Path, driver_jvm: DriverJvm) -> None:
        self.command = Sentiment(home)
        self.own_jvm = dict(self.command.env)
        self.command.env |= driver_jvm.variables
        self.inbox, self.out = home / "inbox", home / "scores"
        self.inbox.mkdir()
        self.model(seed=1)

    def model(self, *, seed: int, name: str = "model") -> str:
        network = small_network(RECIPES["quick"](), seed=seed)
        return save_model(
            self.command.home / name,
            network=network,
            vocabulary=Vocabulary(WORDS),
            max_tokens=60,
            about={},
            replace=True,
        )

    def arrive(self, name: str, *texts: str) -> None:
        """A file that is moved in, as it should be; it was written long ago."""
        aside = self.inbox / f".{name}"
        aside.write_text("".join(f"{text}\n" for text in texts))
        os.utime(aside, (time.time() - 1000,) * 2)
        aside.rename(self.inbox / name)

    def start(
        self, *words: str, cores: Sequence[str] = ONE_CORE, **options: Any
    ) -> "subprocess.Popen[str]":
        place = (self.inbox, self.out) if "--format" not in words else (self.out,)
        given = ("--model", self.command.home / "model", *NOW, *cores, *words)
        log = (self.command.home / "stderr.txt").open("a")
        return self.command.popen("stream", *place, *given, stderr=log, **options)

    def once(self, *words: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
        given = ("--model", self.command.home / "model", *NOW, *ONE_CORE, "--once", *words)
        return self.command("stream", self.inbox, self.out, *given, code=code)

    def events(self, kind: str = "batch") -> list[dict]:
        path = self.out / "events.jsonl"
        return [e for e in read_events(path) if e["event"] == kind] if path.exists() else []

    def rows(self) -> list[dict]:
        paths = sorted(self.out.glob("scores/*.parquet"))
        return [row for path in paths for row in pq.read_table(path).to_pylist()]

    def refused(self) -> list[dict]:
        paths = sorted(self.out.glob("quarantine/*.jsonl"))
        return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


@pytest.fixture
def streams(tmp_path: Path, driver_jvm: DriverJvm) -> Streams:
    return Streams(tmp_path, driver_jvm)


def wait(run: "subprocess.Popen[str]", true: Callable[[], object], *, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert run.poll() is None, "the stream has ended"
        assert time.monotonic() < deadline, "in time it did not happen"
        time.sleep(0.05)


def end(run: "subprocess.Popen[str]") -> None:
    run.send_signal(signal.SIGINT)
    assert run.wait(timeout=60) == 0


def reviews(first: int, last: int) -> list[str]:
    """Different texts of words that the model knows."""
    return [
        " ".join(WORDS[(number // len(WORDS) ** place) % 25] for place in range(4)) + f" {number}"
        for number in range(first, last)
    ]


def test_what_arrives_is_scored_once_whatever_happens_to_it(streams: Streams):
    """CHECKS F15, F16: the same under another name, appended to, broken; another model."""
    first_model = load_model(streams.command.home / "model")
    run = streams.start(cores=TWO_CORES)
    # Spark's first batch is of an empty folder.
    commits = streams.out.with_name("scores.checkpoint") / "spark/commits"
    wait(run, (commits / "0").exists)
    streams.arrive("a.txt", *reviews(0, 50))
    wait(run, lambda: len(streams.rows()) == 50)
    away = streams.inbox.rename(streams.inbox.with_name("away"))
    wait(run, lambda: len(streams.events("warning")) == 1)
    away.rename(streams.inbox)
    wait(run, lambda: len(streams.events("warning")) == 2)
    streams.arrive("same.txt", *reviews(0, 50))
    wait(run, lambda: sum(e["duplicates"] for e in streams.events()) == 50)
    with (streams.inbox / "a.txt").open("a") as file:
        file.write("".join(f"{text}\n" for text in reviews(50, 60)))
    wait(run, lambda: len(streams.rows()) == 60)
    broken = b"\x1f\x8b\x08\x00 no gzip"
    (streams.inbox / ".broken.txt.gz").write_bytes(broken)
    (streams.inbox / ".latin.txt").write_bytes("a gr\xe9at film\n!!!\n\n".encode("latin-1"))
    for name in ("broken.txt.gz", "latin.txt"):
        (streams.inbox / f".{name}").rename(streams.inbox / name)
    wait(run, lambda: sum(e["quarantined"] for e in streams.events()) == 4)
    # Another model, half-copied at first.
    second = streams.model(seed=2, name="other")
    target = streams.command.home / "model"
    shutil.copy(streams.command.home / "other/model.json", target)
    streams.arrive("b.txt", *reviews(60, 70))
    wait(run, lambda: len(streams.rows()) == 70)
    shutil.copytree(streams.command.home / "other", target, dirs_exist_ok=True)
    streams.arrive("c.txt", *reviews(70, 80))
    wait(run, lambda: len(streams.rows()) == 80)
    end(run)
    rows = streams.rows()
    assert [row["id"] for row in rows] == [text_id(text) for text in reviews(0, 80)]
    assert {row["model_digest"] for row in rows[:70]} == {first_model.digest}
    assert {row["model_digest"] for row in rows[70:]} == {second}
    for model, part in ((first_model, slice(0, 70)), (load_model(target), slice(70, 80))):
        expected = score_texts(model, reviews(0, 80)[part]).probability
        found = np.array([row["probability"] for row in rows[part]])
        assert np.abs(found - expected).max() < 1e-6
    reasons = Counter(row["reason"].partition(":")[0] for row in streams.refused())
    assert reasons.pop(f"{DUPLICATE} 1") == 100  # under another name, and what was appended to
    assert reasons == {"not UTF-8": 1, "no word in it": 1, "blank": 1, "a broken .gz": 1}
    said = [event["text"] for event in streams.events("warning")]
    assert [text.split()[-1] for text in said[:2]] == ["arrives", "back"]
    assert "cannot be used" in said[2]
    assert "from here on" in said[3]
    assert len(said) == 4
    events = streams.events()
    assert sum(e["rows"] for e in events) == len(rows) + len(streams.refused())
    assert all(0 <= e["latency_p50"] <= e["latency_p99"] < 90 for e in events)
    assert "the same command goes on" in (streams.command.home / "stderr.txt").read_text()


def test_a_killed_driver_and_a_damaged_checkpoint_lose_nothing_and_score_nothing_twice(
    streams: Streams,
):
    texts = reviews(0, 4400)
    small = ("--batch-mib", "0.01")  # a file a batch
    run = streams.start(*small, cores=TWO_CORES, env=streams.own_jvm)
    for number in range(0, 4000, 400):
        streams.arrive(f"{number}.txt", *texts[number : number + 400])
        if number == 800:
            wait(run, lambda: len(streams.rows()) >= 400)
    run.kill()
    run.wait()
    before = len(streams.rows())
    streams.arrive("late.txt", *texts[4000:])
    beside = streams.start(*small, env=streams.own_jvm)
    wait(beside, lambda: len(streams.rows()) > before + 800)
    refused = streams.once(code=5)
    assert "another run" in refused.stderr
    beside.kill()
    beside.wait()
    shown = (streams.command.home / "stderr.txt").read_text()
    assert "WARN" not in shown, "Spark's messages are in its log"
    offsets = streams.out.with_name("scores.checkpoint") / "spark/offsets"
    numbers = sorted(int(path.name) for path in offsets.iterdir() if path.name.isdigit())
    for number in numbers[-2:]:
        os.truncate(offsets / str(number), 0)
    checkpoint = offsets.parent.parent
    said = streams.once(code=1).stderr
    assert f"do:  sentiment stream repair {checkpoint}" in said
    (checkpoint / "spark/metadata").unlink()
    told = streams.command.json("stream", "repair", checkpoint)
    assert (told["first"], told["metadata"]) == (numbers[-2], True)
    streams.once()  # in batches of another size
    assert sorted(row["id"] for row in streams.rows()) == sorted(map(text_id, texts))
    model = load_model(streams.command.home / "model")
    expected = dict(zip(map(text_id, texts), score_texts(model, texts).probability, strict=True))
    for row in streams.rows():
        assert row["probability"] == pytest.approx(expected[row["id"]], abs=1e-6)
    # Scores do not go because one of the two has gone.
    aside = checkpoint.rename(checkpoint.with_name("aside"))
    assert "of which this checkpoint knows none" in streams.once(code=3).stderr
    shutil.rmtree(checkpoint)
    aside.rename(checkpoint)
    streams.out.rename(streams.out.with_name("lost"))
    assert "OUT does not have their scores" in streams.once(code=3).stderr


def test_a_full_disk_ends_it_with_the_path_and_with_room_it_goes_on(
    tmp_path: Path, driver_jvm: DriverJvm
):
    """CHECKS F7: nothing half-written is left."""
    with small_disk(tmp_path / "disk", mebibytes=2):
        streams = Streams(tmp_path, driver_jvm)
        streams.out = tmp_path / "disk/scores"
        filler = tmp_path / "disk/filler"
        streams.arrive("a.txt", *reviews(0, 3000))
        filler.write_bytes(b"x" * ((2 << 20) - 32_768))
        said = streams.once("--checkpoint", tmp_path / "checkpoint", code=1).stderr
        assert "cannot be written: No space left" in said
        assert str(streams.out) in said
        assert streams.rows() == []
        filler.unlink()
        streams.once("--checkpoint", tmp_path / "checkpoint")
        assert [row["id"] for row in streams.rows()] == [text_id(one) for one in reviews(0, 3000)]
        assert {path.suffix for path in (streams.out / "scores").iterdir()} == {".parquet"}


def test_another_source_of_spark_by_its_name_and_options(streams: Streams):
    texts = reviews(0, 20)
    model = ("--model", streams.command.home / "model", *ONE_CORE)
    unknown = streams.command("stream", streams.out, "--format", "socked", *model, code=3).stderr
    assert "Failed to find the data source: socked" in unknown
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def serve() -> None:
            link, _ = server.accept()
            with link:
                link.sendall("".join(f"{text}\n" for text in texts).encode() + b"caf\xe9\n\n")
                time.sleep(60)

        threading.Thread(target=serve, daemon=True).start()
        run = streams.start(
            *("--format", "socket", "--option", "host=127.0.0.1", "--option", f"port={port}"),
            *("--option", "includeTimestamp=true", "--time-column", "timestamp", "--late", "3600"),
        )
        wait(run, lambda: len(streams.rows()) + len(streams.refused()) >= 22)
        end(run)
    assert {row["id"] for row in streams.rows()} >= {text_id(text) for text in texts}
    assert {row["file"] for row in streams.rows()} == {"socket"}
    assert all(abs(time.time() - row["time"]) < 300 for row in streams.rows())


def test_late_reviews_are_refused_and_waiting_files_counted(streams: Streams):
    """What comes after the newest of the batches before by more than --late; what has no time."""
    header = "review,at"
    streams.arrive("a.csv", header, "good plot,2026-11-28T12:00Z", "bad plot,2026-11-28T08:00Z")
    run = streams.start("--time-column", "at", "--late", "3600")
    wait(run, lambda: len(streams.rows()) == 2)
    rows = ("great plot,2026-11-28T11:00Z", "dull plot,2026-11-28T10:59:59Z", "bad film,soon")
    streams.arrive("b.csv", header, *rows)
    wait(run, lambda: len(streams.events()) == 2)
    end(run)
    assert [row["id"] for row in streams.rows()] == [
        text_id(text) for text in ("good plot", "bad plot", "great plot")
    ]
    assert [row["reason"].partition(":")[0] for row in streams.refused()] == ["late", "no time"]
    assert [(e["late"], e["waiting"]) for e in streams.events()] == [(0, 0), (1, 0)]


def test_wrong_use_is_told_before_spark_starts(streams: Streams, tmp_path: Path):
    model = ("--model", streams.command.home / "model")
    stream = streams.command
    assert "no folder" in stream("stream", tmp_path / "none", "out", *model, code=3).stderr
    assert "OUT" in stream("stream", streams.inbox, *model, code=2).stderr
    stream("stream", streams.inbox, "out", "--model", "none", code=3)
    stream("stream", "a", "b", "--format", "kafka", *model, code=2)
    refused = stream("stream", streams.inbox, "out", "--late", "60", *model, code=2)
    assert "--time-column" in refused.stderr
    stream("stream", "socket:localhost", "b", *model, code=2)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/thesis.txt").write_text("42")
    refused = stream("stream", streams.inbox, tmp_path / "thesis", *model, code=3)
    assert "not empty, and no stream's" in refused.stderr
    other = tmp_path / "other"
    other.mkdir()
    (tmp_path / "scores/scores").mkdir(parents=True)
    (tmp_path / "scores/scores/batch-000000003.parquet").touch()
    (tmp_path / "scores/stream.json").write_text('{"format": 1, "source": "/x", "out": "/y"}')
    assert "another stream's" in stream("stream", other, tmp_path / "scores", *model, code=3).stderr
    inside = stream("stream", streams.inbox, streams.inbox / "out", *model, code=3).stderr
    assert "OUT lies in SOURCE" in inside
    assert list(streams.inbox.iterdir()) == []
    assert "Examples" in stream("stream", "--help").stdout
    assert "--checkpoint" in stream("stream", "run", "--help").stdout
    assert "no checkpoint" in stream("stream", "repair", tmp_path, code=3).stderr
