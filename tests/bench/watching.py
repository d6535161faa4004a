"""Training with all listeners beside training with none: the limit is 3 % slower.

    python -m tests.bench.watching [--runs 5] [--recipe quick] [--data FOLDER]

The first round of a run, by two one-core workers of one session of Spark's, with listeners and
without in turn: made on the workers, agreed on, told to an event file. Checkpoints and validation,
the same in both, are left out. Beside it what listeners add, each part alone: on the worker of the
first shard, which measures its gradients, and on the driver, which tells of the layers. A round
takes seconds and these take milliseconds: on a machine that has other work too, their sum says
more than the difference of two rounds.
"""

import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import click
import torch

from sentiment.corpus import open_corpus
from sentiment.events import EventLog, event_log
from sentiment.figures import layer_figures, round_figures
from sentiment.loop import _gradients
from sentiment.preparation import Prepared, prepare
from sentiment.recipes import RECIPES
from sentiment.rounds import Job, Round
from sentiment.session import find_place, spark_session
from sentiment.strategies import settings_for, strategy_for
from sentiment.strategy import Strategy
from sentiment.vectors import open_table
from tests.bench.measure import in_turn, machine, ratios, spread
from tests.bench.train import made

WORKERS = 2
LIMIT = 1.03


def measure(
    prepared: Prepared, strategy: Strategy, log: EventLog, told: list[float], *, listeners: bool
) -> float:
    """Seconds of a round, from its begin to its last event; `told`: those of `layers` alone."""
    job, state = prepared.job, prepared.job.first_state()
    which = Round(0, 0, listeners=listeners)
    started = time.perf_counter()
    result = strategy.train_round(which, state)
    log.write("round", **round_figures(which, job, result))
    trained = time.perf_counter()
    if listeners:
        log.write("layers", **layer_figures(which, job, result, before=state))
        told.append(time.perf_counter() - trained)
    seconds = time.perf_counter() - started
    click.echo(f"{'with' if listeners else 'without'}: {seconds:.2f} s", err=True)
    return seconds


def gradients_seconds(job: Job, runs: int) -> list[float]:
    """Seconds that a worker takes to measure the gradients of all parameters, of a network."""
    network = job.network()
    torch.manual_seed(0)
    for parameter in network.parameters():
        parameter.grad = torch.randn_like(parameter)
    seconds = []
    for _ in range(runs):
        started = time.perf_counter()
        found = _gradients(network)
        seconds.append(time.perf_counter() - started)
        assert found
    return seconds


@click.command()
@click.option("--runs", default=5, show_default=True)
@click.option("--recipe", "name", default="quick", show_default=True)
@click.option("--data", type=click.Path(path_type=Path), help="Keep corpus and table there.")
def main(runs: int, name: str, data: Path | None) -> None:
    place = find_place(f"local[{WORKERS}]")
    told: list[float] = []
    with (
        tempfile.TemporaryDirectory(prefix="bench-watching-", dir="/var/tmp") as scratch,
        event_log(Path(scratch) / "events.jsonl") as log,
        spark_session(place, name="bench-watching", settings=settings_for(place)) as spark,
    ):
        corpus, table = made(data or Path(scratch))
        prepared = prepare(
            spark,
            corpus=open_corpus(corpus),
            table=open_table(table),
            recipe=RECIPES[name](),
            workers=WORKERS,
        )
        strategy = strategy_for(spark, prepared, log.warn)
        round_ = partial(measure, prepared, strategy, log, told)
        ways = {
            "all listeners": partial(round_, listeners=True),
            "none": partial(round_, listeners=False),
        }
        results = in_turn(runs, ways)
        added = gradients_seconds(prepared.job, 5 * runs)
    ours, theirs = results.values()
    slower = ratios(ours, theirs)
    print(f"\n{machine()}; recipe {name}; {runs} runs, median (min - max)\n")
    print("a round with listeners; seconds, and to one without")
    for way, values in results.items():
        print(f"  {way:<16}{spread(values)!s:<28}{slower if values is ours else ''}")
    print(f"  limit: {LIMIT} times ({'within' if slower.median <= LIMIT else 'BEYOND'} it)")
    worker, driver = (statistics.median(values) * 1e3 for values in (added, told))
    share = (worker + driver) / 1e3 / statistics.median(theirs)
    print(f"  what is added: {worker:.1f} ms on a worker, {driver:.1f} ms on the driver")
    print(f"  together {share:.2%} of a round without listeners")


if __name__ == "__main__":
    main()
