"""What the probe makes of rounds. Its workers are stand-ins whose clocks are known; the real ones
are measured in tests/job/test_story.py and by tests.bench.train."""

import pytest

from sentiment.errors import SentimentError
from sentiment.loop import Measured
from sentiment.probe import TURNS, WARM_UP_STEPS, measure
from sentiment.strategy import RoundResult

STATE = b"first"


class Workers:
    """Two stand-ins: seconds of a step in each turn, of both at once and of one alone."""

    def __init__(self, together, alone, *, agreeing=0.5):
        self.together, self.alone, self.agreeing = together, alone, agreeing
        self.turn = -2  # the first two rounds only warm up
        self.steps = []

    def train_round(self, which, state):
        assert state == STATE
        self.steps.append(which.steps)
        if which.steps == 0:
            return RoundResult(STATE, [Measured(), Measured()], self.agreeing)
        slow, fast = self.together[max(self.turn, 0)]
        self.turn += 1
        workers = [
            Measured(steps=which.steps, seconds=which.steps * step, sync_seconds=which.steps * 0.01)
            for step in (slow, fast)
        ]
        return RoundResult(STATE, workers, which.steps * slow + self.agreeing)

    def train_alone(self, which, state):
        step = self.alone[self.turn - 1]
        return Measured(steps=which.steps, seconds=which.steps * step)


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


def test_gradients_summed_cost_what_the_worker_waits_that_waits_least():
    workers = Workers([(0.1, 0.1)] * TURNS, [0.1] * TURNS)
    told = measured(workers, Workers([(0.1, 0.1)] * TURNS, [0.1] * TURNS, agreeing=0.7))
    assert told.sync == pytest.approx(0.01)
    assert told.meeting == pytest.approx(0.7)


def test_without_allreduce_there_is_still_a_plan():
    broken = Broken()
    told = measured(Workers([(0.1, 0.1)] * TURNS, [0.1] * TURNS), broken)
    assert (told.sync, told.meeting) == (None, 0.0)
    assert broken.asked == 1
