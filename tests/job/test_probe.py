"""What the probe makes of rounds. Its workers are stand-ins whose clocks are known; the real ones
are measured in tests/job/test_story.py and by tests.bench.train."""

import pytest

from sentiment.errors import SentimentError
from sentiment.loop import Measured
from sentiment.probe import TURNS, WARM_UP_STEPS, measure
from sentiment.strategy import RoundResult

STATE = b"first"


def worked(steps, step, *, start=0.0):
    """So many steps of a worker, the first half of them slower, by `start` seconds in all."""
    late = (steps - steps // 2) * step
    return Measured(steps=steps, seconds=steps * step + start, late_seconds=late)


class Workers:
    """Two stand-ins: seconds of a step in each turn, of both at once and of one alone.

    `start`: what a round's first steps take longer, where both work at once.
    """

    def __init__(self, together, alone, *, agreeing=0.5, start=0.0):
        self.together, self.alone, self.agreeing = together, alone, agreeing
        self.start = start
        self.turn = -2  # the first two rounds only warm up
        self.steps = []

    def train_round(self, which, state):
        assert state == STATE
        self.steps.append(which.steps)
        if which.steps == 0:
            return RoundResult(STATE, [Measured(), Measured()], self.agreeing)
        slow, fast = self.together[max(self.turn, 0)]
        self.turn += 1
        workers = [worked(which.steps, step, start=self.start) for step in (slow, fast)]
        return RoundResult(STATE, workers, which.steps * slow + self.start + self.agreeing)

    def train_alone(self, which, state):
        step = self.alone[self.turn - 1]
        return worked(which.steps, step)


class Broken:
    """Allreduce where it cannot be had."""

    asked = 0

    def train_round(self, which, state):
        self.asked += 1
        raise SentimentError("no worker is left", todo="wait")


def measured(workers, allreduce=None):
    return measure(workers, allreduce, state=STATE, steps_per_epoch=500, at_once=2)


def test_the_turn_counts_in_which_the_workers_disturb_each_other_least():
    workers = Workers([(0.30, 0.20), (0.12, 0.08), (0.20, 0.20)], [0.1, 0.1, 0.1])
    told = measured(workers)
    assert told.alone_step == pytest.approx(0.1)
    assert told.step == pytest.approx(0.10)
    assert told.skew == pytest.approx(1.2)
    assert told.round == pytest.approx(0.5)
    assert told.sync is None


def test_a_machine_that_slows_down_between_turns_changes_nothing():
    steady = measured(Workers([(0.1, 0.1)] * TURNS, [0.1] * TURNS))
    slowed = measured(Workers([(0.1, 0.1), (0.2, 0.2), (0.2, 0.2)], [0.1, 0.2, 0.2]))
    assert slowed.alone_step / slowed.step == pytest.approx(steady.alone_step / steady.step)


def test_it_measures_for_some_seconds_and_never_more_than_an_epoch():
    slow, fast = (
        Workers([(0.1, 0.1)] * TURNS, [0.1] * TURNS),
        Workers([(1e-6, 1e-6)] * 3, [1e-6] * 3),
    )
    measured(slow), measured(fast)
    assert slow.steps[0] == WARM_UP_STEPS
    assert slow.steps[-2] == 15
    assert max(fast.steps) == 500


def test_gradients_summed_cost_what_a_step_takes_longer():
    def told(slow, fast):
        apart = Workers([(0.1, 0.1)] * TURNS, [0.1] * TURNS)
        return measured(apart, Workers([(slow, fast)] * TURNS, [], agreeing=0.7))

    assert told(0.13, 0.12).sync == pytest.approx(0.03)
    assert told(0.13, 0.12).meeting == pytest.approx(0.7)
    assert told(0.09, 0.09).sync == 0.0


@pytest.mark.parametrize("step", [0.05, 0.1, 0.4])
def test_what_begins_beside_the_first_steps_is_a_cost_of_the_round_and_not_of_a_step(step):
    slow = [(step, step)] * TURNS
    told = measured(
        Workers(slow, [step] * TURNS, start=0.3), Workers(slow, [step] * TURNS, start=0.2)
    )
    assert told.step == told.alone_step == pytest.approx(step)
    assert told.round == pytest.approx(0.8)
    assert (told.sync, told.meeting) == (pytest.approx(0.0), pytest.approx(0.7))


def test_without_allreduce_there_is_still_a_plan():
    broken = Broken()
    told = measured(Workers([(0.1, 0.1)] * TURNS, [0.1] * TURNS), broken)
    assert (told.sync, told.meeting) == (None, 0.0)
    assert broken.asked == 1
