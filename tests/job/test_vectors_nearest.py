"""The nearest words are gensim's."""

import json

import numpy as np
import pytest
from gensim.models import KeyedVectors

from sentiment.errors import SentimentError
from sentiment.vectors import nearest as module
from sentiment.vectors import write_table
from sentiment.vectors.nearest import nearest
from sentiment.vectors.source import open_source
from tests.job.vector_files import GENSIM_DATA, run, some_vectors, table_of

FILE = GENSIM_DATA / "euclidean_vectors.bin"


def table_from(path, target, **settings):
    opened = open_source(str(path), progress=lambda share: None)
    return write_table(target, opened.chunks, source=opened.about, **settings)


@pytest.fixture(scope="module")
def theirs():
    return KeyedVectors.load_word2vec_format(str(FILE), binary=True)


@pytest.fixture(scope="module", params=["fp32", "fp16", "int8"])
def table(request, tmp_path_factory):
    return table_from(FILE, tmp_path_factory.mktemp("n") / "t", dtype=request.param)


@pytest.fixture(autouse=True, params=["one block", "many blocks"])
def blocks(request, monkeypatch):
    if request.param == "many blocks":
        monkeypatch.setattr(module, "_BLOCK_BYTES", 4 * 10 * 13)


@pytest.mark.parametrize(
    ("plus", "minus"), [([0], []), ([5, 9], []), ([5, 9], [100]), ([3], [4, 2000, 2746])]
)
def test_the_same_words_as_gensim(table, theirs, plus, minus):
    plus, minus = ([theirs.index_to_key[i] for i in rows] for rows in (plus, minus))
    found = nearest(table, plus, minus=minus, top=10)
    expected = theirs.most_similar(positive=plus, negative=minus, topn=10)
    close = {"fp32": 1e-6, "fp16": 2e-3, "int8": 3e-2}[table.manifest.dtype]
    np.testing.assert_allclose(
        [one.cosine for one in found], [cosine for _, cosine in expected], atol=close
    )
    if table.manifest.dtype == "fp32":
        assert [one.word for one in found] == [word for word, _ in expected]
    else:  # neighbours that are nearly as near may change places
        exact = dict(
            theirs.most_similar(positive=plus, negative=minus, topn=theirs.vectors.shape[0])
        )
        assert all(exact[one.word] >= expected[-1][1] - close for one in found)
    assert not {one.word for one in found} & {*plus, *minus}
    assert all(table.word(one.row) == one.word for one in found)


def test_more_than_there_are(tmp_path):
    table = table_of(tmp_path / "t", ["a", "b", "c"], dtype="fp32")
    assert {one.word for one in nearest(table, ["a"], top=100)} == {"b", "c"}


def test_zeros_are_near_to_nothing(tmp_path):
    vectors = np.array([[1, 0], [0, 0], [-1, 0], [1, 1]], np.float32)
    table = table_of(tmp_path / "t", ["a", "zero", "b", "c"], vectors)
    found = nearest(table, ["a"])
    assert [(one.word, round(one.cosine, 3)) for one in found] == [
        ("c", 0.707),
        ("zero", 0),
        ("b", -1),
    ]
    assert [one.cosine for one in nearest(table, ["zero"])] == [0, 0, 0]


def test_equal_cosines_come_in_the_order_of_the_rows(tmp_path):
    table = table_of(tmp_path / "t", [f"w{i}" for i in range(50)], np.ones((50, 10), np.float32))
    assert [one.row for one in nearest(table, ["w3"], top=5)] == [0, 1, 2, 4, 5]


def test_a_missing_word_is_named(tmp_path):
    table = table_of(tmp_path / "t", ["film", "plot"])
    with pytest.raises(SentimentError, match=r"'qqx' is not in the table\n.*other words"):
        nearest(table, ["film"], minus=["qqx"])
    with pytest.raises(SentimentError, match=r"'Film', 'x' are not in .*\n.*write 'film'"):
        nearest(table, ["Film", "x"])


def test_the_command(tmp_path):
    table = table_of(tmp_path / "t", [f"w{i}" for i in range(30)], some_vectors(30, 4))
    expected = nearest(table, ["w1", "w2"], minus=["w3"], top=4)
    ended = run("nearest", table.path, "w1", "w2", "--minus", "w3", "--top", 4, "--json")
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)["nearest"]
    assert [(one["word"], one["row"]) for one in told] == [(o.word, o.row) for o in expected]
    shown = run("nearest", table.path, "w1", "w2", "--minus", "w3", "--top", 4).stdout
    assert [line.split("\t")[1] for line in shown.splitlines()] == [one.word for one in expected]
    missing = run("nearest", table.path, "W1")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "'W1' is not in the table" in missing.stderr
    assert "write 'w1'" in missing.stderr
