"""Scores in a notebook: of a list of texts here, of a Spark DataFrame on its cluster.

And the folder in which this project's notebooks work.
"""

import os
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

_TEXT: Final = "text"
NO_TEXT: Final = "no text"
FOLDER_VARIABLE: Final = "SENTIMENT_NOTEBOOK_FOLDER"
_ADDED: Final = (
    *(SCHEMA[name] for name in ("id", "probability")),
    StructField("verdict", StringType()),
    *(SCHEMA[name] for name in ("tokens", "known", "reason")),
)


def working_folder(*needed: str) -> Path:
    """The folder that the notebooks of this project share: ./talk, or $SENTIMENT_NOTEBOOK_FOLDER.

    It is made if need be. `needed` are the names in it that an earlier notebook has made.

    Raises:
        InvalidInputError: one of them is not there.
    """
    folder = Path(os.environ.get(FOLDER_VARIABLE, "talk")).absolute()
    if missing := [name for name in needed if not (folder / name).exists()]:
        raise InvalidInputError(
            f"there is no {' and no '.join(missing)} here yet",
            where=str(folder),
            todo="run the notebook 1-the-talk.ipynb first: it makes them in some minutes",
        )
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@overload
def score(
    reviews: DataFrame, model: str | Path, *, column: str = ..., table: str | None = ...
) -> DataFrame: ...


@overload
def score(
    reviews: pd.DataFrame | pd.Series | Sequence[str | None],
    model: str | Path,
    *,
    column: str = ...,
    table: str | None = ...,
) -> pd.DataFrame: ...


def score(
    reviews: DataFrame | pd.DataFrame | pd.Series | Sequence[str | None],
    model: str | Path,
    *,
    column: str = "text",
    table: str | None = None,
) -> DataFrame | pd.DataFrame:
    """Score texts, as `sentiment score` does, with the model in this directory.

    A list of texts, or a Series of pandas, comes back as a DataFrame of pandas: `text`, and the
    columns below. A DataFrame, of pandas or Spark, comes back with them beside its own; its texts
    are in `column`. Spark scores them where they are, when they are asked for. `table` is the
    path of the word table that the model needs, where a host's store does not have it.

    Columns: `id` of the text, `probability` that it praises, `verdict`, `tokens` in it, `known`
    (the share of the tokens read that the model knows), `reason` why there is no score, or null.

    Raises:
        InvalidInputError: the model is damaged, its table is missing, the DataFrame has no such
            column, or has one of those that are added, or what is in it is no text.
    """
    files = read_model_files(Path(model))
    if isinstance(reviews, DataFrame):
        return _on_cluster(reviews, Scoring(reviews.sparkSession, files, table=table), column)
    digest = model_digest(files, where=str(model))
    loaded = MODELS.get(digest, lambda: model_from_files(files, where=str(model), table=table))
    frame = _frame(reviews)
    name = column if isinstance(reviews, pd.DataFrame) else _TEXT
    _check_columns(list(frame.columns), name)
    try:
        texts = pa.array(frame[name], pa.string(), from_pandas=True)
    except pa.ArrowException as error:
        raise InvalidInputError(
            f"what is to be scored is not all text: {error}", todo="give texts, or None"
        ) from error
    added = _added(score_batch(loaded, _readable(texts)))
    return frame.assign(**{key: value.to_pandas().to_numpy() for key, value in added.items()})


def _frame(reviews: pd.DataFrame | pd.Series | Sequence[str | None]) -> pd.DataFrame:
    """What is to be scored, as pandas has it, with its index."""
    if isinstance(reviews, str):
        raise InvalidInputError("is one text, not a list of them", todo="score([text], model)")
    if isinstance(reviews, pd.DataFrame):
        return reviews
    if isinstance(reviews, pd.Series):
        return reviews.rename(_TEXT).to_frame()
    return pd.DataFrame({_TEXT: pd.Series(list(reviews), dtype=object)})


def _check_columns(names: Sequence[str], column: str) -> None:
    if column not in names:
        raise InvalidInputError(
            f"there is no column {column!r}; there are {', '.join(names)}", todo="give column="
        )
    if taken := [field.name for field in _ADDED if field.name in names]:
        raise InvalidInputError(
            f"the DataFrame has a column {taken[0]!r} already", todo="rename or drop it"
        )


def _on_cluster(reviews: DataFrame, scoring: Scoring, column: str) -> DataFrame:
    _check_columns(reviews.columns, column)
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
    added = _added(scored)
    return pa.RecordBatch.from_arrays(
        [*batch.columns, *added.values()], [*batch.schema.names, *added]
    )


def _added(scored: pa.RecordBatch) -> dict[str, pa.Array]:
    """The columns that are added, by name, in their order."""
    words = [None if p is None else verdict(p) for p in scored["probability"].to_pylist()]
    known: dict[str, Any] = {name: scored[name] for name in SCORED.names}
    known["verdict"] = pa.array(words, pa.string())
    return {field.name: known[field.name] for field in _ADDED}
