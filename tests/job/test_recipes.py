import pytest

from sentiment.errors import InvalidInputError
from sentiment.recipes import RECIPES, best, for_workers, quick, talk, with_changes


def test_the_talks_settings():
    recipe = talk()
    assert recipe.text.max_tokens == 100
    assert (recipe.model.cell, recipe.model.hidden, recipe.model.tune_vectors) == (
        "graves",
        200,
        False,
    )
    assert (recipe.optimizer.name, recipe.optimizer.learning_rate) == ("rmsprop", 0.0018)
    assert (recipe.optimizer.l2, recipe.optimizer.clip_value) == (1e-5, 1.0)
    assert (recipe.train.batch_size, recipe.train.epochs) == (50, 5)


def test_names_are_the_functions_names():
    assert all(make().name == name for name, make in RECIPES.items())


def test_changes_are_made_and_recorded_and_none_is_no_change():
    changed = with_changes(best(), epochs=7, hidden=None, learning_rate=0.1)
    assert changed.train.epochs == 7
    assert changed.optimizer.learning_rate == 0.1
    assert changed.model == best().model
    assert changed.extra == {"epochs": "7", "learning_rate": "0.1"}


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"rounds_per_epoch": -1},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"validation": 1.0},
        {"no": 1},
    ],
)
def test_values_out_of_range_are_refused(change):
    with pytest.raises(InvalidInputError, match=next(iter(change)).replace("_", ".")):
        with_changes(quick(), **change)


@pytest.mark.parametrize(
    ("strategy", "workers", "times", "rounds"),
    [
        ("averaging", 1, 1, 2),
        ("averaging", 2, 1, 2),
        ("averaging", 4, 2**0.5, 4),
        ("averaging", 100, 2, 4),
        ("allreduce", 1, 1, 2),
        ("allreduce", 2, 2**0.5, 2),
        ("allreduce", 4, 2, 2),
    ],
)
def test_more_workers_learn_at_a_higher_rate_and_agree_more_often(strategy, workers, times, rounds):
    recipe = for_workers(with_changes(quick(), strategy=strategy), workers)
    assert recipe.optimizer.learning_rate == pytest.approx(0.003 * times)
    assert recipe.train.rounds_per_epoch == rounds


def test_values_that_were_given_and_those_of_the_talk_stay():
    given = with_changes(quick(), learning_rate=0.01, rounds_per_epoch=1)
    assert for_workers(given, 8) == given
    assert for_workers(talk(), 8) == talk()
