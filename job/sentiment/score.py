"""The one scoring function: `evaluate`, `score` and every later use call it.

A score is a function of the text: not of its neighbours, of padding, or of the
number of workers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sentiment.examples import pack
from sentiment.loop import logits_of
from sentiment.model import Model
from sentiment.table_words import encode
from sentiment.text import has_word, tokens
from sentiment.vocabulary import known_count

NO_WORD = "no word in it"
NO_KNOWN_WORD = "no word that the model knows"


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
    reasons = tuple(
        None if count else (NO_KNOWN_WORD if has_word(text) else NO_WORD)
        for text, count in zip(texts, known, strict=True)
    )
    # A text without a known word has nothing to go on: it is refused, not guessed at.
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


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """1 / (1 + exp(-x)), without overflow, in float64."""
    x = logits.astype(np.float64)
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small))


def verdict(probability: float) -> str:
    """The word for a probability."""
    return "praise" if probability > 0.5 else "pan"  # noqa: PLR2004
