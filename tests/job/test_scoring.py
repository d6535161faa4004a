"""What `score` writes, in each format."""

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sentiment.errors import SentimentError
from sentiment.scoring import Scored, write_scores


@pytest.fixture
def scored() -> Scored:
    rows = [
        {"row": 0, "probability": 0.75, "reason": None},
        {"row": 1, "probability": None, "reason": "unknown label: 'a'"},
        {"row": 2, "probability": 0.25, "reason": None},
        {"row": 3, "probability": None, "reason": "unknown label: 'b'"},
    ]
    about = {"file": 'x,"y".csv', "line": 7, "id": "ab", "label": None, "tokens": 3, "known": 1.0}
    schema = pa.schema(
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
    return Scored(pa.Table.from_pylist([about | row for row in rows], schema))


def read(path):
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return list(csv.DictReader(file))
    return pq.read_table(path).to_pylist()


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_every_row_is_in_one_of_two_files(scored, tmp_path, suffix):
    quarantine = write_scores(scored, tmp_path / f"out{suffix}", model_digest="d1")
    rows = read(tmp_path / f"out{suffix}")
    assert [float(row["probability"]) for row in rows] == [0.75, 0.25]
    assert [row["verdict"] for row in rows] == ["praise", "pan"]
    assert {row["model_digest"] for row in rows} == {"d1"}
    assert {row["file"] for row in rows} == {'x,"y".csv'}
    refused = read(quarantine)
    assert [row["row"] for row in refused] == [1, 3]
    assert refused[0]["reason"] == "unknown label: 'a'"
    assert scored.reasons() == {"unknown label": 2}


def test_no_quarantine_is_left_of_an_earlier_run(scored, tmp_path):
    out = tmp_path / "out.csv"
    write_scores(scored, out, model_digest="d1")
    assert write_scores(Scored(scored.accepted), out, model_digest="d1") is None
    assert [p.name for p in tmp_path.iterdir()] == ["out.csv"]


def test_a_place_that_cannot_be_written_is_named(scored, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SentimentError, match="cannot be written"):
        write_scores(scored, tmp_path / "file" / "out.csv", model_digest="d1")
