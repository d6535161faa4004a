"""What fails in mid-training changes nothing that is learned, or little of it, and it is said."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from sentiment import jvm
from sentiment.events import read_events
from sentiment.model import read_model_files
from tests.conftest import Sentiment

from .conftest import TRAINING

pytestmark = pytest.mark.usefixtures("own_jvm")  # drivers are killed, two are there at a time
ROUNDS = 12
ALLREDUCE = ("--strategy", "allreduce")


def rounds(events: Path) -> int:
    if not events.exists():
        return 0
    return sum(event["event"] == "round" for event in read_events(events))


def executors(sentiment: Sentiment) -> list[int]:
    """The executors' JVMs of this cluster."""
    return [pid for pid, line in processes(sentiment) if "CoarseGrainedExecutorBackend" in line]


def processes(sentiment: Sentiment) -> list[tuple[int, str]]:
    """The processes below the cluster's directory, with their command lines."""
    work = str(sentiment.home / "state")
    found = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
            ours = process.cwd().startswith(work)
        except psutil.Error:
            continue
        if ours:
            found.append((process.pid, line))
    return found


class Run:
    """A training that is disturbed after some rounds."""

    def __init__(self, sentiment: Sentiment, corpus: Path, table: Path) -> None:
        self._sentiment = sentiment
        self._given = (corpus, "--vectors", table, *TRAINING)

    def begin(self, name: str, *words: str) -> tuple["subprocess.Popen[str]", Path, Path]:
        model = self._sentiment.home / name
        corpus, *options = self._given
        run = self._sentiment.popen("train", corpus, model, *options, *words)
        return run, model, model.with_name(f"{name}.events.jsonl")

    def __call__(self, name: str, *words: str, code: int = 0) -> str:
        run, _, _ = self.begin(name, *words)
        out, err = run.communicate(timeout=400)
        assert run.returncode == code, out + err
        assert "Traceback" not in err
        return err


@pytest.fixture
def train(sentiment: Sentiment, corpus: Path, table: Path) -> Run:
    return Run(sentiment, corpus, table)


def digest(model: Path) -> str:
    return str(json.loads((model / "model.json").read_text())["digest"])


def await_rounds(run: "subprocess.Popen[str]", events: Path, number: int) -> int:
    """Wait until so many rounds are done; how many are, then."""
    while run.poll() is None and rounds(events) < number:
        time.sleep(0.02)
    assert rounds(events) < ROUNDS, "too late to be in mid-training"
    return rounds(events)


@pytest.mark.long
def test_without_an_executor_and_its_driver_it_learns_the_same(
    sentiment: Sentiment, train: Run, trained: Path
):
    """kill -9 of one executor, then of the driver, then a damaged checkpoint: the same weights,
    bit for bit (contract 5, CHECKS F1)."""
    run, model, events = train.begin("killed")
    await_rounds(run, events, 2)
    victims = executors(sentiment)
    assert len(victims) == 2
    archives = [str(jvm.ARCHIVE) in Path(f"/proc/{pid}/maps").read_text() for pid in victims]
    assert archives == [True, True], "they start from the archive of classes"
    os.kill(victims[0], signal.SIGKILL)
    await_rounds(run, events, rounds(events) + 3)
    time.sleep(0.2)
    os.kill(run.pid, signal.SIGKILL)
    run.communicate()
    told = read_events(events)
    shown = [e["round"] for e in told if e["event"] == "layers"]
    kept = sorted(path.name for path in model.with_name("killed.checkpoints").iterdir())
    assert 3 <= len(kept) <= 4, kept  # the last three, and the best
    assert "--resume" in train("killed", code=1), "an unfinished run is not overwritten"
    said = train("killed", "--seed", "2", "--resume", code=3)
    assert "is of another run: seed 1, not 2" in said, said
    newest = model.with_name("killed.checkpoints") / kept[-1] / "state.safetensors"
    newest.write_bytes(newest.read_bytes()[:-100])
    said = train("killed", "--resume", "--no-listeners")
    assert f"{kept[-1]}" in said, "the damaged checkpoint is named"
    same = (model / "weights.safetensors").read_bytes()
    assert same == (trained / "weights.safetensors").read_bytes()
    assert digest(model) == digest(trained)
    told = read_events(events)
    assert [e["round"] for e in told if e["event"] == "round"] == list(range(1, ROUNDS + 1))
    assert [e["epoch"] for e in told if e["event"] == "epoch"] == [1, 2, 3]
    goes_on = next(e["rounds_made"] for e in reversed(told) if e["event"] == "start")
    layers = [e["round"] for e in told if e["event"] == "layers"]
    assert layers == shown[:goes_on] == list(range(1, goes_on + 1)), "none since it goes on"
    assert not model.with_name("killed.checkpoints").exists()


def test_two_trainings_into_one_model_do_not_meet_and_an_interrupt_leaves_no_half_model(train: Run):
    run, model, events = train.begin("twice")
    await_rounds(run, events, 1)
    said = train("twice", "--resume", code=5)
    assert "another run" in said
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=120)
    assert run.returncode == 130, err
    assert "interrupted" in err
    assert "Traceback" not in err
    assert "--resume" in err, "what to do next is said"
    assert not model.exists()
    assert not [path for path in model.parent.iterdir() if path.name.startswith(".twice")]


@pytest.mark.long
def test_allreduce_without_an_executor_begins_the_round_again_and_ends(
    sentiment: Sentiment, train: Run, trained: Path
):
    """CHECKS F3: from the last checkpoint, on the workers that are left; no orphan process."""
    run, model, events = train.begin("bereft", *ALLREDUCE)
    killed_after = 0
    while run.poll() is None:
        made = rounds(events)
        if made >= killed_after + 2 and not begun_again(events):
            # The gap between two rounds is shorter: this is in mid-round; if not, once more.
            time.sleep(0.4)
            for pid in executors(sentiment)[:1]:
                os.kill(pid, signal.SIGKILL)
                killed_after = made
        time.sleep(0.02)
    out, err = run.communicate()
    assert run.returncode == 0, out + err
    told = read_events(events)
    assert [e["round"] for e in told if e["event"] == "round"] == list(range(1, ROUNDS + 1))
    assert begun_again(events)
    assert read_model_files(model).keys() == read_model_files(trained).keys()
    assert told[-1]["validation_accuracy"] > 0.65
    deadline = time.monotonic() + 30
    while executors(sentiment) or workers(sentiment):
        assert time.monotonic() < deadline, "a process of the training is left"
        time.sleep(0.5)


def begun_again(events: Path) -> bool:
    told = read_events(events) if events.exists() else []
    return any(e["event"] == "warning" and "begun again" in e["text"] for e in told)


def workers(sentiment: Sentiment) -> list[int]:
    return [pid for pid, line in processes(sentiment) if "pyspark.daemon" in line]
