"""`sentiment vectors ship` on a cluster: one copy on each host, whatever happens on the way."""

import json
import signal

import numpy as np
import psutil
import pytest

from sentiment.vectors import Chunk, open_table, write_table
from tests.conftest import Sentiment
from tests.job.vector_files import table_of

HOST = "127.0.0.1"


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A table of some chunks: 79 MB."""
    words = [f"word_{number}" for number in range(60_000)]
    vectors = np.random.default_rng(0).normal(size=(len(words), 300)).astype(np.float32)
    path = tmp_path_factory.mktemp("large") / "table"
    return write_table(path, [Chunk(words, vectors)], source={"name": "made up"}, dtype="fp32")


@pytest.fixture(scope="module")
def store(sentiment: Sentiment):
    return sentiment.home / "state" / "vectors"


def names(store):
    return {path.name for path in store.iterdir() if path.name != ".lock"}


def arrived(process):
    """Wait until something of a shipment has arrived on the hosts."""
    said = []
    for line in process.stderr:
        said.append(line)
        if "have arrived" in line:
            return
    raise AssertionError("".join(said))


def executors_of(sentiment: Sentiment):
    """The executors of this test's cluster."""
    state = str(sentiment.home / "state")
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if "CoarseGrainedExecutorBackend" in (line := " ".join(process.info["cmdline"] or ()))
        and state in (process.environ().get("SPARKBUNDLE_STATE", "") + line)
    ]


def test_an_interrupted_shipment_leaves_no_table_and_the_next_goes_on(
    sentiment: Sentiment, large, store
):
    first = sentiment.popen("vectors", "ship", large.path)
    arrived(first)
    first.send_signal(signal.SIGINT)
    assert first.wait(timeout=120) == 130
    assert not (store / large.digest).exists()
    told = sentiment.json("vectors", "ship", large.path)
    size = sum(file.bytes for file in large.manifest.files.values())
    assert told["digest"] == large.digest and told["bytes"] == size
    delivery = told["hosts"][HOST]
    assert delivery["outcome"] == "resumed"
    assert 0 < delivery["sent_bytes"] < size
    assert names(store) == {large.digest, f"{large.digest}.lock"}
    assert open_table(store / large.digest, verify=True).digest == large.digest


def test_two_executors_on_a_host_write_a_table_once_though_one_is_killed(
    sentiment: Sentiment, store, tmp_path
):
    words = [f"w{number}" for number in range(40_000)]
    vectors = np.random.default_rng(1).normal(size=(len(words), 300)).astype(np.float32)
    table = write_table(tmp_path / "t", [Chunk(words, vectors)], source={"name": "x"}, dtype="fp32")
    process = sentiment.popen("vectors", "ship", table.path, "--json")
    arrived(process)
    executors = executors_of(sentiment)
    assert len(executors) == 2
    executors[0].kill()
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    delivery = json.loads(out)["hosts"][HOST]
    size = sum(file.bytes for file in table.manifest.files.values())
    assert (delivery["outcome"], delivery["sent_bytes"]) == ("shipped", size)
    assert open_table(store / table.digest, verify=True).digest == table.digest


def test_what_is_there_is_not_sent_and_a_changed_table_is_replaced(
    sentiment: Sentiment, store, tmp_path
):
    table = table_of(tmp_path / "small", ["the", "film"])
    assert sentiment.json("vectors", "ship", table.path)["hosts"][HOST]["outcome"] == "shipped"
    shown = sentiment("vectors", "ship", table.digest[:10])
    assert "there already" in shown.stdout
    assert f"--vectors {table.digest[:12]}" in shown.stderr
    words = store / table.digest / "words.txt"
    words.chmod(0o644)
    words.write_bytes(b"thf\nfilm\n")
    assert "CHANGED since it came" in sentiment("vectors", "list").stdout
    status = sentiment("status", program="sparkbundle")
    assert f"word table {table.digest[:12]} was changed: ship it again" in status.stdout
    refused = sentiment("vectors", "info", table.digest[:10], code=3)
    assert "was changed on this host" in refused.stderr
    again = sentiment.json("vectors", "ship", table.path)
    assert again["hosts"][HOST]["outcome"] == "shipped"
    assert sentiment.json("vectors", "list", program="sparkbundle")["faults"] == []


def test_old_tables_go_by_policy(sentiment: Sentiment, store, tmp_path):
    table = table_of(tmp_path / "newest", ["plot"])
    told = sentiment.json("vectors", "ship", table.path, "--keep", "1")
    assert len(told["hosts"][HOST]["removed"]) >= 1
    assert names(store) == {table.digest, f"{table.digest}.lock"}


def test_the_operator_ships_and_lists(sentiment: Sentiment, store, tmp_path):
    table = table_of(tmp_path / "operators", ["acting"])
    shown = sentiment("vectors", "ship", table.path, program="sparkbundle")
    assert f"word table {table.digest[:12]}" in shown.stdout
    assert (store / table.digest).is_dir()
    assert sentiment.json("jobs", program="sparkbundle")["jobs"] == []
    listed = sentiment.json("vectors", "list", program="sparkbundle")
    digests = [one["digest"] for one in listed["hosts"]["this machine"]]
    assert table.digest in digests


def test_what_is_no_table_is_refused(sentiment: Sentiment, tmp_path):
    assert "does not exist" in sentiment("vectors", "ship", tmp_path / "no", code=3).stderr
    (tmp_path / "empty").mkdir()
    assert "no word table" in sentiment("vectors", "ship", tmp_path / "empty", code=3).stderr


def test_a_place_of_one_process_is_a_host_like_any_other(sentiment: Sentiment, tmp_path):
    table = table_of(tmp_path / "local", ["ending"])
    told = sentiment.json("vectors", "ship", table.path, "--master", "local[2]")
    assert [one["outcome"] for one in told["hosts"].values()] == ["shipped"]
