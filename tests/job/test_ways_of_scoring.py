"""The same texts by --text, `score`, `stream` and a notebook: the same scores."""

import json
import random
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from sentiment import notebook
from sentiment.model import save_model
from sentiment.recipes import RECIPES
from sentiment.text import text_id
from sentiment.vocabulary import Vocabulary
from tests.conftest import Sentiment
from tests.job.driver_jvm import DriverJvm

from .conftest import WORDS, small_network

GIVEN_AS_WORDS = 300


def different_texts(count: int) -> list[str]:
    """Of 3 to 120 words, some of them unknown; the last two have no score."""
    chance = random.Random(5)
    words = [*WORDS, "unheardof", "Ünknown", "🎬", "...", "don't"]
    found = {
        f"{' '.join(chance.choices(words, k=chance.randint(3, 120)))} {number}": None
        for number in range(count - 2)
    }
    return [*found, "zxcv qwer", "!!!"]


def by_id(scored: list[dict]) -> dict[str, float]:
    return {row["id"]: row["probability"] for row in scored if row["probability"] is not None}


@pytest.mark.parametrize("count", [1_500, pytest.param(10_000, marks=pytest.mark.long)])
def test_the_same_texts_have_the_same_scores_in_every_way_of_asking(
    tmp_path: Path, driver_jvm: DriverJvm, count: int
):
    texts = different_texts(count)
    home = Sentiment(tmp_path)
    home.env |= driver_jvm.variables
    save_model(
        tmp_path / "model",
        network=small_network(RECIPES["quick"](), scale=1.5),
        vocabulary=Vocabulary(WORDS),
        max_tokens=60,
        about={},
    )
    (tmp_path / "inbox").mkdir()
    lines = [json.dumps({"text": text}) + "\n" for text in texts]
    for number in range(4):
        (tmp_path / f"inbox/{number}.jsonl").write_text("".join(lines[number::4]))
    model = ("--model", "model")
    words = [word for text in texts[:GIVEN_AS_WORDS] for word in ("--text", text)]
    at_end = "".join(f"{text}\n" for text in texts)
    told = home("score", *model, "--json", *words).stdout
    typed = [json.loads(line) for line in told.splitlines()]
    told = home("score", *model, "--json", "-", given=at_end, code=7).stdout
    piped = [json.loads(line) for line in told.splitlines()]
    local = ("--master", "local[2]")
    home("score", *model, "inbox", "scores.parquet", *local)
    batch = pq.read_table(tmp_path / "scores.parquet").to_pylist()
    streamed = ("--once", "--settle", "0", "--batch-mib", "0.1")
    home("stream", "inbox", "streamed", *model, *streamed, "--master", "local[1]")
    parts = sorted((tmp_path / "streamed/scores").iterdir())
    assert len(parts) > 1
    stream = [row for part in parts for row in pq.read_table(part).to_pylist()]
    table = notebook.score(texts, tmp_path / "model")
    expected = dict(zip(table["id"], table["probability"], strict=True))
    expected = {name: score for name, score in expected.items() if not np.isnan(score)}
    assert len(expected) == count - 2
    for rows in (typed, piped):
        for row, text in zip(rows, texts, strict=False):
            row["id"] = text_id(text)
    assert len(typed) == GIVEN_AS_WORDS
    assert set(by_id(piped)) == set(by_id(batch)) == set(by_id(stream)) == set(expected)
    for rows in (typed, piped, batch, stream):
        assert max(abs(score - expected[name]) for name, score in by_id(rows).items()) < 1e-6
    assert {row["id"] for row in piped if row["reason"]} == set(map(text_id, texts[-2:]))
