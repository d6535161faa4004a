"""The words a model knows, in the order of their ids."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import repeat

from sentiment.examples import FIRST_WORD, UNKNOWN


@dataclass(frozen=True)
class Vocabulary:
    """Words by rank, most frequent first; the word of rank r has id r + 2."""

    words: tuple[str, ...]
    _ids: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Index the words."""
        ids = {word: rank + FIRST_WORD for rank, word in enumerate(self.words)}
        object.__setattr__(self, "_ids", ids)

    def __len__(self) -> int:
        """The number of words."""
        return len(self.words)

    def encode(self, tokens: Sequence[str]) -> list[int]:
        """The id of each token; words that are not known have one id in common."""
        return list(map(self._ids.get, tokens, repeat(UNKNOWN)))

    def to_bytes(self) -> bytes:
        """One word a line, UTF-8. A token holds no white space."""
        return "".join(f"{word}\n" for word in self.words).encode()

    @staticmethod
    def from_bytes(data: bytes) -> "Vocabulary":
        """What `to_bytes` wrote."""
        return Vocabulary(tuple(data.decode().split("\n")[:-1]))


def known_count(ids: Sequence[int]) -> int:
    """How many of the ids are words that the model knows."""
    return len(ids) - ids.count(UNKNOWN)
