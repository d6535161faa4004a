"""What `sparkbundle watch` makes of event files, and which files it reads of a job's folder."""

import io
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from sparkbundle import watching_view
from sparkbundle.job_agent import frames
from sparkbundle.job_agent.records import JobFolder
from sparkbundle.watching import Course, Event, parse_events
from tests.deploy.conftest import CommandLine


def started(*, made: int = 0) -> Event:
    recipe = {"name": "quick"}
    sizes = {"rows": 900, "vocabulary": 5000, "workers": 2, "rounds": 8, "rounds_made": made}
    return {"event": "start", "time": 0.0, "recipe": recipe, **sizes}


def round_(number: int, *, loss: float = 0.5) -> Event:
    shards = [{"rows": 50, "tokens": 900, "seconds": seconds} for seconds in (1.0, 3.0)]
    return {
        "event": "round", "time": float(number), "round": number, "train_loss": loss,
        "train_accuracy": 0.8, "gradient_norm": 0.25, "tokens_per_second": 600, "seconds": 3.5,
        "overhead_seconds": 0.5, "shards": shards,
    }  # fmt: skip


def epoch(number: int, *, after: int) -> Event:
    measured = {"validation_loss": 0.4, "validation_accuracy": 0.83, "best": True}
    return {"event": "epoch", "time": 9.0, "epoch": number, "round": after, **measured}


def batch(number: int, *, scored: int) -> Event:
    return {
        "event": "batch", "time": float(number), "batch": number,
        "rows": scored + 3, "scored": scored, "praise": scored // 2, "quarantined": 2,
        "duplicates": 1, "late": 0, "seconds": 0.5,
        "waiting": 4, "latency_p50": 1.25, "latency_p99": 2.5, "model_digest": "abcdef0123456789",
    }  # fmt: skip


def drawn(course: Course) -> str:
    console = Console(file=io.StringIO(), width=110, color_system=None)
    console.print(watching_view.picture(course, title="train-1 RUNNING"))
    text = console.file.getvalue()
    assert isinstance(text, str)
    return text


def test_the_gpu_of_each_worker_is_shown():
    course, last = Course(), round_(1)
    use = {"name": "NVIDIA L4", "busy": 97, "used_mib": 3174, "memory_mib": 23034}
    last["shards"][0]["gpu"] = use
    last["shards"][1]["gpu"] = use | {"busy": None}
    for event in (started() | {"device": "cuda"}, last):
        course.add(event)
    shown = drawn(course)
    assert "2 workers on GPUs" in shown
    assert "NVIDIA L4: 97 % busy, 3.1 of 22.5 GiB" in shown
    assert "NVIDIA L4: 3.1 of 22.5 GiB" in shown


def test_a_run_that_goes_on_from_its_checkpoint_shows_each_round_once():
    course = Course()
    for event in (started(), *map(round_, range(1, 5)), epoch(1, after=4), round_(5), round_(6)):
        course.add(event)
    course.add(started(made=4))
    assert sorted(course.rounds) == [1, 2, 3, 4]
    course.add(round_(5, loss=0.3))
    assert course.rounds[5]["train_loss"] == 0.3
    assert sorted(course.epochs) == [1]
    assert course.left_seconds == 3 * 3.5
    text = drawn(course)
    assert "round 5/8, about 10 s left" in text
    assert "0.3000 in training, 0.4000 on validation (epoch 1)" in text
    assert "skew 1.50; 0.5 s of 3.5 s for agreeing" in text


def test_a_batch_that_is_made_again_counts_once():
    course = Course()
    for event in (batch(0, scored=10), batch(1, scored=20), batch(1, scored=20)):
        course.add(event)
    assert course.totals["scored"] == 30
    assert course.totals["rows"] == 36
    text = drawn(course)
    assert "30 scored of 36, 4 quarantined, 2 scored before" in text
    assert "1.2 s from arrival to score, p99 2.5 s" in text
    assert "model abcdef01" in text


def test_before_the_first_figure():
    course = Course()
    assert "no figures yet" in drawn(course)
    course.add({"event": "plan", "time": 0.0, "advice": "2 workers pay"})
    assert "plan: 2 workers pay" in drawn(course)
    course.add(started())
    course.add({"event": "warning", "time": 0.0, "text": "look out"})
    assert "the first round runs" in drawn(course)
    assert "warning: look out" in drawn(course)
    course.add({"event": "of tomorrow", "time": 0.0})


@given(st.lists(st.integers(1, 40)))
def test_events_come_in_any_blocks(cuts: list[int]):
    events = [started(), round_(1), {"event": "warning", "text": "é 映画"}]
    data = "".join(json.dumps(event, ensure_ascii=False) + "\n" for event in events).encode()
    data += b'{"event": "round", "rou'  # half a line that a killed run has left
    blocks, at = [], 0
    for size in cuts:
        blocks.append(data[at : at + size])
        at += size
    blocks += [data[at:], b'\n[1]\n{"event": "end"}\n']
    assert list(parse_events(blocks)) == [*events, {"event": "end"}]


@given(st.lists(st.floats(-1e6, 1e6), max_size=300))
def test_a_curve_fits_its_width(values: list[float]):
    shown = watching_view.curve(values)
    assert len(shown) <= 40
    assert bool(shown) == bool(values)
    assert len(values) > 40 or len(shown) == len(values)


def test_only_the_jobs_own_event_file_is_read(tmp_path: Path):
    """On a host it is root who reads: a job may not have it read what the job could not."""
    folder = JobFolder(tmp_path / "job")
    folder.work.mkdir(parents=True)
    secret = tmp_path / "secret.jsonl"
    secret.write_text("secret")
    assert frames.events(folder) is None
    (folder.work / "x.events.jsonl").symlink_to(secret)
    os.mkfifo(folder.work / "fifo.events.jsonl")
    (folder.work / "a.events.jsonl").mkdir()
    assert frames.events(folder) is None
    (folder.work / "scores").mkdir()
    (folder.work / "scores/events.jsonl").write_text("old")
    os.utime(folder.work / "scores/events.jsonl", (0, 0))
    (folder.work / "model.events.jsonl").write_text("new")
    with frames.events(folder) as file:
        assert file.read() == b"new"
    if os.getuid() == 0:
        os.chown(folder.work / "model.events.jsonl", 12345, 12345)
        with frames.events(folder) as file:
            assert file.read() == b"old"


def test_an_event_file_of_this_machine(cli: CommandLine):
    path = cli.home / "model.events.jsonl"
    end = {"event": "end", "validation_accuracy": 0.83, "kept_epoch": 1}
    layers = {"event": "layers", "round": 1, "epoch": 1, "layers": []}  # not for a terminal
    events = [started(), round_(1), layers, epoch(1, after=1), end]
    path.write_text("".join(f"{json.dumps(event)}\n" for event in events))
    lines = cli("watch", "model.events.jsonl").stdout.splitlines()
    assert lines == [
        "recipe quick, 900 reviews, 5,000 words, 2 workers",
        "round 1/8  loss 0.5000  accuracy 80.0%  600 tokens/s  skew 1.50",
        "epoch 1  validation loss 0.4000  accuracy 83.0%  the best so far",
        "trained: validation accuracy 83.0% after epoch 1",
    ]
    told = cli("watch", "model.events.jsonl", "--json").stdout.splitlines()
    assert [json.loads(one) for one in told] == events
    missing = cli("watch", "other.jsonl", code=3).stderr
    assert "other.jsonl: cannot be read: No such file" in missing


@pytest.mark.parametrize("kind", ["start", "round", "epoch", "batch", "warning"])
def test_each_event_is_one_line(kind: str):
    made = {
        "start": started(), "round": round_(1), "epoch": epoch(1, after=1),
        "batch": batch(0, scored=4), "warning": {"event": "warning", "text": "so"},
    }  # fmt: skip
    line = watching_view.line(made[kind], Course())
    assert line
    assert "\n" not in line
    assert watching_view.line({"event": "of tomorrow"}, Course()) is None
