"""`sentiment vectors ship` on a cluster: one copy on each host, whatever happens on the way."""

import json
import re
import signal

import numpy as np
import psutil
import pytest

from sentiment.shipping import _waves
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


@pytest.mark.usefixtures("one_executor")
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


@pytest.fixture(scope="module")
def second(tmp_path_factory):
    """Another one: 52 MB."""
    words = [f"w{number}" for number in range(40_000)]
    vectors = np.random.default_rng(1).normal(size=(len(words), 300)).astype(np.float32)
    path = tmp_path_factory.mktemp("second") / "table"
    return write_table(path, [Chunk(words, vectors)], source={"name": "x"}, dtype="fp32")


def test_two_executors_on_a_host_write_a_table_once_though_one_is_killed(
    sentiment: Sentiment, large, second, store
):
    """And the table of before goes, by policy."""
    table = second
    process = sentiment.popen("vectors", "ship", table.path, "--keep", "1", "--json")
    arrived(process)
    executors = executors_of(sentiment)
    assert len(executors) == 2
    executors[0].kill()
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    delivery = json.loads(out)["hosts"][HOST]
    size = sum(file.bytes for file in table.manifest.files.values())
    assert (delivery["outcome"], delivery["sent_bytes"]) == ("shipped", size)
    assert delivery["removed"] == [large.digest]
    assert open_table(store / table.digest, verify=True).digest == table.digest
    assert names(store) == {table.digest, f"{table.digest}.lock"}


@pytest.mark.usefixtures("one_executor")
def test_a_changed_table_is_shown_and_replaced_and_one_that_is_there_is_not_sent(
    sentiment: Sentiment, second, store
):
    """It goes on with the table that the test before has shipped."""
    table = second
    words = store / table.digest / "words.txt"
    words.chmod(0o644)
    words.write_bytes(b"x" * words.stat().st_size)
    listed = sentiment("vectors", "list", "--here")
    assert "CHANGED since it came" in listed.stdout
    status = sentiment("status", program="sparkbundle", code=1)
    assert "NOT well" in status.stdout
    assert f"word table {table.digest[:12]} was changed: ship it again" in status.stdout
    refused = sentiment("vectors", "info", table.digest[:10], code=3)
    assert "was changed on this host" in refused.stderr
    again = sentiment("vectors", "ship", table.path)
    assert re.search(rf"{HOST} +shipped", again.stdout), again.stdout
    assert f"--vectors {table.digest[:12]}" in again.stderr
    # The operator's command is the same, in a job of its own, of which nothing stays.
    shown = sentiment("vectors", "ship", table.digest[:10], program="sparkbundle")
    assert "there already" in shown.stdout
    assert sentiment.json("jobs", program="sparkbundle")["jobs"] == []
    listed = sentiment.json("vectors", "list", program="sparkbundle")
    assert listed["faults"] == []
    assert table.digest in [one["digest"] for one in listed["hosts"]["this machine"]]


def test_what_is_no_table_is_refused(sentiment: Sentiment, tmp_path):
    assert "does not exist" in sentiment("vectors", "ship", tmp_path / "no", code=3).stderr
    (tmp_path / "empty").mkdir()
    assert "no word table" in sentiment("vectors", "ship", tmp_path / "empty", code=3).stderr


@pytest.mark.usefixtures("own_jvm")  # its workers have its store
def test_a_place_of_one_process_is_a_host_like_any_other(sentiment: Sentiment, tmp_path):
    table = table_of(tmp_path / "local", ["ending"])
    told = sentiment.json("vectors", "ship", table.path, "--master", "local[2]")
    assert [one["outcome"] for one in told["hosts"].values()] == ["shipped"]


def test_each_host_that_has_a_chunk_gives_it_to_one_that_has_not():
    hosts = [f"h{number}" for number in range(7)]
    assert _waves(hosts, first=9) == [["h2"], ["h3"], ["h4", "h5"], ["h6", "h0", "h1"]]
    assert _waves(["h0"], first=3) == [["h0"]]
