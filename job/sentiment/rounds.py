"""What one worker does between two agreements, without knowing of Spark.

A round is a pure function of (state, shards, seed): run twice, on any worker, it
gives the same bytes.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sentiment.device import CPU, ON_CPU, DeviceConfig
from sentiment.examples import Examples, batch_sizes, steps_for, training_batches
from sentiment.loop import (
    Measured,
    Piece,
    Portion,
    SumGradients,
    initial_state,
    load_weights,
    rate_factor,
    state_from_bytes,
    state_to_bytes,
    train_portion,
    validate,
)
from sentiment.network import SentimentNetwork
from sentiment.recipes import Recipe
from sentiment.table_words import TableWords


@dataclass(frozen=True)
class Job:
    """What every round of a run needs and no round changes.

    `vectors` float32 [words + 2, dimensions]: the network's first word vectors. `rows`: of each
    shard. `table_words`: where words outside of the vocabulary get their vectors, if they have any.
    `device`: what workers compute on; networks and states are made and travel on the CPU.
    """

    recipe: Recipe
    vectors: NDArray[np.float32]
    rows: tuple[int, ...]
    threads: int
    table_words: TableWords | None = None
    device: DeviceConfig = CPU

    @property
    def steps_per_epoch(self) -> int:
        """Steps that every shard makes in an epoch."""
        return steps_for(self.rows, batch_size=self.recipe.train.batch_size)

    def network(self) -> SentimentNetwork:
        """The network before the first step: the seed decides its weights."""
        # torch adds in another order with other thread counts: the bits depend on it.
        torch.set_num_threads(self.threads)
        torch.manual_seed(self.recipe.train.seed)
        # A copy: training writes into the vectors, and these are every round's.
        vectors = torch.from_numpy(self.vectors.copy())
        return SentimentNetwork(self.recipe.model, vectors=vectors, table_words=self.table_words)

    def first_state(self) -> bytes:
        """The state that the first round starts from."""
        return state_to_bytes(initial_state(self.network(), self.recipe.optimizer))


@dataclass(frozen=True)
class Round:
    """Which part of which epoch; both counted from 0. `steps`: only its first ones, to measure.

    `listeners`: the gradients of its last step are measured, by the worker of the first shard.
    """

    epoch: int
    part: int
    steps: int | None = None
    listeners: bool = False

    def number(self, recipe: Recipe) -> int:
        """The round's place in the run, from 0."""
        return self.epoch * recipe.train.rounds_per_epoch + self.part


Shards = list[tuple[int, Examples]]
"""Shards of an epoch with their numbers, as a worker has them."""


def run_round(
    job: Job,
    shards: Shards,
    which: Round,
    *,
    state: bytes,
    device: torch.device = ON_CPU,
    sum_gradients: SumGradients | None = None,
) -> tuple[bytes, Measured]:
    """Train on this round's part of the shards' epoch, on this device; returns the new state.

    With `sum_gradients` a step is one of all shards of the run, wherever they are; without, of
    these alone.
    """
    new, measured = train_portion(
        job.network().to(device),
        _portion(job, shards, which, together=sum_gradients is not None),
        config=job.recipe.optimizer,
        state=state_from_bytes(state),
        sum_gradients=sum_gradients,
        precision=job.device.precision,
    )
    return state_to_bytes(new), measured


def _portion(job: Job, shards: Shards, which: Round, *, together: bool) -> Portion:
    train, steps = job.recipe.train, job.steps_per_epoch
    start, end = _steps(job, which)
    seed = (train.seed, which.epoch)
    pieces = [
        Piece(
            examples,
            training_batches(examples, steps=steps, seed=seed, shard=shard)[start:end],
            (*seed, shard),
        )
        for shard, examples in shards
    ]
    rows = job.rows if together else [len(examples) for _, examples in shards]
    sizes = sum(batch_sizes(count, steps=steps, seed=seed)[start:end] for count in rows)
    return Portion(
        pieces=pieces,
        reviews=np.asarray(sizes),
        first_step=which.epoch * steps + start,
        total_steps=train.epochs * steps,
        listeners=which.listeners and any(shard == 0 for shard, _ in shards),
    )


def _steps(job: Job, which: Round) -> tuple[int, int]:
    """The round's first step within its epoch, and the one after its last."""
    parts, steps = job.recipe.train.rounds_per_epoch, job.steps_per_epoch
    start, end = which.part * steps // parts, (which.part + 1) * steps // parts
    return start, end if which.steps is None else min(end, start + which.steps)


def learning_rate(job: Job, which: Round) -> float:
    """The rate of the round's last step."""
    config, steps = job.recipe.optimizer, job.steps_per_epoch
    step = which.epoch * steps + _steps(job, which)[1] - 1
    total = job.recipe.train.epochs * steps
    return config.learning_rate * rate_factor(config, step=step, total=total)


def run_validation(
    job: Job, examples: Examples, *, state: bytes, device: torch.device = ON_CPU
) -> Measured:
    """Loss and accuracy of a state on examples that it is not trained on."""
    return validate(job.network().to(device), examples, state=state_from_bytes(state))


def trained_network(job: Job, state: bytes) -> SentimentNetwork:
    """The network with a state's weights."""
    network = job.network()
    load_weights(network, state_from_bytes(state))
    return network
