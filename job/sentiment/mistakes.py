"""Where a model was surest and wrong: the reviews that say most about it."""

import html
import re
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from sentiment.corpus import Corpus
from sentiment.text import text_id

EXCERPT: Final = 420
"""Characters of a review that are shown, half of them from its end: verdicts stand there."""
_TAG = re.compile(r"<[^<>]{0,80}>")


@dataclass(frozen=True)
class Mistake:
    """A review that was misjudged: an excerpt, what it is (1 praise, 0 pan), its score."""

    text: str
    label: int
    probability: float
    tokens: int


def surest_mistakes(corpus: Corpus, scored: pa.Table, *, each: int) -> list[Mistake]:
    """Of the corpus' test split the `each` surest mistakes about pans, then those about praise.

    `scored`: id, label, probability and tokens of the split's reviews that have a score.

    Raises:
        InvalidInputError: the corpus cannot be read.
    """
    probability = scored["probability"].to_numpy()
    label = scored["label"].to_numpy()
    wrong = np.flatnonzero((probability > 0.5) != (label == 1))  # noqa: PLR2004
    surest = wrong[np.argsort(-np.abs(probability[wrong] - 0.5), kind="stable")]
    chosen = [int(i) for value in (0, 1) for i in surest[label[surest] == value][:each]]
    rows = scored.select(["id", "label", "probability", "tokens"]).take(
        pa.array(chosen, pa.int64())
    )
    texts = _texts(corpus, set(rows["id"].to_pylist()))
    return [
        Mistake(
            text=excerpt(texts[row["id"]]),
            label=row["label"],
            probability=row["probability"],
            tokens=row["tokens"],
        )
        for row in rows.to_pylist()
    ]


def excerpt(text: str, *, limit: int = EXCERPT) -> str:
    """The text in one line without HTML tags; of a long one the beginning and the end."""
    plain = " ".join(html.unescape(_TAG.sub(" ", text)).split())
    if len(plain) <= limit:
        return plain
    start = plain[: limit // 2].rsplit(" ", 1)[0]
    end = plain[-(limit // 2) :].split(" ", 1)[-1]
    return f"{start} […] {end}"


def _texts(corpus: Corpus, ids: set[str]) -> dict[str, str]:
    return {
        found: text
        for batch in corpus.read("test", columns=["text"])
        for text in batch.column("text").to_pylist()
        if (found := text_id(text)) in ids
    }
