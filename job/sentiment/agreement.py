"""How the states of workers that trained apart become one.

Their mean, weighted by the reviews that each has seen, and then a step of an outer optimizer:
what all of them moved by together is a gradient, and it gets momentum (Chen & Huo 2016, BMUF;
Douillard et al. 2023, DiLoCo). Averaging alone lets N workers move only as far as one does.
"""

import torch

from sentiment.loop import State

OUTER = "outer."
"""In a state: `outer.NAME`, the velocity of the weight `model.NAME`."""


def average(states: list[State], *, weights: list[int]) -> State:
    """The weighted mean of states, summed in the given order in float64.

    The order is the shards', never the order of arrival: the same states give
    the same bits.
    """
    total = sum(weights)
    return {
        name: sum(
            (
                state[name].double() * (weight / total)
                for state, weight in zip(states, weights, strict=True)
            ),
            start=torch.zeros_like(states[0][name], dtype=torch.float64),
        ).to(states[0][name].dtype)
        for name in states[0]
    }


def outer_step(before: State, agreed: State, *, momentum: float) -> State:
    """From the state `before` a round and the mean after it to the state that the next begins with.

    Nesterov's momentum, as in torch.optim.SGD, with a rate of 1. The optimizer's moments are
    those of the mean. Without momentum the mean itself is the state, bit for bit.
    """
    if momentum == 0:
        return agreed
    after = dict(agreed)
    for name, value in agreed.items():
        kind, _, rest = name.partition(".")
        if kind != "model":
            continue
        start = before[name].double()
        moved = value.double() - start
        velocity = moved + momentum * before.get(OUTER + rest, torch.zeros_like(value)).double()
        after[OUTER + rest] = velocity.to(value.dtype)
        after[name] = (start + moved + momentum * velocity).to(value.dtype)
    return after


def without_outer(state: State) -> State:
    """What the workers need of a state."""
    return {name: value for name, value in state.items() if not name.startswith(OUTER)}


def default_momentum(workers: int) -> float:
    """1 - 1/workers: the mean of N workers is N times as slow as their sum (Chen & Huo 2016)."""
    return 1 - 1 / workers
