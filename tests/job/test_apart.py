"""A cluster whose hosts do not see the driver's files: the same results, out of rows sent.

Its daemons run in a mount namespace of their own, in which the driver's folder is empty.
The driver knows the cluster as on a host of it: by its URL and a spark-defaults.conf.
Long: on real hosts, which share no folder either, the same is learned in tests/cluster.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import Sentiment

from .conftest import TRAINING, Scored

pytestmark = pytest.mark.long
# Not `SparkSubmit`: the JVM of the smoke job's driver may be about to end.
DAEMON = re.compile(r"org\.apache\.spark\.deploy\.(master\.Master|worker\.Worker)\b")
HIDE = "mount -t tmpfs none {folder} && exec {command}"


class Apart(Sentiment):
    """The command line beside a cluster that does not see `folder`."""

    def __init__(self, home: Path, folder: Path) -> None:
        super().__init__(home)
        self.folder = folder

    def up(self, *, hide: bool) -> None:
        sparkbundle = str(Path(sys.executable).with_name("sparkbundle"))
        command = [sparkbundle, "up", "--workers", "2", "--cores-per-worker", "1"]
        command += ["--memory-per-worker", "1g"]
        if hide:
            script = HIDE.format(folder=shlex.quote(str(self.folder)), command=shlex.join(command))
            command = ["unshare", "--mount", "sh", "-c", script]
        subprocess.run(command, env=self.env, cwd="/", check=True, capture_output=True)

    def become_a_host_of_it(self) -> None:
        """From here on without the cluster's record, as the driver on a master host is."""
        record = self.record()
        conf = self.home / "conf"
        conf.mkdir()
        shutil.copy(record["properties"], conf / "spark-defaults.conf")
        self.env |= {
            "SPARKBUNDLE_STATE": str(self.home / "driver"),
            "SPARKBUNDLE_MASTER": record["master"],
            "SPARKBUNDLE_SHARED_FOLDERS": "",
            "SPARK_CONF_DIR": str(conf),
            "SPARK_LOCAL_IP": "127.0.0.1",
        }


@pytest.fixture(scope="module")
def apart(sentiment: Sentiment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    """The driver's folder is that of `sentiment`, with its corpus, table and model."""
    command = Apart(tmp_path_factory.mktemp("apart"), sentiment.home)
    owner = Sentiment(command.home)
    try:
        command.up(hide=os.geteuid() == 0)
        command.quick_jvms()
        command.become_a_host_of_it()
        yield command
    finally:
        owner("down", "--purge", program="sparkbundle")


def test_its_daemons_see_none_of_the_files(apart: Apart, corpus: Path):
    if os.geteuid() != 0:
        pytest.skip("only root may give daemons a mount namespace of their own")
    daemons = [
        pid
        for pid in psutil.pids()
        if str(apart.home) in _command(pid) and DAEMON.search(_command(pid))
    ]
    assert len(daemons) == 3
    assert corpus.exists()
    for pid in daemons:
        assert list(Path(f"/proc/{pid}/root{apart.folder}").iterdir()) == []


def _command(pid: int) -> str:
    try:
        return " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return ""


def test_what_is_learned_is_the_same(apart: Apart, corpus: Path, table: Path, trained: Path):
    model = apart.home / "model"
    done = apart("train", corpus, model, "--vectors", table, *TRAINING)
    assert "running on spark://127.0.0.1:" in done.stderr
    assert "rows are sent" in done.stderr
    same = json.loads((trained / "model.json").read_text())["digest"]
    assert json.loads((model / "model.json").read_text())["digest"] == same


def test_scores_and_measures_are_the_same(
    apart: Apart, trained: Path, corpus: Path, scored: Scored, evaluated: dict, tmp_path: Path
):
    out = tmp_path / "out.jsonl"
    told = apart.json("score", "--model", trained, scored.source, out)
    assert out.read_text() == scored.table
    assert Path(told["quarantine"]).read_text() == scored.quarantine
    assert apart.json("evaluate", "--model", trained, "--reviews", corpus) == evaluated


def test_ingest_reads_and_writes_here(apart: Apart, reviews: Path, corpus: Path):
    done = apart("ingest", reviews, apart.home / "corpus")
    assert "running on this process (local[*]; spark://127.0.0.1:" in done.stderr
    assert "does not share the folders of SOURCE and OUT" in done.stderr
    digests = [
        json.loads((path / "manifest.json").read_text())["digest"]
        for path in (corpus, apart.home / "corpus")
    ]
    assert digests[0] == digests[1]
