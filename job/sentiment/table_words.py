"""Words that the training text does not have: the full word table answers for them.

A model's vocabulary has the words of its training text; their vectors travel with it. In this
mode every other word that the word table has is read with the table's own vector, from the
copy that lies on the host: nothing is loaded, and no process holds vectors of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sentiment.examples import UNKNOWN
from sentiment.vectors import WordTable
from sentiment.vectors.store import table_on_this_host
from sentiment.vocabulary import Vocabulary


@dataclass(frozen=True)
class TableWords:
    """The table of `digest`, whose row r has the id `first` + r.

    `scale` is what its vectors are multiplied with, as those of the vocabulary were. It is
    found in this host's store, else at `path`. It travels between processes as these few values.
    """

    digest: str
    first: int
    scale: float
    path: str | None = None

    @property
    def table(self) -> WordTable:
        """The table, opened once in a process.

        Raises:
            InvalidInputError: this host does not have it, or it was changed here.
        """
        return opened(self.digest, self.path)

    def ids(self, words: Sequence[str]) -> NDArray[np.int64]:
        """The id of each word, int64 [words]; UNKNOWN where the table does not have it."""
        rows = self.table.find(words)
        return np.where(rows >= 0, rows + self.first, UNKNOWN)

    def vectors(self, ids: Tensor) -> Tensor:
        """The vectors of ids from `first` on, int64 [n] → float32 [n, dimensions], where ids are.

        The table is in this host's memory: to and from a GPU they travel.
        """
        rows = ids.cpu().numpy() - self.first
        return torch.from_numpy(self.table.vectors(rows) * self.scale).to(ids.device)


@lru_cache(maxsize=4)
def opened(digest: str, path: str | None) -> WordTable:
    """The table of this digest in the host's store, or at `path`: opened once in a process.

    Raises:
        InvalidInputError: this host does not have it, or it was changed here.
    """
    return table_on_this_host(digest, path=Path(path) if path else None)


def encode(
    reviews: Sequence[Sequence[str]], vocabulary: Vocabulary, table_words: TableWords | None
) -> list[list[int]]:
    """The ids of the tokens of each review; the table is asked once for all of them."""
    encoded = [vocabulary.encode(tokens) for tokens in reviews]
    if table_words is None:
        return encoded
    places = [
        (review, place)
        for review, ids in enumerate(encoded)
        for place, value in enumerate(ids)
        if value == UNKNOWN
    ]
    if places:
        words = sorted({reviews[review][place] for review, place in places})
        known = dict(zip(words, table_words.ids(words).tolist(), strict=True))
        for review, place in places:
            encoded[review][place] = known[reviews[review][place]]
    return encoded
