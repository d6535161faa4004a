"""What one worker does between two agreements, without knowing of Spark.

A round is a pure function of (state, shard, seed): run twice, on any worker, it
gives the same bytes.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sentiment.examples import Examples, training_batches
from sentiment.loop import (
    Measured,
    Portion,
    initial_state,
    load_weights,
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

    `vectors` float32 [words + 2, dimensions]: the network's first word vectors.
    `steps_per_epoch`: of the largest shard; the schedule's measure. `table_words`: where words
    outside of the vocabulary get their vectors, if they have any.
    """

    recipe: Recipe
    vectors: NDArray[np.float32]
    steps_per_epoch: int
    threads: int
    table_words: TableWords | None = None

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
    """Which part of which epoch; both counted from 0."""

    epoch: int
    part: int

    def number(self, recipe: Recipe) -> int:
        """The round's place in the run, from 0."""
        return self.epoch * recipe.train.rounds_per_epoch + self.part


def run_round(
    job: Job, examples: Examples, which: Round, *, shard: int, state: bytes
) -> tuple[bytes, Measured]:
    """Train on this round's part of the shard's epoch; returns the new state."""
    train = job.recipe.train
    batches = training_batches(
        examples, batch_size=train.batch_size, seed=(train.seed, which.epoch, shard)
    )
    start = which.part * len(batches) // train.rounds_per_epoch
    end = (which.part + 1) * len(batches) // train.rounds_per_epoch
    seeds = np.random.SeedSequence((train.seed, which.epoch, which.part, shard))
    portion = Portion(
        batches=batches[start:end],
        first_step=which.epoch * job.steps_per_epoch + start,
        total_steps=train.epochs * job.steps_per_epoch,
        seed=int(seeds.generate_state(1)[0]),
    )
    new, measured = train_portion(
        job.network(),
        examples,
        portion,
        config=job.recipe.optimizer,
        state=state_from_bytes(state),
    )
    return state_to_bytes(new), measured


def run_validation(job: Job, examples: Examples, *, state: bytes) -> Measured:
    """Loss and accuracy of a state on examples that it is not trained on."""
    return validate(job.network(), examples, state=state_from_bytes(state))


def trained_network(job: Job, state: bytes) -> SentimentNetwork:
    """The network with a state's weights."""
    network = job.network()
    load_weights(network, state_from_bytes(state))
    return network
