"""The word table: what is written is found again, and nothing else is."""

import itertools
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sentiment.errors import INVALID_INPUT, InvalidInputError, SentimentError
from sentiment.vectors import Chunk, Policy, WordTable, hashes, open_table, write_table
from sentiment.vectors.manifest import FORMAT, files_of
from sentiment.vectors.values import Stored, restored
from tests.job.vector_files import some_vectors, table_of

WORD = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
ANY_TEXT = st.text(st.characters(), max_size=12)  # lone surrogates and the empty text too
IN_TMP = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@IN_TMP
@given(
    words=st.lists(WORD, min_size=1, max_size=40, unique=True),
    others=st.lists(ANY_TEXT, max_size=20),
    dtype=st.sampled_from(["fp16", "fp32", "int8"]),
    cuts=st.lists(st.integers(1, 39), max_size=3),
)
@example(
    words=["a b", "a\nb", "\n", "ß", "İ"],
    others=["", "a", "\ud800", "a b "],
    dtype="fp16",
    cuts=[2],
)
def test_what_is_written_is_found_and_nothing_else(tmp_path_factory, words, others, dtype, cuts):
    vectors = some_vectors(len(words), 3)
    bounds = [0, *sorted({cut for cut in cuts if cut < len(words)}), len(words)]
    chunks = [Chunk(words[a:b], vectors[a:b]) for a, b in itertools.pairwise(bounds)]
    target = tmp_path_factory.mktemp("table") / "t"
    table = write_table(target, chunks, source={"name": "test"}, dtype=dtype)
    assert list(table.words()) == words
    assert table.rows == len(table) == len(words)
    np.testing.assert_array_equal(table.find(words), np.arange(len(words)))
    found = table.vectors(table.find(words))
    if dtype == "int8":  # half a step of each vector's own scale
        assert (abs(found - vectors).max(axis=1) <= abs(vectors).max(axis=1) / 127 * 0.501).all()
    else:
        rounded = vectors.astype({"fp16": np.float16, "fp32": np.float32}[dtype])
        np.testing.assert_array_equal(found, rounded.astype(np.float32))
    np.testing.assert_array_equal(table.block(0, table.rows), found)
    rank = {word: row for row, word in enumerate(words)}
    assert table.find(others).tolist() == [rank.get(word, -1) for word in others]
    assert [word in table for word in others] == [word in rank for word in others]


def test_words_of_one_hash_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(
        hashes, "hash_joined", lambda words: np.zeros(len(words.lengths), np.uint64)
    )
    words = ["film", "plot", "mlif", "a", "actor"]
    vectors = some_vectors(5, 4)
    chunks = [Chunk(words[:2], vectors[:2]), Chunk(words[2:], vectors[2:])]
    table = write_table(tmp_path / "t", chunks, source={"name": "test"}, dtype="fp32")
    assert table.manifest.counts == {"read": 5, "repeated": 0, "left_out": 0, "zero": 0}
    assert table.find([*words, "milf", "b", "", "films"]).tolist() == [
        0,
        1,
        2,
        3,
        4,
        -1,
        -1,
        -1,
        -1,
    ]
    np.testing.assert_array_equal(table.vectors(table.find(words)), vectors)


def test_the_hash_is_the_one_that_is_documented():
    """Were it another, tables that were written before would find nothing."""

    def documented(word):
        value = 0
        for i, byte in enumerate(word):
            value += (byte + 1) * pow(0x9E3779B97F4A7C15, i + 1, 2**64)
        value %= 2**64
        for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
            value = (value ^ value >> 33) * factor % 2**64
        return value ^ value >> 33

    words = [b"the", b"a", b"x" * 300, "ärger".encode(), b"\xff", b"\0"]
    assert hashes.hash_words(words).tolist() == [documented(word) for word in words]
    assert hashes.hash_words([b"the"])[0] == 0x576A948DC41D2183
    assert hashes.hash_words([b"", b"the", b""]).tolist() == [0, 0x576A948DC41D2183, 0]


def test_a_word_that_is_no_str_is_not_in_it(tmp_path):
    assert 7 not in table_of(tmp_path / "t", ["7"])


def test_rows_without_a_word_are_zeros(tmp_path):
    table = table_of(tmp_path / "t", ["a", "b"], np.ones((2, 4), np.float32))
    rows = np.array([[1, -1], [-1, 0]])
    vectors = table.vectors(rows)
    assert vectors.dtype == np.float32
    assert vectors[..., 0].tolist() == [[1, 0], [0, 1]]
    assert table.vectors(np.empty(0, np.int64)).shape == (0, 4)
    for wrong in ([2], [-2]):
        with pytest.raises(IndexError):
            table.vectors(np.array(wrong))
    for wrong in (-1, 2):
        with pytest.raises(IndexError):
            table.word(wrong)


def test_the_mapping_is_read_only(tmp_path):
    table = table_of(tmp_path / "t", ["a"])
    with pytest.raises(ValueError, match="read-only"):
        table._stored.values[0] = 0


def test_a_table_is_pickled_as_its_path(tmp_path):
    words = [f"w{i}" for i in range(5000)]
    table = table_of(tmp_path / "t", words)
    data = pickle.dumps(table)
    assert len(data) < 1000
    again = pickle.loads(data)
    assert again.digest == table.digest
    assert again.find(["w4999"]).tolist() == [4999]


def test_the_digest_names_the_content(tmp_path):
    words, vectors = ["a", "b"], some_vectors(2, 4)
    digests = {
        "same": table_of(tmp_path / "1", words, vectors).digest,
        "again": table_of(tmp_path / "2", words, vectors).digest,
        "order": table_of(tmp_path / "3", words[::-1], vectors).digest,
        "dtype": table_of(tmp_path / "4", words, vectors, dtype="fp32").digest,
        "value": table_of(tmp_path / "5", words, vectors + 1).digest,
        "case": table_of(tmp_path / "6", words, vectors, policy=Policy(lower=True)).digest,
        "int8": table_of(tmp_path / "7", words, vectors, dtype="int8").digest,
        "length": table_of(tmp_path / "8", words, vectors, policy=Policy(normalise=True)).digest,
    }
    assert digests["same"] == digests["again"]
    assert len(set(digests.values())) == len(digests) - 1


def test_the_matrix_is_a_plain_numpy_file(tmp_path):
    vectors = some_vectors(300, 7)
    table = table_of(tmp_path / "t", [f"w{i}" for i in range(300)], vectors, dtype="fp32")
    np.testing.assert_array_equal(np.load(table.path / "vectors.npy"), vectors)
    assert (table.path / "words.txt").read_text().split("\n")[:2] == ["w0", "w1"]


@pytest.mark.parametrize("promised", [None, 0, 2, 3, 10**12])
def test_a_promise_of_rows_changes_nothing(tmp_path, promised):
    words, vectors = ["a", "b", "a", "c"], some_vectors(4, 4)[[0, 1, 0, 2]]
    table = table_of(tmp_path / "t", words, vectors, promised=promised)
    assert (
        open_table(table.path, verify=True).digest
        == table_of(tmp_path / "u", words, vectors).digest
    )


# --- policies


def test_a_word_that_comes_again_with_its_vector_is_counted(tmp_path):
    vectors = np.array([[1, 2], [3, 4], [1, 2], [5, 6], [3, 4]], np.float32)
    words = ["a", "b", "a", "c", "b"]
    within = table_of(tmp_path / "1", words, vectors)
    chunks = [Chunk([word], vectors[i : i + 1]) for i, word in enumerate(words)]
    across = write_table(tmp_path / "2", chunks, source={"name": "test"})
    for table in (within, across):
        assert list(table.words()) == ["a", "b", "c"]
        assert table.manifest.counts == {"read": 5, "repeated": 2, "left_out": 0, "zero": 0}
        assert table.vectors(np.arange(3)).tolist() == [[1, 2], [3, 4], [5, 6]]
    assert within.digest == across.digest


@pytest.mark.parametrize("chunk_rows", [1, 3])
def test_a_word_with_two_vectors_is_refused_or_its_first_kept(tmp_path, chunk_rows):
    vectors = np.array([[1, 2], [3, 4], [1, 3]], np.float32)
    words = ["a", "b", "a"]

    def chunks():
        for start in range(0, 3, chunk_rows):
            rows = slice(start, start + chunk_rows)
            yield Chunk(words[rows], vectors[rows], lambda i, start=start: f"line {start + i + 1}")

    with pytest.raises(InvalidInputError, match=r"^line 3: the word 'a' comes again, with anot"):
        write_table(tmp_path / "t", chunks(), source={"name": "test"})
    assert list(tmp_path.iterdir()) == []
    kept = write_table(
        tmp_path / "t", chunks(), source={"name": "test"}, policy=Policy(keep_first=True)
    )
    assert kept.vectors(kept.find(["a"])).tolist() == [[1, 2]]
    assert kept.manifest.counts == {"read": 3, "repeated": 1, "left_out": 0, "zero": 0}


def test_lower_case_keeps_the_more_frequent_spelling(tmp_path):
    vectors = some_vectors(5, 4)
    words = ["Film", "film", "PLOT", "Ärger", "plot"]
    table = table_of(tmp_path / "t", words, vectors, dtype="fp32", policy=Policy(lower=True))
    assert list(table.words()) == ["film", "plot", "ärger"]
    np.testing.assert_array_equal(table.vectors(np.arange(3)), vectors[[0, 2, 3]])
    assert table.manifest.counts["repeated"] == 2
    assert table.manifest.case == "lower"
    assert "Film" not in table


def test_top_counts_words_of_the_table_not_of_the_source(tmp_path):
    words = ["A", "a", "b", "c", "d"]
    policy = Policy(lower=True, top=3)
    assert list(table_of(tmp_path / "1", words, policy=policy).words()) == ["a", "b", "c"]
    vectors = some_vectors(5, 4)

    def chunks():
        for i in range(4):
            yield Chunk(words[i : i + 1], vectors[i : i + 1])
        raise AssertionError("read on after the table was full")

    table = write_table(tmp_path / "2", chunks(), source={"name": "test"}, policy=policy)
    assert list(table.words()) == ["a", "b", "c"]


def test_many_chunks_with_repeats_agree_with_a_dict(tmp_path):
    rng = np.random.default_rng(5)
    words = [f"w{number}" for number in rng.integers(0, 3000, 8000)]
    vectors = some_vectors(len(words), 2)
    first: dict[str, int] = {}
    for row, word in enumerate(words):
        first.setdefault(word, row)
    chunks = [Chunk(words[i : i + 97], vectors[i : i + 97]) for i in range(0, len(words), 97)]
    table = write_table(
        tmp_path / "t", chunks, source={"name": "t"}, dtype="fp32", policy=Policy(keep_first=True)
    )
    assert list(table.words()) == list(first)
    np.testing.assert_array_equal(table.find(list(first)), np.arange(len(first)))
    np.testing.assert_array_equal(
        table.vectors(np.arange(len(first))), vectors[list(first.values())]
    )


def test_no_words_empty_words_and_values_without_a_place_are_refused(tmp_path):
    good = some_vectors(2, 4)
    bad = good.copy()
    bad[1, 2] = np.nan
    huge = good.copy()
    huge[0, 1] = 70_000
    cases = [
        ([], "holds no word"),
        ([Chunk([], good[:0])], "holds no word"),
        ([Chunk(["a", ""], good)], "row 2 of the chunk: the word is empty"),
        ([Chunk(["a", "\ud800"], good)], "row 2 of the chunk: the word is not valid Unicode"),
        ([Chunk(["a", "b"], bad)], "row 2 of the chunk: value 3 of 'b' is nan"),
        (
            [Chunk(["a", "b"], huge)],
            "row 1 of the chunk: value 2 of 'a' is 70000.0: it does not fit",
        ),
        ([Chunk(["a", "b"], good), Chunk(["c"], good[:1, :3])], r"shape \(1, 3\)"),
    ]
    for chunks, message in cases:
        with pytest.raises(InvalidInputError, match=message):
            write_table(tmp_path / "t", chunks, source={"name": "test"})
        assert list(tmp_path.iterdir()) == []
    assert (
        table_of(tmp_path / "t", ["a", "b"], huge, dtype="fp32").vectors(np.array([0]))[0, 1]
        == 70_000
    )


def test_normalised_vectors_have_length_1_and_zeros_are_counted(tmp_path):
    tiny, huge = np.full(4, 1e-30, np.float32), np.full(4, 3e38, np.float32)
    vectors = np.concatenate([some_vectors(2, 4), [np.zeros(4), tiny, huge]]).astype(np.float32)
    words = ["a", "b", "zero", "tiny", "huge"]
    for dtype, close in (("fp32", 1e-6), ("fp16", 1e-3), ("int8", 1e-2)):
        table = table_of(
            tmp_path / dtype, words, vectors, dtype=dtype, policy=Policy(normalise=True)
        )
        lengths = np.linalg.norm(table.vectors(np.arange(5)), axis=1)
        np.testing.assert_allclose(lengths, [1, 1, 0, 1, 1], atol=close)
        assert table.manifest.normalised is True
        assert table.manifest.counts["zero"] == 1
    plain = table_of(tmp_path / "plain", words, vectors, dtype="fp32")
    assert (plain.manifest.normalised, plain.manifest.counts["zero"]) == (False, 1)


def test_int8_has_a_scale_a_vector_and_no_nan(tmp_path):
    vectors = np.array(
        [[1, -127, 3], [0, 0, 0], [1e-3, 2e-3, -4e-3], [1e-45, 2e-43, 0], [3e38, -3e38, 0]],
        np.float32,
    )
    table = table_of(tmp_path / "t", list("abcde"), vectors, dtype="int8")
    found = table.vectors(np.arange(5))
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert found[:2].tolist() == [[1, -127, 3], [0, 0, 0]]
    np.testing.assert_allclose(found[2], vectors[2], atol=4e-3 / 254)
    np.testing.assert_allclose(found[4], vectors[4], rtol=1e-6)
    assert np.load(table.path / "vectors.npy").dtype == np.int8
    assert np.load(table.path / "scales.npy").tolist()[:2] == [1, 0]


def test_only_the_words_of_a_corpus_are_kept(tmp_path):
    words = ["The", "film", "The", "Plot", "plot", "qqx", "good"]
    vectors = some_vectors(7, 4)
    only = frozenset(["the", "film", "plot", "good"])
    kept = table_of(
        tmp_path / "1", words, vectors, dtype="fp32", policy=Policy(only=only, lower=True)
    )
    assert list(kept.words()) == ["the", "film", "plot", "good"]
    np.testing.assert_array_equal(kept.vectors(np.arange(4)), vectors[[0, 1, 3, 6]])
    counts = kept.manifest.counts
    assert counts == {"read": 7, "repeated": 2, "left_out": 1, "zero": 0}
    assert kept.rows == counts["read"] - counts["repeated"] - counts["left_out"]
    exact = table_of(tmp_path / "2", words, vectors, policy=Policy(only=only))
    assert list(exact.words()) == ["film", "plot", "good"]
    top = table_of(tmp_path / "3", words, vectors, policy=Policy(only=only, top=2))
    assert list(top.words()) == ["film", "plot"]


def test_nothing_of_the_corpus_is_refused(tmp_path):
    only = frozenset(["the", "film"])
    with pytest.raises(InvalidInputError, match=r"none of its 2 words .*\n.* give --lower"):
        table_of(tmp_path / "t", ["The", "Plot"], policy=Policy(only=only))
    with pytest.raises(InvalidInputError, match=r"none of its 1 words .*\n.* the corpus' language"):
        table_of(tmp_path / "t", ["Plot"], policy=Policy(only=only))
    assert list(tmp_path.iterdir()) == []


def test_a_refused_word_is_placed_in_what_is_left_of_a_chunk(tmp_path):
    bad = some_vectors(3, 4)
    bad[[0, 2], 1] = np.nan  # what is left out is not looked at
    with pytest.raises(InvalidInputError, match="row 3 of the chunk: value 2 of 'film' is nan"):
        table_of(tmp_path / "t", ["a", "b", "film"], bad, policy=Policy(only=frozenset(["film"])))


# --- what is there already


def test_a_table_gives_way_only_when_told_and_nothing_else_does(tmp_path):
    table_of(tmp_path / "t", ["a"])
    with pytest.raises(SentimentError, match="exists already"):
        table_of(tmp_path / "t", ["b"])
    with pytest.raises(InvalidInputError):  # fails half-way: the old one stays
        table_of(tmp_path / "t", ["b", ""], replace=True)
    assert list(open_table(tmp_path / "t").words()) == ["a"]
    assert list(table_of(tmp_path / "t", ["b"], replace=True).words()) == ["b"]
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "mine").write_text("keep")
    with pytest.raises(SentimentError, match="is no word table"):
        table_of(tmp_path / "letters", ["b"], replace=True)
    assert (tmp_path / "letters" / "mine").read_text() == "keep"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["letters", "t"]


# --- damage


@pytest.mark.parametrize("name", files_of("int8"))
def test_one_flipped_byte_is_found_by_verify(tmp_path, name):
    table = table_of(tmp_path / "t", [f"w{i}" for i in range(50)], dtype="int8")
    path = table.path / name
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(
        InvalidInputError, match=f"{name}: the word table is damaged: its sha256"
    ) as e:
        open_table(table.path, verify=True)
    assert e.value.code == INVALID_INPUT


@pytest.mark.parametrize("name", files_of("int8"))
def test_a_missing_or_cut_file_is_found_at_once(tmp_path, name):
    path = table_of(tmp_path / "t", ["a", "b"], dtype="int8").path / name
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises(InvalidInputError, match=f"{name}: the word table is damaged: it has"):
        open_table(tmp_path / "t")
    path.unlink()
    with pytest.raises(
        InvalidInputError, match=f"{name}: the word table is damaged: this file is m"
    ):
        open_table(tmp_path / "t")


def test_a_manifest_that_was_changed_is_refused(tmp_path):
    path = table_of(tmp_path / "t", ["a", "b"]).path / "manifest.json"
    whole = json.loads(path.read_text())

    def opened(**changes):
        path.write_text(json.dumps({**whole, **changes}))
        return open_table(tmp_path / "t")

    assert opened().rows == 2
    files = whole["files"]
    cases = [
        ({"rows": 3}, "altered"),
        ({"dtype": "fp32"}, "altered"),
        ({"case": "lower"}, "altered"),
        ({"files": files | {"words.txt": {"bytes": 4, "sha256": "0" * 64}}}, "altered"),
        ({"files": {}}, "altered"),
        ({"rows": "many"}, "altered"),
        ({"normalised": True}, "altered"),
        ({"dtype": "int8"}, "altered"),
        ({"dtype": "int4"}, "altered"),
        ({"format": FORMAT - 1}, "has format 1, this program reads format 2\n.* build it again"),
        ({"format": FORMAT + 1}, "is newer: it has format 3, .* 2\n.* use a newer program"),
        ({"format": "two"}, "has format two, this program reads format 2"),
        ({"kind": "cake"}, "no word table"),
    ]
    for changes, message in cases:
        with pytest.raises(InvalidInputError, match=message):
            opened(**changes)
    path.write_text("{")
    with pytest.raises(InvalidInputError, match="no word table"):
        open_table(tmp_path / "t")
    path.unlink()
    with pytest.raises(InvalidInputError, match=r"manifest.json: is missing"):
        open_table(tmp_path / "t")
    with pytest.raises(InvalidInputError, match="is not a directory"):
        open_table(tmp_path / "t" / "words.txt")
    with pytest.raises(InvalidInputError, match="does not exist"):
        open_table(tmp_path / "nowhere")


def test_no_file_of_a_table_is_unpickled(tmp_path):
    """A matrix of Python objects would run code: it is refused even with a manifest to match."""
    table = table_of(tmp_path / "t", ["a"])
    canary = tmp_path / "canary"

    class Bomb:
        def __reduce__(self):
            return (open, (str(canary), "w"))

    np.save(table.path / "vectors.npy", np.array([[Bomb()]], dtype=object), allow_pickle=True)
    content = json.loads((table.path / "manifest.json").read_text())
    manifest = table.manifest
    files = dict(manifest.files)
    size = (table.path / "vectors.npy").stat().st_size
    files["vectors.npy"] = type(files["vectors.npy"])(bytes=size, sha256="0" * 64)
    content.update(type(manifest)(**{**vars(manifest), "files": files}).as_json())
    (table.path / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(InvalidInputError, match="damaged"):
        open_table(table.path)
    assert not canary.exists()


# --- memory

TOUCH = """
import sys
import numpy as np
from sentiment.vectors import open_table

def memory():
    lines = open("/proc/self/smaps_rollup").read().splitlines()[1:]
    fields = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    private = fields["Private_Clean"] + fields["Private_Dirty"]
    return np.array([private, fields["Pss"], fields["Rss"]])

# What the libraries allocate at first use is not the table's.
open_table(sys.argv[1]).find(["a"])
before = memory()
table = open_table(sys.argv[2])
total = 0.0
for start in range(0, table.rows, 2000):
    rows = table.find([f"w{i}" for i in range(start, min(start + 2000, table.rows))])
    total += float(table.vectors(rows).sum())
assert rows[-1] == table.rows - 1
print("ready", flush=True)
sys.stdin.readline()  # until the other process has touched all of it too
print(*(memory() - before), flush=True)
sys.stdin.readline()
"""


def test_two_processes_share_one_copy(tmp_path):
    small = table_of(tmp_path / "small", ["a"])
    rows, dimensions = 40_000, 256
    chunks = (
        Chunk([f"w{i}" for i in range(a, a + 4000)], some_vectors(4000, dimensions, seed=a))
        for a in range(0, rows, 4000)
    )
    table = write_table(tmp_path / "t", chunks, source={"name": "test"}, dtype="fp32")
    size = rows * dimensions * 4
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TOUCH, str(small.path), str(table.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    try:
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        figures = []
        for process in processes:
            process.stdin.write("\n")
            process.stdin.flush()
            figures.append([int(figure) for figure in process.stdout.readline().split()])
    finally:
        for process in processes:
            process.communicate("\n", timeout=60)
    for private, proportional, resident in figures:
        assert resident > 0.9 * size  # all of it was touched,
        assert private < size / 8  # and is nobody's own
        assert proportional < 0.7 * size


def test_opening_reads_none_of_the_files(tmp_path):
    """The time to open does not depend on the size: nothing but headers is read."""
    table = table_of(tmp_path / "t", [f"w{i}" for i in range(20_000)], some_vectors(20_000, 64))
    script = (
        "import sys\n"
        "from sentiment.vectors import open_table\n"
        "read = lambda: int(open('/proc/self/io').readline().split()[1])\n"
        "before = read()\n"
        "table = open_table(sys.argv[1])\n"
        "print(read() - before)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, str(table.path)], capture_output=True, text=True, check=True
    )
    assert int(ended.stdout) < 64 * 1024
    assert isinstance(table, WordTable)


def test_every_fp16_number_is_restored_as_numpy_does():
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    halves = np.tile(halves[np.isfinite(halves)], 5)  # more than a block
    found = restored(Stored(halves.reshape(-1, 5)))
    expected = halves.astype(np.float32).reshape(-1, 5)
    np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))
