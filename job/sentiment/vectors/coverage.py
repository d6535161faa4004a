"""How much of a corpus a word table covers."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from sentiment.corpus import Corpus
from sentiment.text import tokens
from sentiment.vectors.table import MISSING, WordTable

SHOWN: Final = 20
"""How many of the most frequent missing words are told."""


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What a table has of the words of some reviews.

    `missing` are the most frequent words that it does not have, with how often
    they occur.
    """

    tokens: int
    tokens_found: int
    words: int
    words_found: int
    missing: tuple[tuple[str, int], ...]

    @property
    def share_of_tokens(self) -> float:
        """The share of the running words that have a vector."""
        return self.tokens_found / self.tokens if self.tokens else 0.0

    @property
    def share_of_words(self) -> float:
        """The share of the distinct words that have a vector."""
        return self.words_found / self.words if self.words else 0.0

    def as_json(self) -> dict[str, Any]:
        """The figures as a JSON object."""
        return {
            **asdict(self),
            "share_of_tokens": round(self.share_of_tokens, 6),
            "share_of_words": round(self.share_of_words, 6),
            "missing": [{"word": word, "count": count} for word, count in self.missing],
        }


def count_words(corpus: Corpus, split: str) -> Counter[str]:
    """How often each word occurs in a split, as `sentiment.text.tokens` splits its reviews."""
    counts: Counter[str] = Counter()
    for batch in corpus.read(split, columns=["text"]):
        for text in batch.column("text").to_pylist():
            counts.update(tokens(text))
    return counts


def coverage(table: WordTable, counts: Counter[str], *, shown: int = SHOWN) -> Coverage:
    """What a table has of words that occur so often."""
    words = sorted(counts, key=lambda word: (-counts[word], word))
    often = np.fromiter((counts[word] for word in words), np.int64, len(words))
    found = table.find(words) != MISSING
    missing = np.flatnonzero(~found)[:shown].tolist()
    return Coverage(
        tokens=int(often.sum()),
        tokens_found=int(often[found].sum()),
        words=len(words),
        words_found=int(found.sum()),
        missing=tuple((words[index], counts[words[index]]) for index in missing),
    )


def gain_of_lower_case(table: WordTable, counts: Counter[str]) -> int:
    """How many more of these tokens the table would have, were its words in lower case."""
    if table.manifest.case == "lower":
        return 0
    lowered = {word.lower() for word in table.words()}
    words = list(counts)
    found = (table.find(words) != MISSING).tolist()
    return sum(
        counts[word] for word, has in zip(words, found, strict=True) if not has and word in lowered
    )
