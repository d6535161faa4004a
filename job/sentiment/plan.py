"""What more workers are worth, before they work: some seconds of measuring, then a sum.

With N workers, H steps a round, t seconds a step, the slowest worker s times as slow as their mean
and r seconds for a round's agreement, averaging is

    N · t1 / (s · t + r / H)    times as fast as one worker, which needs t1 a step,

and allreduce, with a seconds for adding gradients up at every step and m for the workers to meet,

    N · t1 / (s · t + a + m / H).

Where fewer tasks run at once than there are workers, these take turns: their steps take w times as
long, with w = the number of turns.

The rounds that are measured change nothing: they begin with the first state, which is kept.
"""

from dataclasses import asdict, dataclass
from typing import Any, Final

from sentiment.recipes import Recipe, StrategyName

PAYS: Final = 1.1
"""More workers are worth it from this speed-up on."""
CHEAP: Final = 0.05
"""Agreeing may take this share of the time: rounds are picked as short as that allows."""


@dataclass(frozen=True)
class Measurements:
    """Seconds of this job on this cluster, now."""

    workers: int
    alone_step: float
    """Of a step while one worker works."""
    step: float
    """Of a step while all work: the mean worker's."""
    skew: float
    """The slowest worker's by the mean worker's."""
    round: float
    """Of a round beside its steps: the state there and back, and its averaging."""
    turns: int = 1
    """1: all workers work at once; 2: half of them have to wait for the others."""
    sync: float | None = None
    """Of adding gradients up at one step; None where it cannot be had."""
    meeting: float = 0.0
    """Of a round of allreduce beside its steps and sums."""


@dataclass(frozen=True)
class Row:
    """What a strategy with so many steps a round comes to. `speed_up`: against one worker."""

    strategy: StrategyName
    steps_a_round: int
    speed_up: float
    overhead: float
    """The share of the time in which the workers agree and do not learn."""


@dataclass(frozen=True)
class Plan:
    """What was measured, and what follows."""

    measured: Measurements
    chosen: Row
    """As the recipe says."""
    rows: tuple[Row, ...]
    rounds_per_epoch: int
    """Picked for averaging: the more often the workers agree, the closer they are to one."""
    advice: str

    def to_json(self) -> dict[str, Any]:
        """Plain values, for the event file."""
        return {
            "measured": asdict(self.measured),
            "chosen": asdict(self.chosen),
            "rows": [asdict(row) for row in self.rows],
            "rounds_per_epoch": self.rounds_per_epoch,
            "advice": self.advice,
        }


def predict(measured: Measurements, *, strategy: StrategyName, steps_a_round: int) -> Row:
    """The speed-up by the formula above."""
    learning = measured.skew * measured.step * measured.turns
    if strategy == "allreduce":
        assert measured.sync is not None
        agreeing = measured.sync + measured.meeting / steps_a_round
    else:
        agreeing = measured.round / steps_a_round
    total = learning + agreeing
    return Row(
        strategy,
        steps_a_round,
        speed_up=measured.workers * measured.alone_step / total,
        overhead=agreeing / total,
    )


def plan(measured: Measurements, recipe: Recipe, *, steps_per_epoch: int) -> Plan:
    """What the recipe will come to, what else there is, and what to do."""
    train = recipe.train
    asked = steps_per_epoch // train.rounds_per_epoch
    lengths = sorted({max(1, steps_per_epoch // n) for n in (1, 2, 4, 8, 16)} | {asked})
    rows = [predict(measured, strategy="averaging", steps_a_round=n) for n in lengths]
    if measured.sync is not None:
        rows.append(predict(measured, strategy="allreduce", steps_a_round=asked))
    chosen = next(
        (row for row in rows if (row.strategy, row.steps_a_round) == (train.strategy, asked)),
        predict(measured, strategy="averaging", steps_a_round=asked),
    )
    advice = _advice(measured, chosen, rows, steps_per_epoch)
    picked = steps_per_epoch // _picked(rows).steps_a_round
    return Plan(measured, chosen, tuple(rows), max(1, picked), advice)


def _picked(rows: list[Row]) -> Row:
    averaging = [row for row in rows if row.strategy == "averaging"]
    cheap = [row for row in averaging if row.overhead <= CHEAP]
    if not cheap:
        return max(averaging, key=lambda row: row.steps_a_round)
    return min(cheap, key=lambda row: row.steps_a_round)


def _advice(measured: Measurements, chosen: Row, rows: list[Row], steps_per_epoch: int) -> str:
    if measured.workers == 1:
        return "one worker: nothing to agree on"
    best = max(rows, key=lambda row: row.speed_up)
    if best.speed_up < PAYS:
        faster = "faster" if best.speed_up * PAYS < 1 else "as fast"
        return (
            f"one worker is {faster} (--workers 1): a step takes "
            f"{measured.alone_step * 1e3:.0f} ms alone, {measured.step * 1e3:.0f} ms "
            f"beside the others, and agreeing {measured.round:.2f} s a round"
        )
    if best.speed_up > PAYS * chosen.speed_up:
        how = f"--strategy {best.strategy}"
        if best.strategy == "averaging":
            how += f" --rounds-per-epoch {max(1, steps_per_epoch // best.steps_a_round)}"
        return f"{how} would be {best.speed_up:.2f} times as fast as one worker"
    return "it pays as it is"
