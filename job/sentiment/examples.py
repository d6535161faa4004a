"""Reviews as token ids: how they are held, and how they are put into batches.

A batch holds reviews of about the same length, so that little of it is padding.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray

PADDING = 0
UNKNOWN = 1
FIRST_WORD = 2
"""Ids below are no words; the word of rank r has id r + FIRST_WORD."""

_POOL = 50
"""Batches whose rows are sorted by length together."""


@dataclass(frozen=True)
class Examples:
    """Reviews of any lengths, end to end.

    `ids` int32 [tokens]; `offsets` int64 [reviews + 1]: review i is
    ids[offsets[i]:offsets[i+1]]; `labels` int8 [reviews] (1 praise, 0 pan, -1
    unknown); `positions` int64 [reviews]: their places in the corpus.
    """

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    labels: NDArray[np.int8]
    positions: NDArray[np.int64]

    def __len__(self) -> int:
        """The number of reviews."""
        return len(self.labels)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each review, int64 [reviews]."""
        return np.diff(self.offsets)

    def select(self, rows: NDArray[np.int64]) -> "Examples":
        """These rows, in this order."""
        lengths = self.lengths[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        # For each token of the result: where its review starts here, plus its place in it.
        shift = np.repeat(self.offsets[rows] - offsets[:-1], lengths)
        take = np.arange(offsets[-1], dtype=np.int64) + shift
        return Examples(self.ids[take], offsets, self.labels[rows], self.positions[rows])

    def to_bytes(self) -> bytes:
        """One block of bytes, to travel between processes."""
        buffer = io.BytesIO()
        np.savez(buffer, **vars(self))
        return buffer.getvalue()

    @staticmethod
    def from_bytes(data: bytes) -> "Examples":
        """What `to_bytes` wrote."""
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return Examples(**{name: arrays[name] for name in arrays.files})


def pack(
    reviews: Sequence[Sequence[int]], *, labels: Sequence[int], positions: Sequence[int]
) -> Examples:
    """Examples from lists of ids."""
    offsets = np.zeros(len(reviews) + 1, dtype=np.int64)
    np.cumsum([len(review) for review in reviews], out=offsets[1:])
    ids = np.fromiter(chain.from_iterable(reviews), np.int32, count=int(offsets[-1]))
    return Examples(
        ids, offsets, np.asarray(labels, dtype=np.int8), np.asarray(positions, dtype=np.int64)
    )


def join(parts: Sequence[Examples]) -> Examples:
    """All parts' reviews, in the order of their positions."""
    if not parts:
        return pack([], labels=[], positions=[])
    lengths = np.concatenate([part.lengths for part in parts])
    joined = Examples(
        np.concatenate([part.ids for part in parts]),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.positions for part in parts]),
    )
    return joined.select(np.argsort(joined.positions, kind="stable"))


def training_batches(
    examples: Examples, *, steps: int, seed: tuple[int, ...], shard: int
) -> list[NDArray[np.int64]]:
    """Row numbers of each of the `steps` steps of one epoch; a pure function of its arguments.

    Rows are shuffled, sorted by length within pools of 50 batches, cut into batches, and the
    batches are shuffled: every epoch brings other neighbours, and a batch needs little padding.
    Sizes differ by one row at most. The batches of all shards are shuffled alike: at each step
    every shard has reviews of about the same length.
    """
    order = np.random.default_rng((*seed, shard)).permutation(len(examples))
    lengths = examples.lengths
    ends = _ends(len(examples), steps)
    batches: list[NDArray[np.int64]] = []
    for start in range(0, steps, _POOL):
        mine = ends[start : start + _POOL + 1]
        rows = order[mine[0] : mine[-1]]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        batches += np.split(rows, mine[1:-1] - mine[0])
    return [batches[i] for i in _turn(steps, seed)]


def batch_sizes(rows: int, *, steps: int, seed: tuple[int, ...]) -> NDArray[np.int64]:
    """How many rows each of the `training_batches` of a shard of `rows` has, int64 [steps]."""
    return np.diff(_ends(rows, steps))[_turn(steps, seed)]


def steps_for(rows: Sequence[int], *, batch_size: int) -> int:
    """Steps an epoch of shards with so many rows: every shard makes as many, each with a row."""
    return max(1, min(-(-max(rows) // batch_size), *rows))


def _ends(rows: int, steps: int) -> NDArray[np.int64]:
    return np.arange(steps + 1, dtype=np.int64) * rows // steps


def _turn(steps: int, seed: tuple[int, ...]) -> NDArray[np.int64]:
    return np.random.default_rng(seed).permutation(steps)


def scoring_batches(lengths: NDArray[np.int64], *, tokens: int) -> list[NDArray[np.int64]]:
    """Row numbers of each batch, sorted by length, at most `tokens` padded tokens a batch."""
    order = np.argsort(lengths, kind="stable")
    batches: list[NDArray[np.int64]] = []
    start = 0
    for end in range(1, len(order) + 1):
        # Sorted: the next row would be the longest.
        full = end == len(order) or (end + 1 - start) * lengths[order[end]] > tokens
        if full:
            batches.append(order[start:end])
            start = end
    return batches


def padded(examples: Examples, rows: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch as tensors: ids int64 [longest, rows] (time first), lengths int64 [rows]."""
    part = examples.select(rows)
    lengths = part.lengths
    ids = np.full((len(rows), int(lengths.max(initial=1))), PADDING, dtype=np.int64)
    ids[np.arange(ids.shape[1]) < lengths[:, None]] = part.ids
    return torch.from_numpy(np.ascontiguousarray(ids.T)), torch.from_numpy(lengths)
