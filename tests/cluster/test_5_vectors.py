"""Word tables on the hosts: one copy on each, whole or not there at all, and never in silence."""

from pathlib import Path

import numpy as np
import pytest

from sentiment.vectors import Chunk, WordTable, write_table
from tests.cluster import machines
from tests.cluster.laptop import HOSTS, WORKERS, Cluster, root

LEAVES_IT_WHOLE = True
STORE = "/var/lib/sparkbundle/vectors"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> WordTable:
    """A table of 47 MB: some chunks."""
    words = [f"word_{number}" for number in range(70_000)]
    vectors = np.random.default_rng(0).normal(size=(len(words), 300)).astype(np.float32)
    path = tmp_path_factory.mktemp("vectors") / "table"
    return write_table(path, [Chunk(words, vectors)], source={"name": "made up"})


def holders(cluster: Cluster, table: WordTable, *, code: int = 0) -> set[str]:
    """The hosts that have the table, as `status` tells."""
    return {
        host["name"]
        for host in cluster.json("status", code=code)["hosts"]
        if any(one["digest"] == table.digest and one["whole"] for one in host["word_tables"])
    }


def ship(cluster: Cluster, table: Path | str, *, code: int = 0) -> str:
    """`sparkbundle vectors ship`; all that it says."""
    process = cluster.popen("vectors ship", table)
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, f"exit {process.returncode}\n{out}\n{err}"
    return out + err


def test_a_host_without_room_is_named_the_others_get_the_table_and_it_later(
    cluster: Cluster, table: WordTable
):
    with machines.small_disk("worker-2", STORE, 20):
        root("worker-2", f"chown spark:spark {STORE}; chmod 775 {STORE}")
        said = ship(cluster, table.path, code=7)
        assert f"{machines.address('worker-2')}: {STORE}" in said
        assert "no room for the word table" in said
        assert root("worker-2", f"find {STORE} -name '*.npy'") == ""
        assert holders(cluster, table) == {"master", "worker-1"}
        shown = cluster("status", code=0).stdout
        assert "NOT on worker-2" in shown
    said = ship(cluster, table.path)
    assert "send" not in said  # the master's host has it: nothing is uploaded again
    assert holders(cluster, table) == set(HOSTS)
    assert "there already" in said
    for name in WORKERS:
        found = root(name, f"ls {STORE}; stat -c %U:%a {STORE}/{table.digest}/vectors.npy")
        assert found.split() == [table.digest, f"{table.digest}.lock", "spark:444"]
    assert not [
        one
        for one in cluster.json("jobs")["jobs"]
        if one["state"] == "SUCCEEDED" and one["id"].startswith("vectors-")
    ]


def test_a_table_that_was_changed_is_shown_and_replaced(cluster: Cluster, table: WordTable):
    path = f"{STORE}/{table.digest}/vectors.npy"
    root("worker-1", f"printf x | dd of={path} bs=1 seek=5000 conv=notrunc status=none")
    shown = cluster("status", code=1).stdout
    assert f"word table {table.digest[:12]} was changed" in shown
    assert holders(cluster, table, code=1) == {"master", "worker-2"}
    ship(cluster, table.digest[:12])
    assert holders(cluster, table) == set(HOSTS)
    cluster.invariant()
