"""How much of a corpus a table covers; tables that hold no more than a corpus needs."""

import json
from collections import Counter

from sentiment.corpus import open_corpus
from sentiment.text import tokens
from sentiment.vectors import Policy, open_table
from sentiment.vectors.coverage import count_words, coverage
from tests.job.vector_files import binary, run, some_vectors, table_of, write_corpus

TEXTS = {"train": ["The film, the plot.", "A good film!"], "test": ["qqx qqx zzz film"]}


def test_the_figures_are_those_of_counting(tmp_path):
    corpus = open_corpus(write_corpus(tmp_path / "c", **TEXTS))
    counts = count_words(corpus, "train")
    assert counts == Counter(word for text in TEXTS["train"] for word in tokens(text))
    found = coverage(table_of(tmp_path / "t", ["the", "film", "unused"]), counts)
    assert (found.tokens, found.tokens_found) == (8, 4)
    assert (found.words, found.words_found) == (6, 2)
    assert found.missing == (("!", 1), ("a", 1), ("good", 1), ("plot", 1))
    assert (found.share_of_tokens, round(found.share_of_words, 3)) == (0.5, 0.333)
    assert coverage(table_of(tmp_path / "u", ["the"]), counts, shown=1).missing == (("film", 2),)
    empty = coverage(table_of(tmp_path / "v", ["the"]), Counter())
    assert (empty.share_of_tokens, empty.share_of_words, empty.missing) == (0, 0, ())


def test_the_command(tmp_path):
    corpus = write_corpus(tmp_path / "c", **TEXTS)
    table = table_of(tmp_path / "t", ["the", "film", "Plot", "plot"])
    ended = run("coverage", table.path, corpus, "--json")
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert told["splits"]["train"]["tokens_found"] == 5
    assert told["splits"]["test"]["missing"][0] == {"word": "qqx", "count": 2}
    assert (told["all"]["tokens"], told["all"]["tokens_found"]) == (12, 6)
    assert told["all"]["share_of_tokens"] == 0.5
    shown = run("coverage", table.path, corpus)
    assert "12, 50.00% of them found" in shown.stdout
    assert "qqx (2)" in shown.stdout
    assert "--lower" not in shown.stderr
    assert run("coverage", table.path, tmp_path / "no").returncode == 3
    assert run("coverage", tmp_path / "no", corpus).returncode == 3


def test_lower_case_is_suggested_where_it_helps(tmp_path):
    corpus = write_corpus(tmp_path / "c", **TEXTS)
    kept = table_of(tmp_path / "kept", ["The", "FILM", "good"])
    ended = run("coverage", kept.path, corpus)
    assert "in lower case it would have 5 more of the tokens" in ended.stderr
    told = json.loads(run("coverage", kept.path, corpus, "--json").stdout)
    assert told["tokens_gained_by_lower_case"] == 5
    lower = table_of(tmp_path / "lower", ["The", "FILM", "good"], policy=Policy(lower=True))
    assert "--lower" not in run("coverage", lower.path, corpus).stderr


# --- build --corpus


def test_build_keeps_the_words_of_all_splits(tmp_path):
    corpus = write_corpus(tmp_path / "c", **TEXTS)
    words = ["The", "film", "unused", "ZZZ", "the", "plot"]
    path = tmp_path / "v.bin"
    path.write_bytes(binary(words, some_vectors(6, 3)))
    ended = run("build", path, tmp_path / "t", "--corpus", corpus, "--lower")
    assert ended.returncode == 0, ended.stderr
    assert "1 came again and were left out, 1 do not occur in the corpus" in ended.stdout
    table = open_table(tmp_path / "t")
    assert list(table.words()) == ["the", "film", "zzz", "plot"]
    assert table.manifest.source["pruned_to"] == open_corpus(corpus).digest
    assert table.manifest.counts == {"read": 6, "repeated": 1, "left_out": 1, "zero": 0}
    ended = run("build", path, tmp_path / "u", "--corpus", corpus, "--top", 2, "--normalise")
    assert ended.returncode == 0, ended.stderr
    top = open_table(tmp_path / "u")
    assert list(top.words()) == ["film", "the"]
    assert top.manifest.normalised


def test_build_for_a_corpus_that_has_none_of_the_words(tmp_path):
    corpus = write_corpus(tmp_path / "c", **TEXTS)
    path = tmp_path / "v.bin"
    path.write_bytes(binary(["The", "Unused"], some_vectors(2, 3)))
    ended = run("build", path, tmp_path / "t", "--corpus", corpus)
    assert ended.returncode == 3
    assert "none of its 2 words occurs in the corpus" in ended.stderr
    assert "give --lower" in ended.stderr
    assert run("build", path, tmp_path / "t", "--corpus", tmp_path / "no").returncode == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c", "v.bin"]
