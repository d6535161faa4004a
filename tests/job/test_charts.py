"""Charts that move: what they keep, what they draw, and that they follow a file."""

import json
import threading
import time
from collections import namedtuple
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import Row

from sentiment import charts
from sentiment.charts import Chart, Panel
from sentiment.errors import InvalidInputError
from sentiment.events import event_log

PRAISE = Panel("praise", {"praise": "praise"}, ".0%")
Named = namedtuple("Named", ["praise", "film", "n"])
ROWS = st.lists(
    st.tuples(st.integers(0, 9), st.sampled_from("ab"), st.floats(0, 1)), min_size=0, max_size=6
)


def lines(chart: Chart) -> dict[str, list[tuple[object, float]]]:
    """The points that are drawn, by the name of their line."""
    return {trace.name: list(zip(trace.x, trace.y, strict=True)) for trace in chart.figure.data}


@settings(max_examples=12, deadline=None)
@given(st.lists(ROWS, max_size=4), st.one_of(st.none(), st.integers(1, 5)))
def test_the_last_rows_of_each_line_are_drawn_in_the_order_in_which_they_came(portions, most):
    chart = Chart("n", [PRAISE], by="film", most=most)
    for portion in portions:
        chart.add_and_apply(portion)
    rows = [row for portion in portions for row in portion]
    for film in "ab":
        mine = [(n, praise) for n, of, praise in rows if of == film]
        assert lines(chart).get(film, []) == (mine if most is None else mine[-most:])


def test_rows_are_replaced_added_to_and_forgotten():
    chart = Chart("n", [PRAISE])
    assert lines(chart.apply_on([(1, 0.5), (2, 0.6)])) == {"praise": [(1, 0.5), (2, 0.6)]}
    assert lines(chart.add_and_apply([(3, 0.7)]))["praise"][-1] == (3, 0.7)
    assert lines(chart.new_max(2)) == {"praise": [(2, 0.6), (3, 0.7)]}
    assert lines(chart.add_and_apply([(0, 0.1)])) == {"praise": [(3, 0.7), (0, 0.1)]}
    assert lines(chart.apply_on([(9, 0.9)])) == {"praise": [(9, 0.9)]}
    assert lines(chart.apply_on([])) == {"praise": []}
    assert len(chart.rows) == 0


def test_a_line_that_has_no_rows_any_more_is_empty_and_keeps_its_colour():
    chart = Chart("n", [PRAISE], by="film").apply_on([(1, "a", 0.1), (1, "b", 0.2)])
    colour = chart.figure.data[1].line.color
    chart.apply_on([(2, "b", 0.3)])
    assert lines(chart) == {"a": [], "b": [(2, 0.3)]}
    assert chart.figure.data[1].line.color == colour != chart.figure.data[0].line.color


@pytest.mark.parametrize(
    "rows",
    [
        pd.DataFrame({"praise": [0.5, None], "more": "x", "film": "a", "n": [1, 2]}, index=[7, 7]),
        [{"praise": 0.5, "film": "a", "n": 1}, {"film": "a", "n": 2}],
        [(1, "a", 0.5), (2, "a", None)],
        [[1, "a", 0.5], [2, "a", float("nan")]],
        [Named(0.5, "a", 1), Named(None, "a", 2)],
        [Row(praise=0.5, film="a", n=1), Row(praise=None, film="a", n=2)],
    ],
    ids=["pandas", "dicts", "tuples", "lists", "named tuples", "Spark"],
)
def test_rows_of_every_kind_are_the_same_rows_and_a_null_is_left_out(rows):
    chart = Chart("n", [PRAISE], by="film").apply_on(rows)
    assert lines(chart) == {"a": [(1, 0.5)]}
    assert chart.rows[["n", "film"]].to_numpy().tolist() == [[1, "a"], [2, "a"]]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"n": 1, "prais": 0.5}], "no column 'praise'; they have 'n', 'prais'"),
        (pd.DataFrame({"x": [1]}), "no column 'n', 'praise'; they have 'x'"),
        ([(1, 0.5, 2)], r"a row is \(1, 0.5, 2\); it is to have 'n', 'praise'"),
        ([(1, 0.5), {"n": 1, "praise": 1}], r"a row is \(1, 0.5\); it is to have"),
        (["ab"], "a row is 'ab'"),
        ([(1, "much")], "'praise' holds what is no number"),
    ],
)
def test_wrong_columns_are_named_and_what_was_drawn_stays(rows, said):
    chart = Chart("n", [PRAISE]).apply_on([(1, 0.5)])
    for way in (chart.apply_on, chart.add_and_apply):
        with pytest.raises(InvalidInputError, match=said):
            way(rows)
    assert lines(chart) == {"praise": [(1, 0.5)]}


@pytest.mark.parametrize("most", [0, -1])
def test_no_rows_at_all_cannot_be_kept(most):
    with pytest.raises(InvalidInputError, match="no number of rows"):
        Chart("n", [PRAISE]).new_max(most)


def test_panels_share_names_and_colours():
    panels = [
        Panel("loss", {"training": "a", "validation": "b"}),
        Panel("error", {"training": "c"}),
    ]
    chart = Chart("n", panels).apply_on([(1, 0.1, 0.2, 0.3)])
    assert [(trace.name, trace.y) for trace in chart.figure.data] == [
        ("training", (0.1,)),
        ("validation", (0.2,)),
        ("training", (0.3,)),
    ]
    first, second, third = (trace.line.color for trace in chart.figure.data)
    assert first == third != second
    assert [trace.showlegend for trace in chart.figure.data] == [True, True, False]


@pytest.mark.parametrize(("kind", "trace"), [("bars", "bar"), ("points", "scatter")])
def test_bars_and_points(kind, trace):
    chart = Chart("film", [PRAISE], kind=kind).apply_on([("a", 0.5)])
    assert chart.figure.data[0].type == trace
    assert lines(chart) == {"praise": [("a", 0.5)]}


def round_of(number: int, loss: float) -> dict:
    figures = {"train_loss": loss, "train_accuracy": 0.75, "tokens_per_second": 1000}
    return {"round": number, "epoch": 1, **figures}


EPOCH = {"epoch": 1, "round": 2, "validation_loss": 0.4, "validation_accuracy": 0.875, "best": True}


def training_lines(chart: charts.EventChart) -> dict[str, list]:
    """By panel and name."""
    panels = {"x": "loss", "x2": "error", "x3": "speed"}
    return {
        f"{panels[trace.xaxis]} {trace.name}": list(zip(trace.x, trace.y, strict=True))
        for trace in chart.chart.figure.data
    }


def test_a_training_is_drawn_from_its_file_and_other_events_are_passed_over(tmp_path):
    with event_log(tmp_path / "events.jsonl") as log:
        log.write("reading", rows=3)
        log.write("start", rounds_made=0)
        log.write("round", **round_of(1, 0.5))
        log.write("layers", round=1, layers=[{"name": "lstm", "norm": 1.0}])
        log.write("round", **round_of(2, 0.25))
        log.write("epoch", **EPOCH)
    assert training_lines(charts.training(log.path).draw()) == {
        "loss training": [(1, 0.5), (2, 0.25)],
        "loss validation": [(2, 0.4)],
        "error training": [(1, 0.25), (2, 0.25)],
        "error validation": [(2, 0.125)],
        "speed training": [(1, 1000), (2, 1000)],
    }
    assert training_lines(charts.training(log.path, most=1).draw())["loss training"] == [(2, 0.25)]


def test_a_training_on_gpus_shows_how_busy_the_idlest_is(tmp_path):
    uses = [{"gpu": {"busy": busy}} for busy in (97, 40, None)]
    with event_log(tmp_path / "events.jsonl") as log:
        log.write("start", rounds_made=0, device="cuda")
        log.write("round", **round_of(1, 0.5), shards=uses)
        log.write("round", **round_of(2, 0.5), shards=[{"gpu": {"busy": None}}])
    traces = charts.training(log.path).draw().chart.figure.data
    (busy,) = [trace for trace in traces if trace.xaxis == "x4"]
    assert [*zip(busy.x, busy.y, strict=True)] == [(1, 0.4)]


def test_the_rounds_of_a_resumed_training_count_once(tmp_path):
    path = tmp_path / "events.jsonl"
    with event_log(path) as log:
        log.write("start", rounds_made=0)
        for number in (1, 2, 3):
            log.write("round", **round_of(number, 0.9))
    with event_log(path, resume=True) as log:
        log.write("start", rounds_made=2)
        log.write("round", **round_of(3, 0.3))
        log.write("round", **round_of(3, 0.2))  # begun again: a worker was lost
    drawn = training_lines(charts.training(path).draw())
    assert drawn["loss training"] == [(1, 0.9), (2, 0.9), (3, 0.2)]


def batch(number: int, *, scored: int, praise: int) -> dict:
    latency = {"latency_p50": 1.0, "latency_p99": 2.0} if scored else dict.fromkeys(LATENCY)
    return {"batch": number, "scored": scored, "praise": praise, "seconds": 0.5, **latency}


LATENCY = ("latency_p50", "latency_p99")


def test_a_stream_is_drawn_and_the_last_line_of_a_batch_counts(tmp_path):
    with event_log(tmp_path / "events.jsonl") as log:
        log.write("batch", **batch(0, scored=10, praise=9))
        log.write("warning", text="late")
        log.write("batch", **batch(1, scored=0, praise=0))
        log.write("batch", **batch(0, scored=10, praise=5))
    chart = charts.stream(log.path).draw().chart
    assert lines(chart) == {
        "praise": [(0, 0.5)],
        "reviews": [(0, 20.0), (1, 0.0)],
        "median": [(0, 1.0)],
        "99 of 100": [(0, 2.0)],
    }


def wait_for(what) -> None:
    until = time.monotonic() + 20
    while not what():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_thread_follows_a_file_that_grows_until_the_training_has_ended(tmp_path):
    path = tmp_path / "events.jsonl"
    chart = charts.training(path)
    chart.follow(background=True)  # the file is not there yet
    with event_log(path) as log:
        log.write("start", rounds_made=0)
        for number in (1, 2, 3):
            log.write("round", **round_of(number, 0.5))
            wait_for(lambda n=number: len(chart.chart.rows) == n)
        with path.open("a") as file:
            file.write('{"event": "rou')
            file.flush()
            time.sleep(1)
        assert len(chart.chart.rows) == 3
        assert threading.active_count() > 1
        with path.open("a") as file:
            file.write('nd", ' + json.dumps(round_of(4, 0.1))[1:] + '\n{"event": "end"}\n')
    wait_for(lambda: not chart.following)
    assert training_lines(chart)["loss training"][-1] == (4, 0.1)


def test_a_thread_is_stopped(tmp_path):
    chart = charts.stream(tmp_path / "events.jsonl")
    chart.follow(background=True)
    assert chart.following
    chart.stop()
    assert not chart.following


def test_a_cell_runs_until_the_writer_is_gone_and_draws_what_it_wrote_last(tmp_path):
    path = tmp_path / "events.jsonl"
    chart = charts.training(path)
    asked = []

    def alive() -> bool:
        asked.append(len(chart.chart.rows))
        with event_log(path, resume=True) as log:  # what it does last, after the chart has looked
            log.write("round", **round_of(len(asked), 0.5))
            log.write("end")  # as a file has it that is of an earlier run
        return len(asked) < 3

    chart.follow(alive=alive)
    assert asked == [0, 1, 2]
    assert len(chart.chart.rows) == 3


def test_a_cell_ends_with_its_seconds_and_when_it_is_interrupted(tmp_path, capsys):
    def interrupted() -> bool:
        raise KeyboardInterrupt

    chart = charts.training(tmp_path / "events.jsonl")
    began = time.monotonic()
    chart.follow(seconds=0.6)
    assert 0.5 < time.monotonic() - began < 10
    chart.follow(alive=interrupted)
    assert "what writes" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["[1, 2]\n", '{"a": 1}\n', '{"event": "round"}\n', "\udcff"])
def test_what_is_no_event_file_is_named(tmp_path, capsys, content):
    path = tmp_path / "events.jsonl"
    path.write_text(content, errors="surrogateescape")
    with pytest.raises(InvalidInputError, match=r"no event file of this chart") as error:
        charts.training(path).follow()
    assert error.value.where == str(path)
    chart = charts.training(path)
    chart.follow(background=True)
    wait_for(lambda: not chart.following)
    assert str(Path(path)) in capsys.readouterr().err
