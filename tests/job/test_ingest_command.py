"""`sentiment ingest` as people run it."""

import gzip
import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

GOOD = "text,label\na fine film,1\na dull film,0\n"


def sentiment(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "sentiment", "ingest", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "200"},
    )


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


def test_a_gzip_broken_in_the_middle_writes_nothing(tmp_path):
    lines = "".join(f"{os.urandom(300).hex()},{n % 2}\n" for n in range(4000))
    data = bytearray(gzip.compress(("text,label\n" + lines).encode()))
    data[-8] ^= 0xFF  # its checksum
    (tmp_path / "x.csv.gz").write_bytes(data)
    ended = sentiment("x.csv.gz", "out", "--master", "local[1]", cwd=tmp_path)
    assert ended.returncode == 3, ended.stderr
    assert "x.csv.gz: a broken .gz: CRC check failed" in ended.stderr
    assert "do:  test it: gzip -t" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv.gz"]
