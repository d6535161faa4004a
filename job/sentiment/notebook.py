"""Scores in a notebook: of a list of texts here, of a Spark DataFrame on its cluster."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, overload

import pandas as pd
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.types import StringType, StructField, StructType

from sentiment.errors import InvalidInputError
from sentiment.model import model_digest, model_from_files, read_model_files
from sentiment.score import MODELS, SCORED, score_batch, verdict
from sentiment.scoring import SCHEMA, Scoring

NO_TEXT: Final = "no text"
_ADDED: Final = (
    *(SCHEMA[name] for name in ("id", "probability")),
    StructField("verdict", StringType()),
    *(SCHEMA[name] for name in ("tokens", "known", "reason")),
)


@overload
def score(
    reviews: DataFrame, model: str | Path, *, column: str = ..., table: str | None = ...
) -> DataFrame: ...


@overload
def score(
    reviews: Sequence[str | None], model: str | Path, *, column: str = ..., table: str | None = ...
) -> pd.DataFrame: ...


def score(
    reviews: DataFrame | Sequence[str | None],
    model: str | Path,
    *,
    column: str = "text",
    table: str | None = None,
) -> DataFrame | pd.DataFrame:
    """Score texts, as `sentiment score` does, with the model in this directory.

    Texts (a list, a column of pandas) come back as a DataFrame of pandas: `text`, and the columns
    below. A Spark DataFrame comes back with them beside its own; its texts are in `column`, and
    Spark scores them where they are, when they are asked for. `table` is the path of the word
    table that the model needs, where a host's store does not have it.

    Columns: `id` of the text, `probability` that it praises, `verdict`, `tokens` in it, `known`
    (the share of the tokens read that the model knows), `reason` why there is no score, or null.

    Raises:
        InvalidInputError: the model is damaged, its table is missing, or the DataFrame has no such
            column, or has one of those that are added.
    """
    files = read_model_files(Path(model))
    if isinstance(reviews, DataFrame):
        return _on_cluster(reviews, Scoring(reviews.sparkSession, files, table=table), column)
    digest = model_digest(files, where=str(model))
    loaded = MODELS.get(digest, lambda: model_from_files(files, where=str(model), table=table))
    texts = pa.array(list(reviews), pa.string(), from_pandas=True)
    batch = pa.RecordBatch.from_arrays([texts], ["text"])
    return _with_scores(batch, score_batch(loaded, _readable(batch["text"]))).to_pandas()


def _on_cluster(reviews: DataFrame, scoring: Scoring, column: str) -> DataFrame:
    names = reviews.columns
    if column not in names:
        raise InvalidInputError(
            f"there is no column {column!r}; there are {', '.join(names)}", todo="give column="
        )
    if taken := [field.name for field in _ADDED if field.name in names]:
        raise InvalidInputError(
            f"the DataFrame has a column {taken[0]!r} already", todo="rename or drop it"
        )
    ready = scoring.model_maker()

    def score(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        model = ready()
        for batch in batches:
            yield _with_scores(batch, score_batch(model, _readable(batch[column])))

    return reviews.mapInArrow(score, StructType([*reviews.schema.fields, *_ADDED]))


def _readable(texts: pa.Array) -> pa.RecordBatch:
    """The texts as readers of files give them: without white space at the ends."""
    stripped = [None if text is None else text.strip() for text in texts.to_pylist()]
    reasons = [NO_TEXT if text is None else None for text in stripped]
    columns = {"text": pa.array(stripped, pa.string()), "reason": pa.array(reasons, pa.string())}
    return pa.RecordBatch.from_pydict(columns)


def _with_scores(batch: pa.RecordBatch, scored: pa.RecordBatch) -> pa.RecordBatch:
    words = [None if p is None else verdict(p) for p in scored["probability"].to_pylist()]
    added: dict[str, Any] = {name: scored[name] for name in SCORED.names}
    added["verdict"] = pa.array(words, pa.string())
    columns = [*batch.columns, *(added[field.name] for field in _ADDED)]
    names = [*batch.schema.names, *(field.name for field in _ADDED)]
    return pa.RecordBatch.from_arrays(columns, names)
