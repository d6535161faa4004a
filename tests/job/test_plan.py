"""What more workers are worth, by the sum of the documents."""

import pytest

from sentiment import recipes
from sentiment.plan import Measurements, plan, predict


def measured(**changes):
    usual = {
        "workers": 4, "alone_step": 0.1, "step": 0.1, "skew": 1.0, "round": 0.0, "sync": 0.0
    }  # fmt: skip
    return Measurements(**(usual | changes))


def test_without_any_cost_n_workers_are_n_times_as_fast():
    for strategy in ("averaging", "allreduce"):
        row = predict(measured(), strategy=strategy, steps_a_round=10)
        assert row.speed_up == pytest.approx(4)
        assert row.overhead == 0


def test_the_talks_network_was_always_slower():
    """4 ms a step, 4 workers, 21 ms for agreeing: a GPU and a network of 1 Gbit/s."""
    slow = measured(alone_step=0.004, step=0.004, round=0.0214)
    assert predict(slow, strategy="averaging", steps_a_round=1).speed_up == pytest.approx(
        0.63, abs=0.01
    )
    assert predict(slow, strategy="averaging", steps_a_round=16).speed_up == pytest.approx(
        3.0, abs=0.01
    )


def test_skew_contention_and_agreement_cost():
    assert predict(measured(skew=2.0), strategy="averaging", steps_a_round=9).speed_up == 2
    assert predict(measured(step=0.2), strategy="averaging", steps_a_round=9).speed_up == 2
    row = predict(measured(round=1.0), strategy="averaging", steps_a_round=10)
    assert (row.speed_up, row.overhead) == (pytest.approx(2), pytest.approx(0.5))
    for cost in ({"sync": 0.1}, {"sync": 0.0, "meeting": 1.0}):
        row = predict(measured(**cost), strategy="allreduce", steps_a_round=10)
        assert (row.speed_up, row.overhead) == (pytest.approx(2), pytest.approx(0.5))


def test_it_says_that_one_worker_is_as_fast():
    told = plan(measured(round=60.0, sync=3.0), recipes.quick(), steps_per_epoch=100)
    assert told.advice.startswith("one worker is faster (--workers 1)")
    told = plan(measured(step=0.4, sync=3.0), recipes.quick(), steps_per_epoch=100)
    assert told.advice.startswith("one worker is as fast (--workers 1)")


def test_it_names_the_rounds_that_would_pay():
    recipe = recipes.with_changes(recipes.quick(), rounds_per_epoch=16)
    told = plan(measured(round=5.0, sync=2.0), recipe, steps_per_epoch=160)
    assert told.chosen.steps_a_round == 10
    assert "--strategy averaging --rounds-per-epoch 1 " in told.advice


def test_a_recipe_of_allreduce_is_the_chosen_row():
    recipe = recipes.with_changes(recipes.quick(), strategy="allreduce")
    told = plan(measured(), recipe, steps_per_epoch=100)
    assert told.chosen.strategy == "allreduce"
    assert told.advice == "it pays as it is"


def test_where_gradients_cannot_be_added_up_only_averaging_is_planned():
    told = plan(measured(sync=None), recipes.quick(), steps_per_epoch=100)
    assert {row.strategy for row in told.rows} == {"averaging"}


def test_one_worker_has_nothing_to_agree_on():
    assert "one worker" in plan(measured(workers=1), recipes.quick(), steps_per_epoch=9).advice


def test_workers_that_take_turns_are_as_fast_as_the_cores_that_there_are():
    row = predict(measured(turns=2), strategy="averaging", steps_a_round=9)
    assert row.speed_up == 2


def test_rounds_are_picked_as_short_as_is_cheap():
    recipe = recipes.quick()
    assert plan(measured(round=0.04), recipe, steps_per_epoch=160).rounds_per_epoch == 16
    assert plan(measured(round=0.2), recipe, steps_per_epoch=160).rounds_per_epoch == 4
    assert plan(measured(round=60.0), recipe, steps_per_epoch=160).rounds_per_epoch == 1
