"""Reading a finished corpus, and refusing one that is not as it was written."""

import hashlib
import json

import pyarrow as pa
import pytest

from sentiment.corpus import FORMAT, MANIFEST, SCHEMA, is_corpus, open_corpus
from sentiment.errors import InvalidInputError
from sentiment.writing import check_written, with_positions, write_parquet


def batch(first, rows):
    numbers = list(range(first, first + rows))
    columns = {
        "position": numbers,
        "id": [hashlib.sha256(str(n).encode()).hexdigest()[:16] for n in numbers],
        "text": [f"review {n}" for n in numbers],
        "label": [n % 2 for n in numbers],
        "stars": [None] * rows,
        "film": ["tt1"] * rows,
        "source": ["a.csv"] * rows,
        "row": numbers,
    }
    arrays = [pa.array(columns[field.name], field.type) for field in SCHEMA]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


@pytest.fixture
def corpus(tmp_path):
    (tmp_path / "train").mkdir()
    parts = []
    for number, first in enumerate((0, 30)):
        name = f"train/part-{number:05d}.parquet"
        written = write_parquet(tmp_path, name, [batch(first, 20), batch(first + 20, 10)], SCHEMA)
        parts.append(
            {"path": name, "split": "train", "first_position": first, "rows": 30,
             "bytes": written.bytes, "sha256": written.sha256}
        )  # fmt: skip
    manifest = {
        "format": FORMAT,
        "digest": "d",
        "splits": {"train": {"rows": 60, "labels": {"0": 30, "1": 30}}},
        "parts": parts,
    }
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    return tmp_path


def test_a_corpus_is_read_in_order(corpus):
    opened = open_corpus(corpus, verify=True)
    assert opened.splits == ("train",)
    assert (opened.rows("train"), opened.rows("test")) == (60, 0)
    assert opened.labels("train") == {0: 30, 1: 30}
    assert [part.first_position for part in opened.part_files("train")] == [0, 30]
    batches = list(opened.read("train", columns=["position", "text"], batch_rows=7))
    assert all(b.num_rows <= 7 and b.schema.names == ["position", "text"] for b in batches)
    assert [n for b in batches for n in b["position"].to_pylist()] == list(range(60))
    assert next(opened.read("train")).schema.equals(SCHEMA)
    with pytest.raises(InvalidInputError, match="has no test split"):
        next(opened.read("test"))


def test_a_corpus_needs_no_spark():
    import subprocess
    import sys

    code = "import sentiment.corpus, sentiment.sources, sys; sys.exit('pyspark' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_is_no_corpus(tmp_path):
    assert not is_corpus(tmp_path)
    with pytest.raises(InvalidInputError, match="is no corpus"):
        open_corpus(tmp_path)
    (tmp_path / "reviews.csv").write_text("text\n")
    with pytest.raises(InvalidInputError) as error:
        open_corpus(tmp_path / "reviews.csv")
    assert error.value.todo == "make one: sentiment ingest reviews.csv CORPUS"
    (tmp_path / MANIFEST).write_text('{"format": 1}')
    with pytest.raises(InvalidInputError, match="is no corpus's manifest"):
        open_corpus(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", '{"format": "sentiment-corpus-9"}'])
def test_a_manifest_that_is_of_no_use(corpus, content):
    (corpus / MANIFEST).write_text(content)
    with pytest.raises(InvalidInputError) as error:
        open_corpus(corpus)
    assert error.value.where == str(corpus / MANIFEST)


def test_missing_cut_and_altered_files(corpus):
    file = corpus / "train" / "part-00001.parquet"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    with pytest.raises(InvalidInputError, match="is not as ingest wrote it"):
        open_corpus(corpus)
    file.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    open_corpus(corpus)
    with pytest.raises(InvalidInputError, match="sha256"):
        open_corpus(corpus, verify=True)
    file.unlink()
    with pytest.raises(InvalidInputError, match="is missing") as error:
        open_corpus(corpus)
    assert error.value.where == str(file)


def test_positions_run_through_the_batches():
    numbered = with_positions([batch(5, 3), batch(9, 2)], SCHEMA, first=40)
    assert [n for b in numbered for n in b["position"].to_pylist()] == [40, 41, 42, 43, 44]


def test_a_full_disk_leaves_nothing(tmp_path):
    import subprocess
    import sys

    code = f"""
import os, resource, signal
from pathlib import Path
import pyarrow as pa
from sentiment.corpus import QUARANTINE_SCHEMA
from sentiment.errors import SentimentError
from sentiment.writing import write_parquet
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
def batches():
    while True:
        texts = [os.urandom(40).hex() for _ in range(500)]
        yield pa.RecordBatch.from_arrays(
            [pa.array(texts), pa.array(range(500), pa.int64()), pa.array(texts), pa.array(texts)],
            schema=QUARANTINE_SCHEMA)
try:
    write_parquet(Path({str(tmp_path)!r}), "a.parquet", batches(), QUARANTINE_SCHEMA)
except SentimentError as error:
    print(error)
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert f"{tmp_path}/a.parquet: host " in ended.stdout, ended.stderr
    assert "cannot write it: File too large" in ended.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_hosts_do_not_share(tmp_path):
    from sentiment.errors import SentimentError

    with pytest.raises(SentimentError, match="does not see this folder"):
        write_parquet(tmp_path / "elsewhere", "a.parquet", [batch(0, 1)], SCHEMA)
    written = write_parquet(tmp_path, "a.parquet", [batch(0, 1)], SCHEMA)
    (tmp_path / "a.parquet").unlink()
    with pytest.raises(SentimentError, match="wrote it"):
        check_written(tmp_path, [written])
