"""word2vec trained on the reviews: their training split and nothing else."""

import json

import numpy as np
import pytest

from sentiment.corpus import open_corpus
from sentiment.errors import InvalidInputError
from sentiment.text import TOKENIZER
from sentiment.vectors import Policy, open_table, write_table
from sentiment.vectors.gensim_training import TrainingSettings, train_vectors
from tests.job.vector_files import GENSIM_DATA, run, write_corpus


@pytest.fixture(scope="module")
def news():
    """300 articles of Australian news, in gensim's wheel."""
    return (GENSIM_DATA / "lee_background.cor").read_text().splitlines()


def trained(texts, target, **changes):
    source = train_vectors(
        texts,
        about={"name": "news"},
        settings=TrainingSettings(**changes),
        say=lambda line: None,
    )
    policy = Policy(tokenizer=TOKENIZER, lower=True)
    return write_table(target, source.chunks, source=source.about, policy=policy)


def near(table, a, b):
    x, y = table.vectors(table.find([a, b])).astype(np.float64)
    return x @ y / np.linalg.norm(x) / np.linalg.norm(y)


def test_words_that_stand_in_the_same_places_get_vectors_alike(tmp_path):
    """Two groups of words, each with its own surroundings: the groups come apart."""
    rng = np.random.default_rng(3)
    groups = [("film", "movie", "picture"), ("river", "stream", "brook")]
    around = [[f"a{i}" for i in range(30)], [f"b{i}" for i in range(30)]]
    texts = []
    for _ in range(3000):
        which = int(rng.integers(2))
        words = list(rng.choice(around[which], 8))
        words.insert(4, str(rng.choice(groups[which])))
        texts.append(" ".join(words))
    table = trained(texts, tmp_path / "t", dimensions=20, epochs=5)
    assert near(table, "film", "movie") > 0.8
    assert near(table, "river", "brook") > 0.8
    assert near(table, "film", "river") < 0.5


def test_the_table_has_the_frequent_words_by_falling_frequency(tmp_path, news):
    table = trained(news, tmp_path / "t", dimensions=16, epochs=1, min_count=10)
    assert table.word(0) == "the"
    assert table.dimensions == 16
    assert "australia" in table
    assert "Australia" not in table
    assert table.manifest.tokenizer == TOKENIZER
    assert table.manifest.case == "lower"
    assert table.manifest.source["reviews"] == 300
    assert table.manifest.source["settings"]["min_count"] == 10
    assert table.rows < trained(news, tmp_path / "u", dimensions=16, epochs=1, min_count=5).rows


def test_one_worker_and_one_seed_give_one_table(tmp_path, news):
    digests = [
        trained(news, tmp_path / str(number), dimensions=10, epochs=2, seed=seed).digest
        for number, seed in enumerate([4, 4, 5])
    ]
    assert digests[0] == digests[1] != digests[2]


def test_too_few_words_are_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="no word occurs 5 times in the training split"):
        trained(["just one review"], tmp_path / "t")
    with pytest.raises(InvalidInputError, match="no word occurs 5 times"):
        trained([], tmp_path / "t")
    assert list(tmp_path.iterdir()) == []


def test_the_command_reads_the_training_split_only(tmp_path):
    corpus = write_corpus(
        tmp_path / "corpus",
        train=["A fine film with fine actors <br /> indeed"] * 20,
        test=["Unseen words of a secret review"] * 20,
    )
    out = tmp_path / "table"
    ended = run("train", corpus, out, "--dimensions", 8, "--epochs", 2, "--workers", 1, "--json")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["rows"] == 6
    assert ended.stderr.splitlines()[:3] == [
        "word2vec on 20 reviews, 140 tokens",
        "epoch 1/2",
        "epoch 2/2",
    ]
    table = open_table(out, verify=True)
    assert set(table.words()) == {"a", "fine", "film", "with", "actors", "indeed"}
    assert table.manifest.source["corpus"] == open_corpus(corpus).digest


def test_a_corpus_that_is_none_is_refused(tmp_path):
    ended = run("train", tmp_path / "no", tmp_path / "t")
    assert ended.returncode == 3
    assert "is no corpus" in ended.stderr
    assert list(tmp_path.iterdir()) == []
