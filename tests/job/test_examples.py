import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sentiment.examples import (
    Examples,
    batch_sizes,
    join,
    pack,
    padded,
    scoring_batches,
    training_batches,
)

reviews = st.lists(st.lists(st.integers(1, 1000), max_size=30), min_size=1, max_size=40)


def packed(rows, start=0):
    return pack(
        rows, labels=[i % 2 for i in range(len(rows))], positions=range(start, start + len(rows))
    )


def unpacked(examples):
    return [
        examples.ids[a:b].tolist()
        for a, b in zip(examples.offsets[:-1], examples.offsets[1:], strict=True)
    ]


@given(reviews)
def test_packing_keeps_every_review(rows):
    assert unpacked(packed(rows)) == rows


@given(reviews)
def test_bytes_bring_the_same_back(rows):
    examples = packed(rows)
    again = Examples.from_bytes(examples.to_bytes())
    for name, array in vars(examples).items():
        assert np.array_equal(array, getattr(again, name))
        assert array.dtype == getattr(again, name).dtype


@given(reviews, st.randoms())
def test_select_takes_rows_in_the_order_asked_for(rows, random):
    order = [random.randrange(len(rows)) for _ in range(random.randrange(60))]
    chosen = packed(rows).select(np.array(order, dtype=np.int64))
    assert unpacked(chosen) == [rows[i] for i in order]


@given(reviews, st.integers(1, 5), st.randoms())
def test_join_does_not_depend_on_the_parts(rows, parts, random):
    examples = packed(rows)
    cut = [
        np.array([i for i in range(len(rows)) if i % parts == p], dtype=np.int64)
        for p in range(parts)
    ]
    random.shuffle(cut)
    joined = join([examples.select(rows) for rows in cut])
    assert unpacked(joined) == rows
    assert np.array_equal(joined.positions, examples.positions)


@given(reviews, st.integers(1, 8), st.integers(0, 3))
def test_every_review_is_in_one_training_batch_of_an_epoch(rows, size, seed):
    steps = -(-len(rows) // size)
    batches = training_batches(packed(rows), steps=steps, seed=(seed,), shard=1)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(rows)))
    assert len(batches) == steps
    sizes = [len(batch) for batch in batches]
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1
    assert batch_sizes(len(rows), steps=steps, seed=(seed,)).tolist() == sizes


def test_training_batches_depend_on_the_seed_alone():
    examples = packed([[1] * (i % 17 + 1) for i in range(500)])
    first, same, other = (
        training_batches(examples, steps=63, seed=s, shard=0) for s in ((1, 0), (1, 0), (1, 1))
    )
    assert all(np.array_equal(a, b) for a, b in zip(first, same, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_training_batches_hold_little_padding():
    lengths = np.random.default_rng(1).integers(1, 400, 4000)
    examples = packed([[1] * n for n in lengths])
    batches = training_batches(examples, steps=125, seed=(1,), shard=0)
    padded_tokens = sum(lengths[rows].max() * len(rows) for rows in batches)
    assert padded_tokens < 1.1 * lengths.sum()


@given(st.lists(st.integers(1, 300), min_size=1, max_size=80), st.integers(1, 2000))
def test_scoring_batches_hold_every_row_once_and_keep_the_bound(lengths, tokens):
    lengths = np.array(lengths)
    batches = scoring_batches(lengths, tokens=tokens)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    for rows in batches:
        assert len(rows) == 1 or lengths[rows].max() * len(rows) <= tokens


@given(reviews)
def test_padding_stands_behind_each_review(rows):
    ids, lengths = padded(packed(rows), np.arange(len(rows)))
    assert lengths.tolist() == [len(row) for row in rows]
    for column, row in enumerate(rows):
        assert ids[: len(row), column].tolist() == row
        assert not ids[len(row) :, column].any()
