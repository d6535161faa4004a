"""Equal work: whatever the input looks like, every shard gets as many rows and steps."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sentiment.dealing import deal, parted, shard_rows
from sentiment.examples import batch_sizes, pack, steps_for, training_batches

rows_and_shards = st.tuples(st.integers(1, 400), st.integers(1, 9))


def reviews(rows, *, first=0):
    """Reviews of 1 to 7 words at every second position."""
    lengths = np.arange(rows) % 7 + 1
    return pack(
        [[2] * n for n in lengths],
        labels=[0] * rows,
        positions=[2 * (first + i) for i in range(rows)],
    )


@given(rows_and_shards, st.integers(0, 5))
def test_every_row_is_dealt_to_one_shard_and_all_get_as_many(sizes, epoch):
    rows, shards = sizes
    dealt = deal(rows, shards=shards, seed=(1, epoch))
    counts = np.bincount(dealt, minlength=shards)
    assert counts.tolist() == list(shard_rows(rows, shards=shards))
    assert counts.max() - counts.min() <= 1


def test_every_epoch_is_dealt_anew_and_the_same_again():
    first, second = (deal(1000, shards=4, seed=(1, epoch)) for epoch in (0, 1))
    assert not np.array_equal(first, second)
    assert np.array_equal(first, deal(1000, shards=4, seed=(1, 0)))


def test_a_sorted_input_is_mixed():
    """All pans before all praise: every shard gets about half of each."""
    dealt = deal(1000, shards=4, seed=(1, 0))
    assert all(105 <= np.count_nonzero(dealt[:500] == shard) <= 145 for shard in range(4))


@given(st.integers(1, 60), st.integers(1, 5), st.lists(st.integers(0, 60), max_size=4))
def test_how_the_input_was_cut_makes_no_difference(rows, shards, cuts):
    examples = reviews(rows)
    positions = examples.positions[::3]  # the others validate, say
    dealt = deal(len(positions), shards=shards, seed=(1, 0))
    ends = sorted({0, rows, *(min(cut, rows) for cut in cuts)})
    got = {}
    for start, end in pairwise(ends):
        part = examples.select(np.arange(start, end))
        for shard, mine in parted(part, positions, dealt):
            got.setdefault(shard, []).extend(mine.positions.tolist())
    assert got == {
        shard: positions[dealt == shard].tolist()
        for shard in range(shards)
        if (dealt == shard).any()
    }


@given(st.lists(st.integers(1, 300), min_size=1, max_size=5), st.integers(1, 70))
def test_every_shard_makes_as_many_steps_and_each_step_has_rows(rows, batch_size):
    steps = steps_for(rows, batch_size=batch_size)
    seed = (1, 2)
    for shard, count in enumerate(rows):
        batches = training_batches(reviews(count), steps=steps, seed=seed, shard=shard)
        sizes = [len(batch) for batch in batches]
        assert sorted(np.concatenate(batches).tolist()) == list(range(count))
        assert sizes == batch_sizes(count, steps=steps, seed=seed).tolist()
        assert len(sizes) == steps
        assert min(sizes) >= 1
        assert max(sizes) - min(sizes) <= 1


def test_at_each_step_all_shards_have_reviews_of_about_the_same_length():
    batches = [
        training_batches(reviews(700), steps=70, seed=(1, 0), shard=shard) for shard in (0, 1)
    ]
    lengths = [[reviews(700).lengths[rows].mean() for rows in mine] for mine in batches]
    assert np.abs(np.subtract(*lengths)).max() <= 1
    assert np.std(lengths[0]) > 1.5
