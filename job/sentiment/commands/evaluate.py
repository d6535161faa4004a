"""`sentiment evaluate`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sentiment.commands.reading import (
    device_option,
    json_option,
    master_option,
    model_option,
    reading_options,
    say_place,
    table_for,
    table_option,
)
from sentiment.output import next_step, result_json, result_table, say
from sentiment.sources import SourceOptions, find_source

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from sentiment.controls import Control
    from sentiment.corpus import Corpus
    from sentiment.gpus import Wanted


@click.command()
@model_option
@click.option(
    "--reviews",
    required=True,
    help="A corpus (its test split is read) or any labelled source that ingest reads.",
)
@click.option(
    "--controls",
    "with_controls",
    is_flag=True,
    help="Also train TF-IDF with logistic regression, of words and of pairs of words, on the "
    "training split of the corpus, and show its accuracy on the test split (some minutes).",
)
@table_option
@reading_options
@device_option
@master_option
@json_option
def evaluate(
    *,
    model: str,
    reviews: str,
    with_controls: bool,
    table: str | None,
    reading: SourceOptions,
    device: "Wanted",
    master: str | None,
    as_json: bool,
) -> None:
    """Measure a model on labelled reviews: accuracy, F1, confusion, calibration.

    \b
    Examples:
      sentiment evaluate --model model --reviews corpus
      sentiment evaluate --model model --reviews some.tsv --json
      sentiment evaluate --model model --reviews aclImdb
      sentiment evaluate --model model --reviews corpus --controls
    """
    # Spark and torch take seconds to import: not before the input is known to be right.
    source = find_source(reviews, replace(reading, part="heldout"))
    for note in source.notes:
        say(note)
    from sentiment.corpus import open_corpus  # noqa: PLC0415
    from sentiment.device import CPU  # noqa: PLC0415
    from sentiment.evaluate import evaluate as run  # noqa: PLC0415
    from sentiment.evaluate import require_labels  # noqa: PLC0415
    from sentiment.gpus import gpus_for  # noqa: PLC0415
    from sentiment.model import model_from_files, read_model_files  # noqa: PLC0415
    from sentiment.session import find_place, spark_session  # noqa: PLC0415

    require_labels(source)
    corpus = open_corpus(Path(reviews)) if with_controls else None
    files = read_model_files(Path(model))
    path = table_for(files, table, model=model)
    model_from_files(files, where=model)
    place = find_place(master)
    say_place(place, source.path)
    with spark_session(place, name="sentiment-evaluate") as spark:
        gpus = gpus_for(spark.sparkContext, CPU, device, warn=say)
        metrics = run(spark, source, model_files=files, table=path, gpus=gpus).metrics
        beside = _controls(spark, corpus) if corpus is not None else []
    if as_json:
        told = {"controls": {one.name: one.accuracy for one in beside}} if beside else {}
        result_json({"model": model, "reviews": reviews, **metrics, **told})
    else:
        controls_rows = [(one.name, f"{one.accuracy:.2%}") for one in beside]
        result_table(f"model {model} on {reviews}", [*_rows(metrics), *controls_rows])
    next_step(f'sentiment score --model {model} --text "What a film."')


def _controls(spark: "SparkSession", corpus: "Corpus") -> "list[Control]":
    # Spark's machine learning takes a while to import, and few evaluations ask for it.
    from sentiment.controls import controls  # noqa: PLC0415

    return controls(spark, corpus, pairs=True)


def _rows(metrics: dict[str, Any]) -> list[tuple[str, str]]:
    cells = metrics["confusion"]
    read = metrics["rows"] + metrics["quarantined"]
    return [
        ("accuracy", f"{metrics['accuracy']:.2%} of {metrics['rows']:,} reviews"),
        ("F1 of praise", f"{metrics['f1']:.4f}"),
        ("precision, recall", f"{metrics['precision']:.4f}, {metrics['recall']:.4f}"),
        (
            "praise",
            f"{cells['praise_as_praise']:,} said to be praise, {cells['praise_as_pan']:,} pan",
        ),
        ("pan", f"{cells['pan_as_pan']:,} said to be pan, {cells['pan_as_praise']:,} praise"),
        ("log loss, Brier", f"{metrics['log_loss']:.4f}, {metrics['brier']:.4f}"),
        ("calibration error", f"{metrics['calibration_error']:.4f}"),
        (
            "rows read",
            f"{read:,}: {metrics['rows']:,} scored, {metrics['quarantined']:,} quarantined",
        ),
        *((f"  {reason}", f"{n:,}") for reason, n in metrics["quarantine_reasons"].items()),
    ]
