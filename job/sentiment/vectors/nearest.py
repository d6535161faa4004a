"""The words whose vectors point the same way: exact cosines over the whole table."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sentiment.errors import FAILED, SentimentError
from sentiment.vectors.table import MISSING, WordTable
from sentiment.vectors.values import to_length_1

_BLOCK_BYTES: Final = 16 << 20


@dataclass(frozen=True)
class Neighbour:
    """A word, its row, and the cosine of its vector with what was asked for."""

    word: str
    row: int
    cosine: float


def nearest(
    table: WordTable, words: Sequence[str], *, minus: Sequence[str] = (), top: int = 10
) -> list[Neighbour]:
    """The `top` words nearest to `words` and farthest from `minus`, the nearest first.

    Asked for is the mean of the words' vectors, each brought to length 1, those of `minus`
    turned round; the words themselves are left out. This is gensim's
    `most_similar(positive, negative)`. The matrix is read block by block.

    Raises:
        SentimentError: a word is not in the table.
    """
    rows = _rows(table, [*words, *minus])
    signs = np.repeat([1.0, -1.0], [len(words), len(minus)]).astype(np.float32)
    asked = (to_length_1(table.vectors(rows)) * signs[:, None]).mean(axis=0, dtype=np.float64)
    wanted = to_length_1(asked[None].astype(np.float32))[0]
    best = _Best(top)
    for start, block in _blocks(table):
        cosines = (block @ wanted) / _lengths(block)
        asked_here = rows[(rows >= start) & (rows < start + len(block))]
        cosines[asked_here - start] = -np.inf
        best.add(start, cosines)
    return [Neighbour(table.word(row), row, cosine) for row, cosine in best.found()]


class _Best:
    """The rows with the largest of the cosines that were seen."""

    def __init__(self, top: int) -> None:
        self._top = top
        self._rows = np.empty(0, np.int64)
        self._cosines = np.empty(0, np.float32)

    def add(self, first_row: int, cosines: NDArray[np.float32]) -> None:
        own = np.arange(first_row, first_row + len(cosines))
        if len(cosines) > self._top:
            last = np.partition(cosines, -self._top)[-self._top]
            part = np.flatnonzero(cosines >= last)  # with all that are equal: the first rows stay
            own, cosines = own[part], cosines[part]
        rows = np.concatenate([self._rows, own])
        both = np.concatenate([self._cosines, cosines])
        order = np.lexsort((rows, -both))[: self._top]
        self._rows, self._cosines = rows[order], both[order]

    def found(self) -> Iterator[tuple[int, float]]:
        for row, cosine in zip(self._rows.tolist(), self._cosines.tolist(), strict=True):
            if cosine != -np.inf:
                yield row, cosine


def _blocks(table: WordTable) -> Iterator[tuple[int, NDArray[np.float32]]]:
    rows = max(1, _BLOCK_BYTES // (4 * table.dimensions))
    for start in range(0, table.rows, rows):
        yield start, table.block(start, start + rows)


def _lengths(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vectors' lengths, 1 where one is zero: its cosine with any other comes out as 0."""
    lengths: NDArray[np.float32] = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    lengths[lengths == 0] = 1
    return lengths


def _rows(table: WordTable, words: Sequence[str]) -> NDArray[np.int64]:
    rows = table.find(words)
    missing = [word for word, row in zip(words, rows.tolist(), strict=True) if row == MISSING]
    if not missing:
        return rows
    lower = [word.lower() for word in missing if word.lower() in table]
    verb = "is" if len(missing) == 1 else "are"
    raise SentimentError(
        f"{', '.join(map(repr, missing))} {verb} not in the table",
        where=str(table.path),
        todo=f"write {', '.join(map(repr, lower))}" if lower else "give other words",
        code=FAILED,
    )
