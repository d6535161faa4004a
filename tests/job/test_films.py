"""Films against their stars."""

import csv
import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from sentiment.cli import cli
from sentiment.errors import InvalidInputError
from sentiment.films import Film, disagreeing, films_of, read_scores
from sentiment.metrics import wilson_interval

COUNT = st.integers(0, 40)


def film(both: int, stars_only: int, model_only: int, neither: int) -> Film:
    return Film("tt1", both, stars_only, model_only, neither, stars=5.0)


def row(name: str | None, stars: int | None, verdict: str) -> dict:
    return {"film": name, "stars": stars, "verdict": verdict, "probability": 0.5}


def test_each_review_is_counted_once_or_said_to_be_of_no_use():
    rows = [
        row("tt1", 10, "praise"),
        row("tt1", 7, "pan"),
        row("tt1", 4, "praise"),
        row("tt1", 1, "pan"),
        row("tt1", 5, "pan"),
        row("tt2", None, "pan"),
        row(None, 9, "praise"),
        row("tt0", 9, "praise"),
    ]
    told = films_of(rows)
    assert told.films == (Film("tt0", 1, 0, 0, 0, 9.0), Film("tt1", 1, 1, 1, 1, 5.5))
    assert (told.rows, told.without_film, told.without_stars, told.neutral) == (8, 1, 1, 1)


def test_wilson_is_the_published_interval():
    """Newcombe, "Two-sided confidence intervals for the single proportion" (1998), table I."""
    for (count, n), expected in {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0.0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }.items():
        assert wilson_interval(count / n, n, z=1.959964) == pytest.approx(expected, abs=5e-5)


@given(COUNT, COUNT, COUNT, COUNT)
def test_an_interval_holds_its_difference_and_turns_with_the_question(a, b, c, d):
    if a + b + c + d == 0:
        return
    low, high = film(a, b, c, d).interval(0.95)
    difference = film(a, b, c, d).difference
    assert -1 <= low <= difference <= high <= 1
    # The same of pans in the place of praise, and of stars in the place of the model.
    assert film(d, c, b, a).interval(0.95) == pytest.approx((-high, -low))
    assert film(a, c, b, d).interval(0.95) == pytest.approx((-high, -low))
    wider = film(a, b, c, d).interval(0.99)
    assert wider[0] <= low
    assert high <= wider[1]


def test_of_twenty_intervals_nineteen_or_more_hold_what_is_so():
    """The continuity correction makes them a little too wide, as the paper says."""
    chance = random.Random(3)
    held = 0
    for _ in range(2000):
        weights = (0.5, 0.1, 0.05, 0.35)
        kinds = chance.choices(range(4), weights, k=30)
        low, high = film(*(kinds.count(kind) for kind in range(4))).interval(0.95)
        held += low <= 0.05 - 0.1 <= high
    assert 0.95 <= held / 2000 <= 0.985


def test_the_surest_come_first_and_small_films_are_left_out():
    films = [
        Film("sure", 0, 0, 50, 50, 2.0),
        Film("surer", 0, 90, 0, 10, 9.0),
        Film("alike", 50, 2, 2, 50, 5.0),
        Film("small", 0, 0, 4, 0, 1.0),
    ]
    found = disagreeing(films, least=5)
    assert [one.film for one, _ in found] == ["surer", "sure"]
    (_, (low, high)), _ = found
    assert high < 0
    assert low > -1
    assert [one.film for one, _ in disagreeing(films, least=4)] == ["surer", "sure", "small"]


def write(path, rows) -> None:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("".join(json.dumps(one) + "\n" for one in rows))


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_the_command_reads_what_score_writes(tmp_path, suffix):
    path = tmp_path / f"scores{suffix}"
    write(
        path, [row("tt9", 9, "pan")] * 12 + [row("tt8", 9, "praise")] * 12 + [row(None, 3, "pan")]
    )
    done = CliRunner().invoke(cli, ["films", str(path), "--json"])
    told = json.loads(done.stdout)
    assert (told["rows"], told["used"], told["films"], told["without_film"]) == (25, 24, 2, 1)
    (found,) = told["disagreeing"]
    assert (found["film"], found["reviews"], found["difference"]) == ("tt9", 12, -1.0)
    shown = CliRunner().invoke(cli, ["films", str(path)])
    assert "tt9" in shown.stdout
    assert "tt8" not in shown.stdout
    assert "24 of 25 reviews" in shown.stderr


@pytest.mark.parametrize(
    "name", ["none.jsonl", "bad.jsonl", "bad.csv", "bad.parquet", "short.parquet"]
)
def test_what_score_did_not_write_is_refused(tmp_path, name):
    path = tmp_path / name
    if name.startswith("bad"):
        path.write_bytes(b"\xff\xfe no scores\nat all")
    if name.startswith("short"):
        pq.write_table(pa.table({"film": ["tt1"]}), path)
    said = "is not there" if name.startswith("none") else "is not what sentiment score writes"
    with pytest.raises(InvalidInputError, match=said):
        list(read_scores(path))


def test_scores_without_films_are_an_error(tmp_path):
    write(tmp_path / "scores.csv", [row(None, 8, "pan"), row("tt1", 5, "pan")])
    done = CliRunner().invoke(cli, ["films", str(tmp_path / "scores.csv")])
    assert "1 have no film, 0 no stars, 1 neutral ones" in str(done.exception)
