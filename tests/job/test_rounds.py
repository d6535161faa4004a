"""A round is a pure function of (state, shard, seed)."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from sentiment import recipes
from sentiment.examples import pack, padded
from sentiment.loop import rate_factor, state_from_bytes, state_to_bytes, worst
from sentiment.rounds import Job, Round, run_round, run_validation, trained_network


def small_job(name="quick", *, rows=(200,), **changes):
    recipe = recipes.with_changes(recipes.RECIPES[name](), hidden=16, batch_size=8, **changes)
    vectors = np.random.default_rng(0).normal(size=(40, 10)).astype(np.float32)
    return Job(recipe=recipe, vectors=vectors, rows=rows, threads=1)


def separable(rows=200, seed=0):
    """Reviews whose label is told by words 2-11 (praise) or 12-21 (pan)."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, rows)
    reviews = [
        (generator.integers(2, 12, n) if label else generator.integers(12, 22, n)).tolist()
        for label, n in zip(labels, generator.integers(3, 30, rows), strict=True)
    ]
    return pack(reviews, labels=labels, positions=range(rows))


@pytest.mark.parametrize("name", ["quick", "talk", "best"])
def test_the_same_round_gives_the_same_bytes(name):
    job, examples = small_job(name), separable()
    state = job.first_state()
    first, _ = run_round(job, [(0, examples)], Round(0, 1), state=state)
    torch.manual_seed(12345)
    np.random.seed(7)
    again, _ = run_round(job, [(0, examples)], Round(0, 1), state=state)
    assert first == again
    assert first != state


def test_another_shard_number_is_another_round():
    job, examples, state = small_job(), separable(), small_job().first_state()
    one = run_round(job, [(0, examples)], Round(0, 0), state=state)[0]
    assert one != run_round(job, [(1, examples)], Round(0, 0), state=state)[0]


@pytest.mark.parametrize("name", ["quick", "talk", "best"])
def test_the_rounds_of_an_epoch_see_every_review_once_and_learn(name):
    job, examples = small_job(name, epochs=3, learning_rate=0.01), separable()
    state = job.first_state()
    for epoch in range(3):
        seen = 0
        for part in range(job.recipe.train.rounds_per_epoch):
            state, measured = run_round(job, [(0, examples)], Round(epoch, part), state=state)
            seen += measured.reviews
        assert seen == len(examples)
    held_out = run_validation(job, separable(seed=1), state=state)
    assert held_out.reviews == 200
    assert held_out.accuracy > 0.95


def test_frozen_vectors_do_not_move_and_tuned_ones_do():
    examples = separable()
    for moves in (False, True):
        job = small_job(tune_vectors=moves)
        state, _ = run_round(job, [(0, examples)], Round(0, 0), state=job.first_state())
        after = trained_network(job, state).embedding.weight.detach().numpy()
        assert np.array_equal(after, job.vectors) is not moves


def test_training_writes_nothing_into_the_job():
    job = small_job()
    before = job.vectors.copy()
    run_round(job, [(0, separable())], Round(0, 0), state=job.first_state())
    assert np.array_equal(job.vectors, before)


def test_states_travel_as_bytes_with_weights_and_moments():
    job = small_job(tune_vectors=True)
    data, _ = run_round(job, [(0, separable())], Round(0, 0), state=job.first_state())
    state = state_from_bytes(data)
    assert state_to_bytes(state) == data
    kinds = {name.split(".")[0] for name in state}
    assert kinds == {"model", "optimizer"}
    assert any(name.startswith("optimizer.exp_avg.embedding") for name in state)


def test_the_schedule_falls_to_zero():
    config = recipes.quick().optimizer
    assert rate_factor(config, step=0, total=10) == 1.0
    assert rate_factor(config, step=5, total=10) == 0.5
    assert rate_factor(config, step=10, total=10) == 0.0
    constant = replace(config, schedule="constant")
    assert rate_factor(constant, step=9, total=10) == 1.0


def test_a_loss_that_is_no_number_names_the_first_step_and_its_rows():
    job, examples = small_job(learning_rate=1e38), separable()
    _, measured = run_round(job, [(0, examples)], Round(0, 0), state=job.first_state())
    assert measured.overflow is not None
    assert measured.steps > 1
    rows = set(measured.overflow.positions)
    assert len(rows) == len(measured.overflow.positions) <= 8
    assert measured.overflow.step < 3, "the first of them"
    assert (
        run_round(small_job(), [(0, examples)], Round(0, 0), state=job.first_state())[1].overflow
        is None
    )


def test_noise_changes_each_review_by_its_length_to_where_the_loss_is_higher():
    torch.manual_seed(0)
    job = small_job(tune_vectors=True, ngrams=0, embedding_dropout=0.0, output_dropout=0.0)
    examples = separable(6)
    network = job.network().train()
    ids, lengths = padded(examples, np.arange(6))
    target = torch.from_numpy(examples.labels).float()
    vectors = network.embed(ids)
    vectors.retain_grad()
    losses = functional.binary_cross_entropy_with_logits
    before = losses(network.read(vectors, ids, lengths), target, reduction="none")
    before.sum().backward()
    noise = worst(vectors, 0.1)
    assert torch.allclose(noise.pow(2).sum(dim=(0, 2)).sqrt(), torch.tensor(0.1))
    after = losses(network.read(vectors + noise, ids, lengths), target, reduction="none")
    assert (after > before).all()


def test_with_noise_the_measured_loss_is_the_one_without():
    examples, plain, noisy = separable(), small_job(), small_job(adversarial_noise=0.5)
    state = plain.first_state()
    first = Round(0, 0, steps=1)
    ones = [run_round(job, [(0, examples)], first, state=state) for job in (plain, noisy)]
    assert ones[0][1].loss == ones[1][1].loss
    assert ones[0][0] != ones[1][0]
