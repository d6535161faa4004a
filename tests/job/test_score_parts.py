"""Scores on disk: what `score` writes, in each format, and how a run goes on."""

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sentiment.errors import InvalidInputError, SentimentError
from sentiment.score_parts import Counts, parts_directory, score_parts

RUN = {"format": 1, "model": "d1", "source": "reviews.csv"}
ABOUT = {"file": 'x,"y".csv', "line": 7, "id": "ab", "label": None, "tokens": 3, "known": 1.0}
SCHEMA = pa.schema(
    {
        "row": pa.int64(),
        "file": pa.string(),
        "line": pa.int64(),
        "id": pa.string(),
        "label": pa.int8(),
        "probability": pa.float64(),
        "tokens": pa.int64(),
        "known": pa.float64(),
        "reason": pa.string(),
    }
)


def table(*rows: tuple[int, float | str]) -> pa.Table:
    """Rows by number, each with its probability or its reason."""
    cells = [
        {
            "row": row,
            "probability": value if isinstance(value, float) else None,
            "reason": value if isinstance(value, str) else None,
        }
        for row, value in rows
    ]
    return pa.Table.from_pylist([ABOUT | one for one in cells], SCHEMA)


FIRST = table((0, 0.75), (1, "unknown label: 'a'"))
SECOND = table((2, 0.25), (3, "unknown label: 'b'"))


def read(path):
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return list(csv.DictReader(file))
    return pq.read_table(path).to_pylist()


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_every_row_is_in_one_of_two_files(tmp_path, suffix):
    out = tmp_path / f"out{suffix}"
    with score_parts(out, RUN, replace=False) as parts:
        parts.add(FIRST, first=0, last=3)
        parts.add(SECOND, first=3, last=4)
        assert parts.done == 4
        assert parts.counts() == Counts(2, 2, {"unknown label": 2})
        quarantine = parts.finish(model_digest="d1")
    rows = read(out)
    assert [float(row["probability"]) for row in rows] == [0.75, 0.25]
    assert [row["verdict"] for row in rows] == ["praise", "pan"]
    assert {row["model_digest"] for row in rows} == {"d1"}
    assert {row["file"] for row in rows} == {'x,"y".csv'}
    refused = read(quarantine)
    assert [row["row"] for row in refused] == [1, 3]
    assert refused[0]["reason"] == "unknown label: 'a'"
    assert {path.name for path in tmp_path.iterdir()} == {out.name, quarantine.name}


def test_no_quarantine_is_left_of_an_earlier_run(tmp_path):
    out = tmp_path / "out.csv"
    for rows, name in ((FIRST, out.with_name("out.csv.quarantine.jsonl")), (table((0, 0.5)), None)):
        with score_parts(out, RUN, replace=True) as parts:
            parts.add(rows, first=0, last=1)
            assert parts.finish(model_digest="d1") == name
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


def test_a_run_goes_on_with_the_parts_of_the_same_run_only(tmp_path):
    out = tmp_path / "out.jsonl"
    with pytest.raises(KeyboardInterrupt), score_parts(out, RUN, replace=False) as parts:
        parts.add(FIRST, first=0, last=3)
        raise KeyboardInterrupt
    with score_parts(out, RUN, replace=False) as parts:
        assert parts.done == 3
    other = RUN | {"model": "d2"}
    with (
        pytest.raises(InvalidInputError, match="not the same is the model"),
        score_parts(out, other, replace=False),
    ):
        pass
    with score_parts(out, other, replace=True) as parts:
        assert parts.done == 0
    assert not parts_directory(out).exists(), "without a part it is nothing"


def test_a_folder_of_somebody_else_is_left_alone(tmp_path):
    out = tmp_path / "out.jsonl"
    parts_directory(out).mkdir()
    (parts_directory(out) / "mine").write_text("precious")
    for replace in (False, True):
        with (
            pytest.raises(InvalidInputError, match="is in the way"),
            score_parts(out, RUN, replace=replace),
        ):
            pass
    assert (parts_directory(out) / "mine").read_text() == "precious"


def test_a_gap_ends_what_counts(tmp_path):
    with score_parts(tmp_path / "out.jsonl", RUN, replace=False) as parts:
        parts.add(FIRST, first=0, last=1)
        parts.add(SECOND, first=2, last=3)
        assert parts.done == 1
        assert sum(part.num_rows for part in parts.tables()) == 2


def test_two_runs_into_one_place_do_not_meet(tmp_path):
    with (
        score_parts(tmp_path / "out.jsonl", RUN, replace=False),
        pytest.raises(SentimentError, match="another run") as caught,
        score_parts(tmp_path / "out.jsonl", RUN, replace=True),
    ):
        pass
    assert caught.value.code == 5


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(SentimentError, match="cannot be written"),
        score_parts(tmp_path / "file" / "out.csv", RUN, replace=False),
    ):
        pass
