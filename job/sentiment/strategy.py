"""How copies of the training loop agree: what a run asks of a strategy.

`averaging`: each worker trains apart for a round, then their states are averaged.
`allreduce`: the workers add their gradients up at every step.
"""

from dataclasses import dataclass
from typing import Protocol

from sentiment.loop import Measured
from sentiment.rounds import Round


@dataclass(frozen=True)
class RoundResult:
    """The state after a round, each worker's measurements, and the clock's seconds.

    What `seconds` exceeds the slowest worker's by is the round's overhead.
    """

    state: bytes
    workers: list[Measured]
    seconds: float

    @property
    def total(self) -> Measured:
        """All workers together."""
        return sum(self.workers, Measured())

    @property
    def overhead(self) -> float:
        """Seconds of the round in which the slowest worker did not train."""
        return self.seconds - max(m.seconds - m.sync_seconds for m in self.workers)


class Strategy(Protocol):
    """Brings a state from one round to the next."""

    def train_round(self, which: Round, state: bytes) -> RoundResult:
        """The round `which`, begun with `state`: the same state again gives the same."""
