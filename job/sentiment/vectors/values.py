"""How a word table stores its values: fp32, fp16, or int8 with a scale for each vector."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "fp16": np.dtype("<f2"),
    "fp32": np.dtype("<f4"),
    "int8": np.dtype("i1"),
}
SCALE: Final = np.dtype("<f4")
_MOST: Final = 127
_BLOCK: Final = 1 << 17
_NOT_COPIES_OF_SIGN: Final = np.int32(~(0b111 << 28))
_EXPONENT_OFFSET: Final = np.float32(2.0**112)

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Stored:
    """Vectors as they are stored: values [n, dimensions], and for int8 float32 scales [n]."""

    values: NDArray[Any]
    scales: Vectors | None = None

    def __getitem__(self, rows: Any) -> "Stored":
        """Some of the rows."""
        return Stored(self.values[rows], None if self.scales is None else self.scales[rows])

    def same(self, row: int, other: "Stored") -> bool:
        """Whether a row is the one row of `other`."""
        if self.scales is not None and self.scales[row] != other.scales:
            return False
        return np.array_equal(self.values[row], other.values.ravel())

    def zeros(self) -> int:
        """How many of the vectors are zero."""
        # Most are told by their first value: the others need not be read.
        suspects = np.flatnonzero(self.values[:, 0] == 0)
        return int((~self.values[suspects].any(axis=1)).sum())


def to_length_1(vectors: Vectors) -> Vectors:
    """Each vector divided by its length; one that is zero stays zero."""
    exact = vectors.astype(np.float64)  # squares of float32 may be too large for it, or vanish
    lengths = np.sqrt(np.einsum("ij,ij->i", exact, exact))
    lengths[lengths == 0] = 1
    exact /= lengths[:, None]
    return exact.astype(np.float32, copy=False)


def rounded(vectors: Vectors, dtype: str) -> Stored:
    """Vectors as `dtype` stores them. All values are finite, and fit into it."""
    return (
        _as_int8(vectors) if dtype == "int8" else Stored(vectors.astype(DTYPES[dtype], order="C"))
    )


def restored(stored: Stored) -> Vectors:
    """The vectors that `rounded` stored, as nearly as it did."""
    if stored.values.dtype == DTYPES["fp16"]:
        return _from_fp16(stored.values)
    values: Vectors = stored.values.astype(np.float32)
    if stored.scales is not None:
        values *= stored.scales[..., None]
    return values


def _from_fp16(halves: NDArray[Any]) -> Vectors:
    """`halves.astype(np.float32)` for finite values, four times as fast.

    The bits are moved to where float32 has them, exponents stay too small by 127 - 15, and a
    multiplication mends that, of numbers below the normal ones too. numpy takes each value
    by itself; these are three steps over a block that stays in the processor's cache.
    """
    values = np.empty(halves.shape, dtype=np.float32)
    bits, out = halves.reshape(-1).view("<i2"), values.reshape(-1)
    for start in range(0, len(out), _BLOCK):
        block = out[start : start + _BLOCK]
        moved = block.view(np.int32)
        # As int16 the sign comes along: its copies in the three bits above are cleared.
        np.left_shift(bits[start : start + _BLOCK], 13, out=moved, dtype=np.int32)
        np.bitwise_and(moved, _NOT_COPIES_OF_SIGN, out=moved)
        np.multiply(block, _EXPONENT_OFFSET, out=block)
    return values


def _as_int8(vectors: Vectors) -> Stored:
    """Symmetric: the largest value of each vector becomes 127 or -127. Zeros have scale 0."""
    scales = (np.abs(vectors).max(axis=1) / np.float32(_MOST)).astype(SCALE)
    by = np.where(scales == 0, 1, scales)[:, None]
    # Where the scale is so small that float32 rounds it, a value may come out above 127.
    values = np.clip(np.rint(vectors / by), -_MOST, _MOST)
    return Stored(values.astype(np.int8, order="C"), scales)
