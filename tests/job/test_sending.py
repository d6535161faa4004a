"""Rows that are sent are the rows that were read."""

import random
from pathlib import Path

import pyarrow as pa
import pytest

from sentiment import sending
from sentiment.corpus import SCHEMA, Corpus
from sentiment.errors import InvalidInputError
from sentiment.sending import check_size, send


def batches(*, count: int, rows: int, chars: int = 40) -> list[pa.RecordBatch]:
    generator = random.Random(1)
    return [
        pa.RecordBatch.from_pydict(
            {
                "position": pa.array(range(number * rows, (number + 1) * rows), pa.int64()),
                "text": [f"caf\u00e9 {generator.random()} ".ljust(chars, "x") for _ in range(rows)],
                "label": pa.array([generator.choice([0, 1, None]) for _ in range(rows)], pa.int8()),
            }
        )
        for number in range(count)
    ]


SENT = pa.schema([SCHEMA.field(name) for name in ("position", "text", "label")])


@pytest.mark.parametrize(
    ("count", "chunk_bytes", "tasks"), [(1, 1 << 20, 1), (7, 1 << 20, 4), (20, 1, 20)]
)
def test_every_row_arrives_once(spark, count, chunk_bytes, tasks):
    given = batches(count=count, rows=30)
    frame = send(spark, iter(given), SENT, chunk_bytes=chunk_bytes)
    assert frame.rdd.getNumPartitions() == tasks
    expected = pa.Table.from_batches(given)
    found = frame.toArrow().sort_by("position")
    assert found.to_pydict() == expected.to_pydict()
    assert found.schema.field("label").type == pa.int8()


def test_no_rows_are_a_frame_too(spark):
    frame = send(spark, iter(()), SENT)
    assert (frame.columns, frame.count()) == (["position", "text", "label"], 0)


def test_a_missing_split_is_said(spark, tmp_path):
    corpus = Corpus(tmp_path, {"splits": {"train": {}}, "parts": []})
    with pytest.raises(InvalidInputError, match="has no test split"):
        sending.split_rows(spark, corpus, "test", ["text"])


def test_too_much_is_refused_with_what_to_do():
    check_size(sending.MOST_BYTES, where="corpus")
    with pytest.raises(InvalidInputError, match="too much to send") as caught:
        check_size(5 << 30, where=str(Path("corpus")))
    assert "SPARKBUNDLE_SHARED_FOLDERS=FOLDER" in str(caught.value)
