"""A model that needs its word table where it trains and scores."""

import json

import pytest

from tests.conftest import Sentiment
from tests.job.vector_files import table_of

HOST = "127.0.0.1"


@pytest.mark.usefixtures("one_executor")
def test_a_training_with_the_full_table_needs_it_on_every_host(
    sentiment: Sentiment, corpus, table, tmp_path, monkeypatch
):
    """Where hosts share no folder: refused before any work, and well once it is shipped."""
    monkeypatch.setitem(sentiment.env, "SPARKBUNDLE_SHARED_FOLDERS", "")
    model = tmp_path / "model"
    training = ("train", corpus, model, "--vectors", table, "--table-words", "--epochs", "2",
                "--learning-rate", "0.01", "--no-plan")  # fmt: skip
    refused = sentiment(*training, code=3)
    assert "1 of 1 hosts cannot use the word table" in refused.stderr
    assert f"{HOST}: this host does not have the word table" in refused.stderr
    assert "do:  put it on every host: sentiment vectors ship TABLE" in refused.stderr
    assert not model.exists()
    sentiment("vectors", "ship", table, "--keep", "9")
    told = sentiment.json(*training, "--force")
    assert told["validation_accuracy"] > 0.5
    (line,) = sentiment("score", "--model", model, "--text", "A gripping film.").stdout.splitlines()
    assert "A gripping film." in line
    out = tmp_path / "scores.jsonl"
    texts = tmp_path / "texts.txt"
    texts.write_text("A gripping film.\n")
    sentiment("score", "--model", model, texts, out)
    assert f"{json.loads(out.read_text())['probability']:.4f}" == line.split()[0]
    other = sentiment("evaluate", "--model", model, "--reviews", corpus, "--vectors",
                      table_of(tmp_path / "another", ["the"]).path, code=3)  # fmt: skip
    assert "the model was trained with" in other.stderr
