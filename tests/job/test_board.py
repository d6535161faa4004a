"""`sentiment board`: what TensorBoard itself reads of it, and its pages over HTTP."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sentiment.board.projector import shown
from sentiment.board.run_log import RunLog
from sentiment.board.runs import Runs
from sentiment.events import EventLog, event_log
from tests.conftest import Sentiment


def eventually(look: Callable[[], Any]) -> Any:
    """What `look` gives as soon as that is something."""
    deadline = time.monotonic() + 60
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def start(log: EventLog, *, made: int = 0) -> None:
    log.write("start", rounds_made=made, rounds=8)


def round_(log: EventLog, number: int, *, loss: float = 0.5) -> None:
    shards = [{"rows": 50, "tokens": 900, "seconds": seconds} for seconds in (1.0, 2.0, 3.0)]
    shards[1] |= {"gpu": {"busy": 97, "used_mib": 250, "memory_mib": 1000}}
    log.write(
        "round", round=number, train_loss=loss, train_accuracy=0.75, gradient_norm=0.25,
        learning_rate=0.125, tokens_per_second=600, seconds=3.5, overhead_seconds=0.5,
        shards=shards,
    )  # fmt: skip


def layers(log: EventLog, number: int) -> None:
    spread = {"low": -1.0, "high": 2.0, "counts": [1, 0, 5, 4]}
    flat = {"low": 0.5, "high": 0.5, "counts": [7, 0, 0, 0]}
    layer = {
        "name": "output.weight", "weight_norm": 1.5, "update_norm": None, "gradient_norm": 0.25,
        "weights": spread, "updates": flat, "gradients": spread,
    }  # fmt: skip
    log.write("layers", round=number, epoch=1, layers=[layer])


def epoch(log: EventLog, number: int, *, after: int) -> None:
    measured = {"validation_loss": 0.25, "validation_accuracy": 0.875, "best": True}
    log.write("epoch", epoch=number, round=after, **measured)


def batch(log: EventLog, number: int, *, rows: int = 8) -> None:
    log.write(
        "batch", batch=number, rows=rows, scored=4, praise=3, quarantined=2, duplicates=2, late=1,
        seconds=0.5, waiting=6, latency_p50=1.25, latency_p99=None,
    )  # fmt: skip


class Board:
    """Runs over a folder, without a server, read back by TensorBoard."""

    def __init__(self, *places: Path, logs: Path) -> None:
        self.logs, self.said = logs, []
        self.runs = Runs(places, logs, said=self.said.append)

    def read(self, run: str) -> EventAccumulator:
        self.runs.update()
        read = EventAccumulator(str(self.logs / run), size_guidance={"scalars": 0, "histograms": 0})
        return read.Reload()

    def scalars(self, run: str, tag: str) -> list[tuple[int, float]]:
        return [(one.step, one.value) for one in self.read(run).Scalars(tag)]


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    (tmp_path / "runs").mkdir()
    made = Board(tmp_path / "runs", logs=tmp_path / "logs")
    yield made
    made.runs.close()


def test_a_trainings_figures_are_read_back_at_their_rounds(board: Board, tmp_path: Path):
    with event_log(tmp_path / "runs/model.events.jsonl") as log:
        log.write("plan", advice="two workers pay")
        start(log)
        for number in (1, 2):
            round_(log, number, loss=1 / number)
            layers(log, number)
        epoch(log, 1, after=2)
        log.write("end", digest="abc")
    read = board.read("model")
    expected = {
        "loss/training": 0.5, "error/training": 0.25, "learning_rate": 0.125,
        "gradient_norm/all layers": 0.25, "speed/tokens a second": 600, "seconds/round": 3.5,
        "seconds/agreeing": 0.5, "seconds/slowest worker": 3, "seconds/worker in the middle": 2,
        "skew/slowest worker to the one in the middle": 1.5, "loss/validation": 0.25,
        "error/validation": 0.125, "weight_norm/output.weight": 1.5,
        "gradient_norm/output.weight": 0.25,
        "gpu/percent busy, worker 1": 97, "gpu/percent of memory used, worker 1": 25,
    }  # fmt: skip
    assert {tag: read.Scalars(tag)[-1].value for tag in read.Tags()["scalars"]} == expected
    assert {read.Scalars(tag)[-1].step for tag in expected} == {2}
    assert [one.value for one in read.Scalars("loss/training")] == [1, 0.5]
    told = [json.loads(line) for line in log.path.read_text().splitlines()]
    times = [event["time"] for event in told if event["event"] == "round"]
    assert [one.wall_time for one in read.Scalars("loss/training")] == times
    kinds = {f"{kind}/output.weight" for kind in ("weights", "updates", "gradients")}
    assert set(read.Tags()["histograms"]) == kinds
    for one in read.Histograms("weights/output.weight"):
        told = one.histogram_value
        assert (told.min, told.max, told.num, sum(told.bucket)) == (-1, 2, 10, 10)
        assert told.bucket_limit == [-0.25, 0.5, 1.25, 2]
        assert told.bucket == [1, 0, 5, 4]
    same = read.Histograms("updates/output.weight")[0].histogram_value
    assert (same.min, same.max, same.num, same.bucket) == (0.5, 0.5, 7, [7])


def test_a_stream_is_a_run_named_by_its_folder(board: Board, tmp_path: Path):
    with event_log(tmp_path / "runs/scores/events.jsonl") as log:
        batch(log, 0)
        log.write("warning", text="the folder is gone")
        batch(log, 1)
        batch(log, 2)
        batch(log, 1, rows=16)  # made again, after a crash
    read = board.read("scores")
    assert board.said == [f"run scores: {log.path}"]
    expected = {
        "speed/rows a second": 32, "seconds/batch": 0.5, "latency/median": 1.25,
        "lag/files that wait": 6, "rows/scored": 4, "share/praise": 0.75,
        "share/quarantined": 0.125, "share/duplicates": 0.125, "share/late": 0.0625,
    }  # fmt: skip
    assert {tag: read.Scalars(tag)[-1].value for tag in read.Tags()["scalars"]} == expected
    speeds = [(one.step, one.value) for one in read.Scalars("speed/rows a second")]
    assert speeds == [(0, 16), (1, 32)]


def test_a_file_is_followed_while_it_grows_and_new_ones_are_found(board: Board, tmp_path: Path):
    board.runs.update()
    assert board.runs.names == []
    with event_log(tmp_path / "runs/model.events.jsonl", resume=True) as log:  # it appends
        board.runs.update()
        assert board.runs.names == [], "there is no event in it yet"
        start(log)
        round_(log, 1)
        assert board.scalars("model", "loss/training") == [(1, 0.5)]
        with log.path.open("a") as half:
            half.write('{"time": 5, "event": "round", "round": 2, "train')
        assert board.scalars("model", "loss/training") == [(1, 0.5)]
        with log.path.open("a") as half:
            half.write(
                '_loss": 0.25}\nno JSON\n[1]\n{"event": "of tomorrow"}\n{"event": "round"}\n'
            )
        round_(log, 3, loss=0.125)
        expected = [(1, 0.5), (2, 0.25), (3, 0.125)]
        assert board.scalars("model", "loss/training") == expected
    with event_log(tmp_path / "runs/deep/model.events.jsonl") as log:
        start(log)
        round_(log, 1)
    assert board.scalars("deep/model", "loss/training") == [(1, 0.5)]
    log.path.unlink()
    assert board.scalars("deep/model", "loss/training") == [(1, 0.5)], "what was read stays"
    assert board.runs.names == ["model", "deep/model"]


@pytest.mark.parametrize("live", [True, False])
def test_rounds_that_are_made_again_are_there_once(board: Board, tmp_path: Path, live: bool):
    path = tmp_path / "runs/model.events.jsonl"
    with event_log(path) as log:
        start(log)
        for number in (1, 2, 3):
            round_(log, number)
            layers(log, number)
        epoch(log, 1, after=3)
    with path.open("a") as file:
        file.write('{"time": 1, "event": "rou')  # killed in mid-line
    if live:
        assert len(board.scalars("model", "loss/training")) == 3
    with event_log(path, resume=True) as log:
        start(log, made=1)
        if live:
            assert board.scalars("model", "loss/training") == [(1, 0.5)]
        round_(log, 2, loss=0.25)
        layers(log, 2)
    assert board.scalars("model", "loss/training") == [(1, 0.5), (2, 0.25)]
    read = board.read("model")
    assert [one.step for one in read.Histograms("weights/output.weight")] == [1, 2]
    assert "loss/validation" not in read.Tags()["scalars"] or not read.Scalars("loss/validation")


@pytest.mark.parametrize("rounds", [1, 5])
def test_a_training_that_begins_the_file_anew_takes_the_place_of_the_old_one(
    board: Board, tmp_path: Path, rounds: int
):
    path = tmp_path / "runs/model.events.jsonl"
    with event_log(path) as log:
        start(log)
        for number in (1, 2, 3):
            round_(log, number)
    assert len(board.scalars("model", "loss/training")) == 3
    time.sleep(0.002)  # its time tells an event from one before it
    with event_log(path) as log:
        start(log)
        for number in range(1, rounds + 1):
            round_(log, number, loss=0.25)
    expected = [(number, 0.25) for number in range(1, rounds + 1)]
    assert board.scalars("model", "loss/training") == expected


def test_files_of_one_name_are_two_runs_and_one_that_is_none_is_passed_over(tmp_path: Path):
    for folder in ("a", "b"):
        with event_log(tmp_path / folder / "model.events.jsonl") as log:
            start(log)
            round_(log, 1)
    (tmp_path / "a/other.events.jsonl").write_text("a,b\n")
    (tmp_path / "a/.hidden.events.jsonl").write_text("a,b\n")
    board = Board(tmp_path / "a", tmp_path / "b", log.path, logs=tmp_path / "logs")
    board.runs.update()
    board.runs.update()
    assert board.runs.names == ["model", "model-2"]
    assert sum("no event file" in line for line in board.said) == 1
    assert len(board.scalars("model-2", "loss/training")) == 1
    board.runs.close()


PARTS = st.sampled_from(
    "event time round batch rounds_made train_loss shards seconds layers name weights low high "
    "counts rows scored praise start layers".split()
)
VALUES = st.recursive(
    st.none() | st.integers() | st.floats() | PARTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(PARTS, inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example({"rounds_made": 1 << 63}, "start")
@example({"round": 1 << 63}, "round")
@example(
    {
        "round": 1,
        "layers": [{"name": "\ud800", "weights": {"low": -1e200, "high": 1e200, "counts": [1]}}],
    },
    "layers",
)
@given(
    st.dictionaries(PARTS, VALUES, max_size=8),
    st.sampled_from(["start", "round", "layers", "epoch", "batch", "end"]),
)
def test_an_event_that_is_not_as_it_should_be_disturbs_nothing(
    tmp_path: Path, values: dict[str, Any], kind: str
):
    log = RunLog(tmp_path)
    log.take({**values, "event": kind})
    log.take({"event": "round", "round": 3, "time": 1.0, "train_loss": 0.5})
    log.close()
    read = EventAccumulator(str(tmp_path)).Reload()
    assert (3, 0.5) in [(one.step, one.value) for one in read.Scalars("loss/training")]


def test_words_of_any_characters_are_a_line_each():
    words = ["film", "très", "a\tb", "a\nb", "\x1b[31m", "a\u2028b", "映画", "\x85"]
    lines = [shown(word) for word in words]
    assert lines == ["film", "très", r"a\tb", r"a\nb", r"\x1b[31m", r"a\u2028b", "映画", r"\x85"]


# Through the command line.


@pytest.fixture
def command(tmp_path: Path) -> Sentiment:
    """The command line with no cluster beside it."""
    return Sentiment(tmp_path)


def training(path: Path, *, rounds: int = 2) -> None:
    with event_log(path) as log:
        start(log)
        for number in range(1, rounds + 1):
            round_(log, number)
            layers(log, number)


def test_a_real_training_and_its_words_are_written_once(
    sentiment: Sentiment, trained: Path, table: Path, tmp_path: Path
):
    events = trained.with_name("model.events.jsonl")
    logs = tmp_path / "logs"
    words = ("board", events, "--logs", logs, "--once", "--table", table, "--words", "40")
    for _ in range(2):  # the second takes the place of the first
        assert sentiment.json(*words)["runs"] == ["model"]
    read = EventAccumulator(str(logs / "model"), size_guidance={"histograms": 0}).Reload()
    rounds = list(range(1, 13))
    assert [one.step for one in read.Scalars("loss/training")] == rounds
    assert [one.step for one in read.Scalars("error/validation")] == [4, 8, 12]
    rates = [one.value for one in read.Scalars("learning_rate")]
    assert rates == sorted(rates, reverse=True)
    told = [json.loads(line) for line in events.read_text().splitlines()]
    layer_events = [event for event in told if event["event"] == "layers"]
    names = [layer["name"] for layer in layer_events[0]["layers"]]
    assert "ngrams.weight" in names
    assert "directions.1.weight_hh_l0" in names
    for kind in ("weights", "updates", "gradients"):
        for name in names:
            shown_ = read.Histograms(f"{kind}/{name}")
            assert [one.step for one in shown_] == rounds
            of_event = next(one for one in layer_events[-1]["layers"] if one["name"] == name)
            counted = sum(of_event[kind]["counts"])
            assert sum(shown_[-1].histogram_value.bucket) == counted > 0
    vectors = (logs / "words.vectors.tsv").read_text().splitlines()
    assert len(vectors) == len((logs / "words.metadata.tsv").read_text().splitlines()) == 40
    assert {len(line.split("\t")) for line in vectors} == {50}


@contextmanager
def serving(command: Sentiment, *words: Any, code: int = 0) -> Iterator[dict[str, Any]]:
    """`sentiment board`, ended with Ctrl-C; what it says when it is there."""
    run = command.popen("board", *words, "--json")
    try:
        yield json.loads(run.stdout.readline())
    finally:
        run.send_signal(signal.SIGINT if code == 0 else signal.SIGTERM)
        out, err = run.communicate(timeout=60)
    assert run.returncode == code, out + err
    assert "Traceback" not in err


class OverSocket(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


def cookie_of(connection: http.client.HTTPConnection, path: str) -> str:
    """What a browser is given for the address with the token, and sent on to."""
    connection.request("GET", path)
    answer = connection.getresponse()
    assert (answer.status, answer.headers["Location"]) == (302, "/")
    cookie, _, rules = answer.headers["Set-Cookie"].partition("; ")
    assert {"HttpOnly", "SameSite=Strict"} <= set(rules.split("; "))
    connection.close()
    return cookie


def getter(
    connect: Callable[[], http.client.HTTPConnection], *, cookie: str = ""
) -> Callable[[str], Any]:
    def get(path: str) -> Any:
        connection = connect()
        try:
            connection.request("GET", path, headers={"Cookie": cookie.encode()})
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == 200, (path, answer.status, body)
            return json.loads(body) if "json" in answer.headers["Content-Type"] else body
        finally:
            connection.close()

    return get


def test_it_serves_tensorboard_and_shows_a_training_that_goes_on(
    command: Sentiment, tmp_path: Path, table: Path
):
    """The folder is empty at first; a training begins in it, then a second one."""
    (tmp_path / "runs").mkdir()
    with serving(command, "runs", "--table", table, "--words", "30") as told:
        address = re.fullmatch(r"http://127\.0\.0\.1:(\d+)(/\?token=(.+))", told["url"])
        assert told["runs"] == []

        def connect() -> http.client.HTTPConnection:
            return http.client.HTTPConnection("127.0.0.1", int(address[1]), timeout=60)

        cookie = cookie_of(connect(), address[2])
        get = getter(connect, cookie=cookie)
        for wrong in ("", cookie[:-1] + "é", cookie.replace(address[1], "1")):
            with pytest.raises(AssertionError, match="403"):
                getter(connect, cookie=wrong)("/data/plugin/scalars/tags")
        assert b"<html" in get("/")
        with event_log(tmp_path / "runs/model.events.jsonl") as log:
            start(log)
            round_(log, 1)
            layers(log, 1)
            tags = eventually(lambda: get("/data/plugin/scalars/tags").get("model"))
            assert "loss/training" in tags
            histograms = eventually(lambda: get("/data/plugin/histograms/tags").get("model"))
            assert "gradients/output.weight" in histograms
            round_(log, 2, loss=0.25)
            losses = "/data/plugin/scalars/scalars?run=model&tag=loss/training"
            values = eventually(lambda: points if len(points := get(losses)) == 2 else None)
            assert [(step, value) for _, step, value in values] == [(1, 0.5), (2, 0.25)]
        training(tmp_path / "runs/second.events.jsonl")
        assert eventually(lambda: get("/data/plugin/scalars/tags").get("second"))
        projected = "/data/plugin/projector/"
        assert len(get(f"{projected}info?run=.")["embeddings"]) == 1
        name = get(f"{projected}info?run=.")["embeddings"][0]["tensorName"].replace(" ", "%20")
        words = get(f"{projected}metadata?run=.&name={name}").decode().splitlines()
        assert len(words) == 30
        assert "the" in words
        assert len(get(f"{projected}tensor?run=.&name={name}")) == 30 * 50 * 4
        assert Path(told["logs"]).is_dir()
    assert not Path(told["logs"]).exists(), "the temporary log directory is gone"


def test_behind_a_proxy_it_serves_a_socket_that_others_cannot_use(
    command: Sentiment, tmp_path: Path
):
    training(tmp_path / "model.events.jsonl")
    path = tmp_path / "made/for/it/socket"
    given = ("model.events.jsonl", "--socket", path, "--logs", "logs", "--path-prefix", "/board")
    with serving(command, *given, code=130) as told:
        assert told["url"] == f"unix://{path}"
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700
        get = getter(lambda: OverSocket(str(path)))
        tags = eventually(lambda: get("/board/data/plugin/scalars/tags").get("model"))
        assert "loss/training" in tags
        refused = command("board", "model.events.jsonl", "--socket", path, code=5).stderr
        assert "another process listens there" in refused
        assert (
            "is being written by another run"
            in command("board", "model.events.jsonl", "--once", "--logs", "logs", code=5).stderr
        )
    assert not path.exists()
    assert (tmp_path / "logs/model").is_dir()


def test_what_a_killed_process_has_left_gives_way_and_nothing_else(
    command: Sentiment, tmp_path: Path
):
    training(tmp_path / "model.events.jsonl")
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / "left"))
    left.close()
    with serving(command, "model.events.jsonl", "--socket", tmp_path / "left"):
        assert getter(lambda: OverSocket(str(tmp_path / "left")))("/data/environment")
    mine = tmp_path / "thesis.txt"
    mine.write_text("42")
    said = command("board", "model.events.jsonl", "--socket", mine, code=3).stderr
    assert "is there and no socket" in said
    assert mine.read_text() == "42"
    long = tmp_path / ("x" * 120)
    assert "do:" in command("board", "model.events.jsonl", "--socket", long, code=3).stderr


def test_wrong_use_is_one_message(command: Sentiment, tmp_path: Path):
    training(tmp_path / "model.events.jsonl")
    (tmp_path / "empty").mkdir()
    (tmp_path / "table.csv").write_text("text,label\ngood,1\n")
    (tmp_path / "half.jsonl").write_text("")
    (tmp_path / "picture.png").write_bytes(os.urandom(1000))

    def refused(*words: Any, code: int = 3) -> str:
        return command("board", *words, code=code).stderr

    once = ("--once", "--logs", tmp_path / "logs")
    assert "there is no such file or folder" in refused("none")
    assert "is no event file" in refused("table.csv")
    assert "is no event file" in refused("picture.png")
    assert "there is no event yet" in refused("empty", *once)
    assert "there is no event yet" in refused("half.jsonl", *once)
    assert "no word table" in refused("model.events.jsonl", *once, "--words", "5")
    assert "--once writes into --logs" in refused("--once", code=2)
    assert "begins with /" in refused("--path-prefix", "board", code=2)
    assert "one of them" in refused("--port", "1", "--socket", "s", code=2)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert "name another --port" in refused("model.events.jsonl", "--port", port, code=3)


def test_without_tensorboard_it_says_what_to_install(command: Sentiment):
    """A process in which the package cannot be imported, as where it is not installed."""
    script = (
        "import sys; sys.modules['tensorboard'] = None; sys.argv[1:] = ['board']\n"
        "from sentiment.__main__ import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        cwd=command.home,
    )
    assert done.returncode == 3
    assert "pip install 'sentiment[notebook]'" in done.stderr
    assert "Traceback" not in done.stderr
