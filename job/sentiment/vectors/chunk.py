"""Word vectors on their way from a source to a table."""

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

LONGEST_WORD: Final = 1 << 16
"""In bytes. What is longer is no word but a sign that a file is damaged or was misread."""


def _row_of_chunk(index: int) -> str:
    return f"row {index + 1} of the chunk"


@dataclass(frozen=True)
class Chunk:
    """Some words and their vectors, in the order of the source.

    `words` n strings; `vectors` float32 [n, dimensions]; `where(i)` names the
    place of word i for messages ("vectors.txt: line 7").
    """

    words: Sequence[str]
    vectors: NDArray[np.float32]
    where: Callable[[int], str] = _row_of_chunk


@dataclass(frozen=True)
class Policy:
    """Which words of a source make a table, and how they are spelled.

    `tokenizer` names the version of `sentiment.text.tokens` that split the
    words, None where somebody else's did. `lower` brings words to lower case;
    where that makes two words one, the first (the more frequent) stays.
    `keep_first` does the same for a word that comes twice with two vectors,
    which is refused otherwise. `only` leaves out all words but these, as they
    are spelled after lowering. `top` ends the table after so many words.
    `normalise` brings each vector to length 1.
    """

    tokenizer: str | None = None
    lower: bool = False
    keep_first: bool = False
    only: Set[str] | None = None
    top: int | None = None
    normalise: bool = False
