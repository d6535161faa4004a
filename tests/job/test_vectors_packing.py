"""Bytes on their way: what is unpacked is what was packed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiment.vectors.packing import pack, unpack


@given(data=st.binary(max_size=2000), width=st.sampled_from([1, 2, 4]))
def test_unpacked_is_as_packed(data: bytes, width: int) -> None:
    assert unpack(pack(data, width=width)) == data


def test_vectors_get_smaller_by_their_exponents() -> None:
    vectors = np.random.default_rng(1).normal(0, 0.2, (1000, 300)).astype(np.float16).tobytes()
    assert len(pack(vectors, width=2).data) < 0.9 * len(vectors)
    assert len(pack(vectors, width=1).data) > 0.9 * len(vectors)


def test_a_block_that_was_cut_off_is_refused() -> None:
    packed = pack(b"some words" * 100, width=2)
    with pytest.raises(OSError):
        unpack(type(packed)(packed.data[:-5], packed.length, packed.width))
