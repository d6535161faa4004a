"""The mean of states, and the outer step from one to the next."""

import torch

from sentiment.agreement import average, default_momentum, outer_step, without_outer
from sentiment.loop import state_from_bytes, state_to_bytes
from sentiment.rounds import Round, run_round

from .test_rounds import separable, small_job


def weight(*values):
    return {"model.x": torch.tensor(values), "optimizer.exp_avg.x": torch.tensor(values)}


def test_an_average_weighs_by_reviews():
    assert average([weight(0.0), weight(4.0)], weights=[1, 3])["model.x"].item() == 3.0


def test_the_average_of_one_state_is_that_state():
    job = small_job()
    data, _ = run_round(job, [(0, separable())], Round(0, 0), state=job.first_state())
    state = state_from_bytes(data)
    assert state_to_bytes(average([state], weights=[200])) == data


def test_one_worker_has_no_outer_momentum_and_the_mean_is_the_state():
    assert default_momentum(1) == 0
    assert default_momentum(4) == 0.75
    agreed = weight(0.1, 0.7)
    assert outer_step(weight(0.3, 0.2), agreed, momentum=0) is agreed


def test_the_outer_step_is_nesterovs_of_torch():
    """torch.optim.SGD with the rate 1, whose gradient is what the workers moved by, reversed."""
    start, moves = torch.tensor([1.0, -2.0]), ([0.5, 0.25], [-0.125, 1.0], [0.0, 0.5])
    parameter = torch.nn.Parameter(start.clone())
    reference = torch.optim.SGD([parameter], lr=1.0, momentum=0.5, nesterov=True)
    state = {"model.x": start}
    for move in moves:
        agreed = {"model.x": state["model.x"] + torch.tensor(move)}
        state = outer_step(state, agreed, momentum=0.5)
        parameter.grad = -torch.tensor(move)
        reference.step()
        assert torch.equal(state["model.x"], parameter.detach())


def test_the_optimizers_moments_get_no_momentum_and_workers_no_velocity():
    state = outer_step(weight(0.0), weight(1.0), momentum=0.5)
    assert state["optimizer.exp_avg.x"].item() == 1.0
    assert state["outer.x"].item() == 1.0
    assert without_outer(state).keys() == weight(0.0).keys()
