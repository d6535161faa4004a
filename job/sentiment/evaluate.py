"""How good a model is on labelled reviews."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from pyspark.sql import SparkSession

from sentiment.errors import InvalidInputError
from sentiment.gpus import NO_GPUS, Gpus
from sentiment.metrics import binary_metrics
from sentiment.scoring import Scored, Scoring
from sentiment.sources import Source


@dataclass(frozen=True)
class Evaluation:
    """The metrics of `sentiment.metrics` and the scores they were computed from."""

    metrics: dict[str, Any]
    scored: Scored


def require_labels(source: Source) -> None:
    """Stop before any work if there is nothing to measure against.

    Raises:
        InvalidInputError: the source has no labels.
    """
    if not source.labelled:
        raise InvalidInputError(
            "has no labels to measure against",
            where=source.spec,
            todo="name the column: --label-column NAME; to score only: sentiment score",
        )


def evaluate(
    spark: SparkSession,
    source: Source,
    *,
    model_files: dict[str, bytes],
    table: str | None = None,
    gpus: Gpus = NO_GPUS,
) -> Evaluation:
    """Score a labelled source and measure.

    `rows` of the metrics are the rows scored; `quarantined` those that were not,
    by `quarantine_reasons`. Together they are the rows of the source. `table` and `gpus` as
    in `Scoring`.

    Raises:
        InvalidInputError: the source has no labels, or no row of it can be scored.
    """
    require_labels(source)
    scoring = Scoring(spark, model_files, table=table, gpus=gpus)
    scored = scoring.collect_source(source, labelled=True)
    if scored.accepted.num_rows == 0:
        raise InvalidInputError(
            f"none of the {scored.table.num_rows} rows can be scored: {scored.reasons()}",
            where=source.spec,
        )
    metrics = binary_metrics(
        scored.column("probability").astype(np.float64), scored.column("label").astype(np.int8)
    )
    return Evaluation(
        {
            **metrics,
            "quarantined": scored.refused.num_rows,
            "quarantine_reasons": scored.reasons(),
        },
        scored,
    )
