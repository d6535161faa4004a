import pytest

from sentiment.errors import SentimentError
from sentiment.events import event_log, read_events


def test_events_are_readable_while_the_run_goes_on(tmp_path):
    heard = []
    with event_log(tmp_path / "deep" / "events.jsonl", listeners=(heard.append,)) as log:
        log.write("round", round=1, loss=0.5)
        assert read_events(log.path)[0]["loss"] == 0.5
        log.write("end", text="né")
    assert [e["event"] for e in read_events(log.path)] == ["round", "end"]
    assert heard == read_events(log.path)


def test_a_run_without_an_event_leaves_no_file(tmp_path):
    with event_log(tmp_path / "events.jsonl"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_line_that_is_being_written_is_left_out(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text('{"event": "round"}\n{"event": "ro')
    assert [e["event"] for e in read_events(path)] == ["round"]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(SentimentError, match="cannot be written"),
        event_log(tmp_path / "file" / "events.jsonl"),
    ):
        pass


def test_a_run_that_goes_on_writes_after_the_last_whole_line(tmp_path):
    path = tmp_path / "events.jsonl"
    with event_log(path) as log:
        log.write("start", rounds_made=0)
        for number in (1, 2, 3):
            log.write("round", round=number, of="first")
            log.write("layers", round=number, of="first")
        log.write("epoch", epoch=1, round=3)
    with path.open("a") as file:
        file.write('{"time": 1, "event": "rou')  # killed in mid-line
    with event_log(path, resume=True) as log:
        log.write("start", rounds_made=2)
        log.write("round", round=3, of="second")
        log.write("layers", round=3, of="second")
    told = read_events(path)
    both = ["round", "layers"]
    assert [e["event"] for e in told] == ["start", *both, *both, "start", *both]
    for kind in both:
        assert [(e["round"], e["of"]) for e in told if e["event"] == kind] == [
            (1, "first"),
            (2, "first"),
            (3, "second"),
        ]
