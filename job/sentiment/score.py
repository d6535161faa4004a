"""The one scoring function: `evaluate`, `score` and every later use call it.

A score is a function of the text: not of its neighbours, of padding, or of the
number of workers. `score_texts` is that function; `score_batch` is it for rows in Arrow.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sentiment.examples import pack
from sentiment.loop import logits_of
from sentiment.model import Model
from sentiment.table_words import encode
from sentiment.text import has_word, text_id, tokens
from sentiment.vocabulary import known_count

NO_WORD = "no word in it"
NO_KNOWN_WORD = "no word that the model knows"
NO_LABEL = "no label"

SCORED = pa.schema(
    {
        "id": pa.string(),
        "probability": pa.float64(),
        "tokens": pa.int64(),
        "known": pa.float64(),
        "reason": pa.string(),
    }
)
"""What `score_batch` adds to a row."""


@dataclass(frozen=True)
class Scores:
    """One entry a text, in the texts' order.

    `probability` float64 [texts]: that the review praises; NaN where `reason`
    says why there is none. `tokens` int64 [texts]: tokens in the text (the model
    reads the first `max_tokens`). `known` float64 [texts]: share of the tokens
    read that the model knows.
    """

    probability: NDArray[np.float64]
    tokens: NDArray[np.int64]
    known: NDArray[np.float64]
    reason: tuple[str | None, ...]


def score_texts(model: Model, texts: Sequence[str]) -> Scores:
    """Score texts, in batches of similar length; the result does not depend on the batches."""
    split = [tokens(text) for text in texts]
    read = [words[: model.max_tokens] for words in split]
    encoded = encode(read, model.vocabulary, model.network.table_words)
    known = [known_count(ids) for ids in encoded]
    # A text without a word, or without one that is known, has nothing to go on: it is refused, not
    # guessed at.
    reasons = tuple(
        (None if count else NO_KNOWN_WORD) if has_word(text) else NO_WORD
        for text, count in zip(texts, known, strict=True)
    )
    scorable = [i for i, reason in enumerate(reasons) if reason is None]
    examples = pack([encoded[i] for i in scorable], labels=[-1] * len(scorable), positions=scorable)
    probability = np.full(len(texts), np.nan)
    probability[scorable] = sigmoid(logits_of(model.network, examples))
    share = [count / max(len(ids), 1) for count, ids in zip(known, encoded, strict=True)]
    return Scores(
        probability,
        np.array([len(words) for words in split], dtype=np.int64),
        np.array(share, dtype=np.float64),
        reasons,
    )


def score_batch(model: Model, batch: pa.RecordBatch, *, labelled: bool = False) -> pa.RecordBatch:
    """Rows with a `text`, string [rows], in; the same rows with the columns of SCORED out.

    The texts of the batch are scored together, in batches of similar length. A row that comes
    with a `reason` was refused before and has no text; it, and one that cannot be scored, goes
    out with its reason and without a probability. With `labelled` a row whose `label` is null
    is refused. The text itself does not go out: it is what is large.
    """
    texts = batch["text"].to_pylist()
    given = batch["reason"].to_pylist() if "reason" in batch.schema.names else [None] * len(texts)
    reasons: list[str | None] = list(given)
    if labelled:
        labels = batch["label"].to_pylist()
        reasons = [
            r or (NO_LABEL if y is None else None) for r, y in zip(reasons, labels, strict=True)
        ]
    usable = [i for i, reason in enumerate(reasons) if reason is None]
    scores = score_texts(model, [texts[i] for i in usable])
    for i, reason in zip(usable, scores.reason, strict=True):
        reasons[i] = reason
    kept = [name for name in batch.schema.names if name not in ("text", *SCORED.names)]
    columns = {name: batch[name] for name in kept} | {
        "id": pa.array([None if text is None else text_id(text) for text in texts], pa.string()),
        "probability": _spread(scores.probability, usable, len(texts), pa.float64()),
        "tokens": _spread(scores.tokens, usable, len(texts), pa.int64()),
        "known": _spread(scores.known, usable, len(texts), pa.float64()),
        "reason": pa.array(reasons, pa.string()),
    }
    return pa.RecordBatch.from_pydict(columns)


def _spread(values: NDArray[np.generic], rows: list[int], size: int, kind: pa.DataType) -> pa.Array:
    """`values` at `rows` of a column of `size`; null elsewhere and where a value is NaN."""
    column: list[float | int | None] = [None] * size
    for row, value in zip(rows, values.tolist(), strict=True):
        column[row] = value if value == value else None  # noqa: PLR0124 - NaN
    return pa.array(column, kind)


class ModelCache:
    """The models that a process has made last, by their digests and the devices they are on.

    A Python worker of Spark's runs one task after the other: with the cache it makes a model
    once, and another one only when another digest is asked for.
    """

    def __init__(self, keep: int = 2) -> None:
        """Nothing is made yet; `keep` models at most are held."""
        self._keep = keep
        self._models: dict[tuple[str, str], Model] = {}

    def get(self, digest: str, make: Callable[[], Model], *, place: str = "cpu") -> Model:
        """The model of this digest at this place, made now if need be."""
        model = self._models.pop((digest, place), None) or make()
        self._models[digest, place] = model  # the newest last
        while len(self._models) > self._keep:
            del self._models[next(iter(self._models))]
        return model


MODELS = ModelCache()
"""Those of this process."""


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """1 / (1 + exp(-x)), without overflow, in float64."""
    x = logits.astype(np.float64)
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small))


def verdict(probability: float) -> str:
    """The word for a probability."""
    return "praise" if probability > 0.5 else "pan"  # noqa: PLR2004


def with_verdicts(table: pa.Table, model_digest: str) -> pa.Table:
    """The rows that have a score, as they are written: with the word for it, and its model."""
    accepted = table.filter(table["reason"].is_null()).drop_columns(["reason"])
    words = [verdict(p) for p in accepted["probability"].to_pylist()]
    accepted = accepted.append_column("verdict", pa.array(words, pa.string()))
    digests = pa.array([model_digest] * accepted.num_rows, pa.string())
    return accepted.append_column("model_digest", digests)


def json_lines(table: pa.Table) -> bytes:
    """One JSON object a row."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in table.to_pylist()).encode()
