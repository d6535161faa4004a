"""Training with all listeners beside training with none: the limit is 3 % slower.

    python -m tests.bench.watching [--runs 5] [--recipe quick] [--epochs 1] [--data FOLDER]

Real runs of the command line, in turn, by two workers in one process of Spark's on this machine;
the figures are those of the event files. Counted is the whole run without its start: training,
agreeing, telling, checkpoints, validation. Beside it what telling takes of the driver's time
alone: from a round's event to that of its layers.
"""

import json
import os
import statistics
import subprocess
import tempfile
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import click

from tests.bench.measure import in_turn, machine, ratios, spread
from tests.bench.train import SENTIMENT, made

LIMIT = 1.03
WAYS = {"all listeners": "--listeners", "none": "--no-listeners"}


def train(data: tuple[Path, Path], scratch: Path, given: tuple[str, ...]) -> list[dict[str, Any]]:
    """The events of one run."""
    corpus, table = data
    model = scratch / "model"
    words = (str(corpus), str(model), "--vectors", str(table), "--no-plan", "--force", *given)
    place = ("--master", "local[2]", "--workers", "2")
    environment = {**os.environ, "SPARKBUNDLE_STATE": str(scratch / "state")}
    done = subprocess.run(
        [SENTIMENT, "train", *words, *place],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise click.ClickException(f"exit code {done.returncode}: {done.stderr}")
    lines = model.with_name("model.events.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def seconds(events: list[dict[str, Any]]) -> float:
    """From the start of a run to the end of its last epoch."""
    times = {event["event"]: event["time"] for event in events}
    return float(times["epoch"] - times["start"])


def telling(events: list[dict[str, Any]]) -> list[float]:
    """Milliseconds of the driver for each event `layers`."""
    return [
        (event["time"] - before["time"]) * 1e3
        for before, event in pairwise(events)
        if event["event"] == "layers"
    ]


@click.command()
@click.option("--runs", default=5, show_default=True)
@click.option("--recipe", default="quick", show_default=True)
@click.option("--epochs", default=1, show_default=True)
@click.option("--data", type=click.Path(path_type=Path), help="Keep corpus and table there.")
def main(runs: int, recipe: str, epochs: int, data: Path | None) -> None:
    told: list[float] = []
    with tempfile.TemporaryDirectory(prefix="bench-watching-", dir="/var/tmp") as folder:
        scratch = Path(folder)
        material = made(data or scratch)

        def measure(option: str) -> float:
            given = ("--recipe", recipe, "--epochs", str(epochs), option)
            events = train(material, scratch, given)
            told.extend(telling(events))
            click.echo(f"{option}: {seconds(events):.1f} s", err=True)
            return seconds(events)

        ways = {name: partial(measure, option) for name, option in WAYS.items()}
        results = in_turn(runs, ways)
    ours, theirs = results.values()
    slower = ratios(ours, theirs)
    print(f"\n{machine()}; recipe {recipe}, {epochs} epochs; {runs} runs, median (min - max)\n")
    print("training with listeners; seconds, and to a run without")
    for name, values in results.items():
        print(f"  {name:<16}{spread(values)!s:<28}{slower if values is ours else ''}")
    verdict = "within" if slower.median <= LIMIT else "BEYOND"
    print(f"  limit: {LIMIT} times ({verdict} it)")
    print(f"  of that the driver's telling of a round: {statistics.median(told):.0f} ms")


if __name__ == "__main__":
    main()
