"""64-bit hashes of words: the index of a word table."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

_MULTIPLIER: Final = np.uint64(0x9E3779B97F4A7C15)

Hashes = NDArray[np.uint64]
Rows = NDArray[np.uint32]
_Item = TypeVar("_Item", bound=np.generic)


@dataclass(frozen=True)
class Bytes:
    """Words as UTF-8, one after the other: word i is text[starts[i] : starts[i] + lengths[i]]."""

    text: NDArray[np.uint8]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]


def joined(words: Sequence[bytes]) -> Bytes:
    """All words in one array."""
    lengths = np.fromiter(map(len, words), np.int64, len(words))
    text = np.frombuffer(b"".join(words), np.uint8)
    return Bytes(text, np.cumsum(lengths) - lengths, lengths)


def hash_words(words: Sequence[bytes]) -> Hashes:
    """The hash of each word's UTF-8 bytes, see `hash_joined`."""
    return hash_joined(joined(words))


def hash_joined(words: Bytes) -> Hashes:
    """The hash of each word's UTF-8 bytes b, uint64 [n]; the word table's format depends on it.

    The sum of (b[i] + 1) * 0x9E3779B97F4A7C15 ** (i + 1) modulo 2**64, then
    mixed by the last step of MurmurHash3 (fmix64). Computed for all words at
    once: a hash of a library's would be called once a word. It need not resist
    an enemy, for a hit is compared with the stored word.
    """
    lengths = words.lengths
    hashes = np.zeros(len(lengths), dtype=np.uint64)
    full = lengths > 0
    if not full.any():
        return hashes
    powers = np.cumprod(np.full(lengths.max(), _MULTIPLIER))
    within = np.arange(len(words.text)) - np.repeat(words.starts, lengths)
    terms = (words.text.astype(np.uint64) + np.uint64(1)) * powers[within]
    hashes[full] = _mixed(np.add.reduceat(terms, words.starts[full]))
    return hashes


def _mixed(values: Hashes) -> Hashes:
    shift = np.uint64(33)
    values = (values ^ (values >> shift)) * np.uint64(0xFF51AFD7ED558CCD)
    values = (values ^ (values >> shift)) * np.uint64(0xC4CEB9FE1A85EC53)
    return values ^ (values >> shift)


def places(keys: Hashes, hashes: Hashes) -> NDArray[np.int64]:
    """Where each hash is in `keys`, which ascend, or would be: the first such place, int64 [n]."""
    order = np.argsort(hashes)
    at = np.empty(len(hashes), dtype=np.int64)
    # One after the other they touch the same memory: several times as fast as in any order.
    at[order] = np.searchsorted(keys, hashes[order])
    return at


class HashRuns:
    """The hashes of the words that were written so far, with their rows.

    They lie in a few sorted runs of growing length, so that a chunk of words
    is checked and added at array speed and 12 bytes a word are held.
    """

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._runs: list[tuple[Hashes, Rows]] = []

    def contains(self, hashes: Hashes) -> NDArray[np.bool_]:
        """Which of these hashes were added before, bool [n]."""
        found = np.zeros(len(hashes), dtype=np.bool_)
        for keys, _ in self._runs:
            at = places(keys, hashes)
            at[at == len(keys)] = 0
            found |= keys[at] == hashes
        return found

    def rows_of(self, value: np.uint64) -> list[int]:
        """The rows that were added with this hash: seldom more than one."""
        rows: list[int] = []
        for keys, values in self._runs:
            first, last = (
                np.searchsorted(keys, value, "left"),
                np.searchsorted(keys, value, "right"),
            )
            rows += values[first:last].tolist()
        return sorted(rows)

    def add(self, hashes: Hashes, rows: Rows) -> None:
        """Add hashes with their rows."""
        if not len(hashes):
            return
        self._runs.append(_sorted(hashes, rows))
        while len(self._runs) > 1 and len(self._runs[-2][0]) <= 2 * len(self._runs[-1][0]):
            self._merge_last()

    def in_order(self) -> tuple[Hashes, Rows]:
        """All hashes in ascending order, and the row of each."""
        while len(self._runs) > 1:
            self._merge_last()
        return self._runs[0]

    def _merge_last(self) -> None:
        (hashes, rows), (more_hashes, more_rows) = self._runs[-2:]
        # Where each of the second run comes to lie; a sort of both would take more memory.
        at = np.searchsorted(hashes, more_hashes, "right") + np.arange(len(more_hashes))
        first = np.ones(len(hashes) + len(more_hashes), dtype=np.bool_)
        first[at] = False
        self._runs[-2:] = [
            (_placed(hashes, more_hashes, at, first), _placed(rows, more_rows, at, first))
        ]


def _sorted(hashes: Hashes, rows: Rows) -> tuple[Hashes, Rows]:
    order = np.argsort(hashes, kind="stable")
    return hashes[order], rows[order]


def _placed(
    one: NDArray[_Item], other: NDArray[_Item], at: NDArray[np.int64], first: NDArray[np.bool_]
) -> NDArray[_Item]:
    """Two arrays in one: `other` at its places, `one` where `first` is set."""
    merged = np.empty(len(first), dtype=one.dtype)
    merged[first] = one
    merged[at] = other
    return merged
