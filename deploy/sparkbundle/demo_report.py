"""What the report of the demo says: the facts of its run, gathered for `sentiment.report`."""

import platform
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from importlib.metadata import version
from typing import Any

from sentiment.corpus import Corpus
from sentiment.evaluate import Evaluation
from sentiment.events import Event
from sentiment.mistakes import surest_mistakes
from sentiment.report import Report
from sentiment.train import Trained
from sentiment.vectors import WordTable
from sparkbundle.machine import this_machine

MISTAKES = 4
"""Shown of each label."""
_PACKAGES = ("sparkbundle", "sentiment", "pyspark", "torch")
_HELD_OUT = {
    "contiguous": "the last {share:.0%} of each label's rows in the source's order, so that "
    "neighbours, such as reviews of one film, are on one side",
    "random": "{share:.0%} of each label's rows, at random",
    "film": "the reviews of some films, {share:.0%} of all: none of these films is in training",
    "given": "the source's own test split",
}


def counted(corpus: Corpus) -> str:
    """How many reviews there are for what."""
    rows = corpus.manifest["rows"]
    return (
        f"{corpus.rows('train'):,} to train, {corpus.rows('test'):,} to test, "
        f"{rows['quarantined']:,} quarantined"
    )


def words(table: WordTable) -> str:
    """The size of a word table."""
    return f"{table.rows:,} words of {table.dimensions} dimensions"


def demo_report(
    *,
    corpus: Corpus,
    table: WordTable,
    trained: Trained,
    evaluation: Evaluation,
    accuracies: Sequence[tuple[str, float]],
    sentences: Sequence[tuple[str, float]],
    events: Sequence[Event],
    command: str,
) -> Report:
    """All that the page shows; it is dated now.

    Raises:
        InvalidInputError: the corpus cannot be read.
    """
    scored = evaluation.scored
    return Report(
        question="Sparkbundle demo: does a film review praise the film, or pan it?",
        held_out=f"{evaluation.metrics['rows']:,} reviews of {_source(corpus)} that are not in "
        f"training: {_held_out(corpus)}",
        rows=accuracies,
        events=events,
        metrics=evaluation.metrics,
        probability=scored.column("probability").astype("float64"),
        label=scored.column("label").astype("int8"),
        tokens=scored.column("tokens").astype("int64"),
        sentences=sentences,
        mistakes=surest_mistakes(corpus, scored.accepted, each=MISTAKES),
        facts=_facts(corpus, table, trained, events),
        command=command,
        date=datetime.now().astimezone(),
    )


def _source(corpus: Corpus) -> str:
    source = corpus.manifest["source"]
    return ", ".join([source["spec"], *source["only"]])


def _held_out(corpus: Corpus) -> str:
    split = corpus.manifest["split"]
    return _HELD_OUT[split["how"]].format(share=Decimal(split["test"]))


def _facts(
    corpus: Corpus, table: WordTable, trained: Trained, events: Sequence[Event]
) -> list[tuple[str, str]]:
    recipe = next(event for event in events if event["event"] == "start")["recipe"]
    text, model, training = recipe["text"], recipe["model"], recipe["train"]
    machine, assignment = this_machine(), trained.assignment
    return [
        ("Reviews", f"{_source(corpus)}: {counted(corpus)}"),
        ("Corpus", f"sha256 {corpus.digest}"),
        ("Word vectors", f"{table.manifest.source['name']}: {words(table)}"),
        ("Word table", f"sha256 {table.digest}"),
        (
            "Recipe",
            f"{recipe['name']}, seed {training['seed']}: {_network(model)} over a review's first "
            f"{text['max_tokens']} tokens, a vocabulary of {trained.vocabulary:,} words",
        ),
        (
            "Training",
            f"{trained.epochs} epochs on {assignment.workers} workers, strategy "
            f"{training['strategy']}, {training['rounds_per_epoch']} rounds an epoch, batches of "
            f"{training['batch_size']} reviews; epoch {trained.epoch} was kept",
        ),
        (
            "Time",
            f"{trained.seconds:,.0f} s in all, {trained.training_seconds:,.0f} s of them in rounds "
            f"at {trained.tokens_per_second:,.0f} tokens/s",
        ),
        ("Model", f"sha256 {trained.digest}"),
        (
            "Machine",
            f"{machine.cores} cores, {machine.memory_mib / 1024:.0f} GiB of memory, "
            f"{platform.system()} {platform.machine()}",
        ),
        ("Versions", ", ".join([*_versions(), f"Python {platform.python_version()}"])),
    ]


def _network(model: dict[str, Any]) -> str:
    cell = {"graves": "Graves LSTM"}.get(model["cell"], str(model["cell"]).upper())
    way = "bidirectional " if model["bidirectional"] else ""
    beside = ", and weights for words and pairs of words," if model["ngrams"] else ""
    return f"{way}{cell} of {model['hidden']} units{beside}"


def _versions() -> list[str]:
    return [f"{package} {version(package)}" for package in _PACKAGES]
