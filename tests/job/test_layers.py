"""What a training tells of its layers, and that telling changes nothing of what is learned."""

import json
import math

import numpy as np
import pytest
import torch

from sentiment.figures import layer_figures, round_figures
from sentiment.layers import BUCKETS, SAMPLE, Distribution, distribution
from sentiment.loop import Measured, state_from_bytes
from sentiment.rounds import Round, learning_rate, run_round
from sentiment.strategy import RoundResult

from .test_rounds import separable, small_job

NOTHING = (0,) * BUCKETS


def test_a_distribution_is_numpys_histogram_and_norm():
    values = torch.randn(40, 50, generator=torch.Generator().manual_seed(3))
    spread = distribution(values)
    counts, edges = np.histogram(values.double().numpy(), BUCKETS)
    assert spread.counts == tuple(counts.tolist())
    assert (spread.low, spread.high) == pytest.approx((edges[0], edges[-1]), rel=1e-5)
    assert spread.norm == pytest.approx(np.linalg.norm(values.double().numpy()), rel=1e-5)


def test_of_a_large_tensor_a_sample_of_all_its_columns_is_counted():
    values = torch.zeros(5000, 50)  # strides of 2 and 3 in turn meet 20 of its columns
    values[:, 7] = 1
    spread = distribution(values)
    assert sum(spread.counts) == SAMPLE
    assert spread.counts[-1] == pytest.approx(SAMPLE / 50, rel=0.1)
    assert spread.norm == pytest.approx(math.sqrt(5000), rel=1e-5), "the norm is of all values"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([math.nan, math.inf, 1, 2], Distribution(None, 1, 2, (1, *NOTHING[2:], 1))),
        ([math.nan, -math.inf], Distribution(None, 0, 0, NOTHING)),
        ([0, 0, 0], Distribution(0, 0, 0, (3, *NOTHING[1:]))),
        ([], Distribution(0, 0, 0, NOTHING)),
        ([-3e38, 3e38], Distribution(4.24264e38, -3e38, 3e38, (1, *NOTHING[2:], 1))),
    ],
)
def test_values_that_are_no_numbers_or_all_the_same_or_huge(values, expected):
    assert distribution(torch.tensor(values, dtype=torch.float32)) == expected


@pytest.mark.parametrize("name", ["quick", "talk"])
def test_listeners_change_no_bit_of_a_round_and_no_sum(name):
    job, examples = small_job(name), separable()
    state = job.first_state()
    with_them, told = run_round(job, [(0, examples)], Round(0, 0, listeners=True), state=state)
    without, silent = run_round(job, [(0, examples)], Round(0, 0), state=state)
    assert with_them == without
    assert silent.gradients is None
    names = [name for name, p in job.network().named_parameters() if p.requires_grad]
    assert list(told.gradients) == names, "every trained parameter, in the network's order"
    sums = ("reviews", "tokens", "loss", "correct", "gradient_norm", "steps", "overflow")
    assert [getattr(told, one) for one in sums] == [getattr(silent, one) for one in sums]


def test_the_gradients_are_those_of_the_last_step_before_clipping():
    job, examples = small_job(clip_norm=1e-3), separable()
    state = job.first_state()
    for steps in (1, 3):
        norms = [
            run_round(job, [(0, examples)], Round(0, 0, steps=made, listeners=True), state=state)[1]
            for made in (steps - 1, steps)
        ]
        last = norms[1].gradient_norm - norms[0].gradient_norm
        layers = norms[1].gradients.values()
        assert math.hypot(*(one.norm for one in layers)) == pytest.approx(last, rel=1e-4)


def test_of_several_workers_the_first_tells():
    job, which = small_job(rows=(200, 200)), Round(0, 0, listeners=True)
    measured = [
        run_round(job, [(shard, separable(seed=shard))], which, state=job.first_state())[1]
        for shard in (0, 1)
    ]
    assert measured[1].gradients is None
    total = sum(measured, Measured())
    assert total.gradients == measured[0].gradients
    assert total.reviews == measured[0].reviews + measured[1].reviews


def test_the_event_has_weights_updates_and_gradients_of_each_layer():
    job, which = small_job(), Round(1, 1, listeners=True)
    before = job.first_state()
    after, measured = run_round(job, [(0, separable())], which, state=before)
    result = RoundResult(after, [measured], 1.0)
    event = json.loads(json.dumps(layer_figures(which, job, result, before=before)))
    assert (event["round"], event["epoch"]) == (which.number(job.recipe) + 1, 2)
    old, new = state_from_bytes(before), state_from_bytes(after)
    assert [layer["name"] for layer in event["layers"]] == list(measured.gradients)
    for layer in event["layers"]:
        weights = new[f"model.{layer['name']}"]
        update = weights - old[f"model.{layer['name']}"]
        assert layer["weight_norm"] == pytest.approx(float(weights.norm()), rel=1e-4)
        assert layer["update_norm"] == pytest.approx(float(update.norm()), rel=1e-4)
        for kind, values in (("weights", weights), ("updates", update), ("gradients", weights)):
            assert len(layer[kind]["counts"]) == BUCKETS
            assert sum(layer[kind]["counts"]) == min(SAMPLE, values.numel())
        assert layer["updates"]["low"] == pytest.approx(float(update.min()), rel=1e-4)
        assert layer["gradient_norm"] > 0


def test_weights_that_are_no_numbers_are_told_as_none_and_never_as_nan():
    job, which = small_job(learning_rate=1e38), Round(0, 0, listeners=True)
    before = job.first_state()
    after, measured = run_round(job, [(0, separable())], which, state=before)
    event = layer_figures(which, job, RoundResult(after, [measured], 1.0), before=before)
    json.dumps(event, allow_nan=False)
    assert any(layer["weight_norm"] is None for layer in event["layers"])


def test_a_round_tells_the_learning_rate_of_its_last_step():
    job = small_job(learning_rate=0.5)
    parts, epochs = job.recipe.train.rounds_per_epoch, job.recipe.train.epochs
    rates = [learning_rate(job, Round(*divmod(n, parts))) for n in range(epochs * parts)]
    steps = epochs * job.steps_per_epoch
    assert rates[-1] == pytest.approx(0.5 / steps)
    assert rates[0] == pytest.approx(0.5 * (1 - (job.steps_per_epoch // parts - 1) / steps))
    told = round_figures(Round(0, 0), job, RoundResult(b"", [Measured(seconds=1)], 1.0))
    assert told["learning_rate"] == pytest.approx(rates[0], rel=1e-5)
