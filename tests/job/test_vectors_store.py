"""The store of word tables on a host: arrival, verification, locks, old tables."""

import os
import shutil
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from sentiment.errors import InvalidInputError, SentimentError
from sentiment.vectors import open_table
from sentiment.vectors.arrival import Arrival
from sentiment.vectors.manifest import NAME
from sentiment.vectors.seal import is_whole
from sentiment.vectors.store import (
    find_table,
    open_stored,
    store_directory,
    stored_tables,
    sweep,
    table_on_this_host,
)
from sparkbundle import probe
from sparkbundle.word_tables import parse_tables, spread
from tests.job.vector_files import some_vectors, table_of

WORDS = ["the", "film", "was", "awful", "brilliant"]


@pytest.fixture
def store(tmp_path, monkeypatch):
    """An empty store, which is this host's."""
    monkeypatch.setenv("SPARKBUNDLE_VECTORS", str(tmp_path / "store"))
    return store_directory()


@pytest.fixture
def table(tmp_path):
    return table_of(tmp_path / "table", WORDS)


def another(path, seed):
    return table_of(path, WORDS, some_vectors(len(WORDS), 4, seed=seed))


def arrive(store, table, *, piece=37):
    """A table in small pieces, the last of them first."""
    arrival = Arrival(store, table.manifest)
    assert arrival.begin((table.path / NAME).read_bytes()) is False
    for name, file in table.manifest.files.items():
        data = (table.path / name).read_bytes()
        for offset in reversed(range(0, file.bytes, piece)):
            arrival.write(name, offset, data[offset : offset + piece])
    arrival.finish()


def names(store):
    return sorted(path.name for path in store.iterdir() if path.name != ".lock")


def test_a_table_arrives_in_pieces_and_is_named_by_its_digest(store, table):
    arrive(store, table)
    assert names(store) == [table.digest, f"{table.digest}.lock"]
    stored = open_stored(table.digest)
    assert stored.path == store / table.digest
    assert np.array_equal(stored.vectors(stored.find(WORDS)), table.vectors(table.find(WORDS)))
    (told,) = stored_tables(store)
    assert (told.state, told.rows, told.source) == ("whole", 5, "test")
    assert all(path.stat().st_mode & 0o222 == 0 for path in stored.path.iterdir())


def test_a_flipped_byte_on_the_way_is_found_and_the_old_table_stays(store, table, tmp_path):
    old = another(tmp_path / "old", 1)
    arrive(store, old)
    arrival = Arrival(store, table.manifest)
    arrival.begin((table.path / NAME).read_bytes())
    for name in table.manifest.files:
        data = bytearray((table.path / name).read_bytes())
        if name == "vectors.npy":
            data[-1] ^= 1
        arrival.write(name, 0, bytes(data))
    with pytest.raises(SentimentError, match=r"did not arrive whole.*sha256") as caught:
        arrival.finish()
    assert "ship it again" in caught.value.todo
    assert not (store / table.digest).exists()
    assert open_stored(old.digest).rows == 5
    # The next run mends what is wrong.
    assert arrival.begin((table.path / NAME).read_bytes()) is True
    arrival.write("vectors.npy", 0, (table.path / "vectors.npy").read_bytes())
    arrival.finish()
    assert is_whole(store, table.digest)


def test_the_operators_side_sees_what_is_here(store, table, tmp_path):
    """`sparkbundle` reads the store with a program of its own, which hosts run without ours."""
    old = another(tmp_path / "old", 1)
    for one in (old, table):
        arrive(store, one)
    words = store / old.digest / "words.txt"
    words.chmod(0o644)
    words.write_bytes(b"x")
    told = {one.digest: one for one in parse_tables(probe.word_tables(str(store)))}
    assert {digest: one.whole for digest, one in told.items()} == {
        old.digest: False,
        table.digest: True,
    }
    ours = {one.digest: one for one in stored_tables(store)}
    for digest, one in told.items():
        assert (one.bytes, one.rows, one.dimensions, one.dtype, one.source) == (
            ours[digest].bytes, 5, 4, "fp16", "test"
        )  # fmt: skip
    lines = spread({"a": told.values(), "b": [told[table.digest]], "c": []})
    assert [line[2] for line in lines if line[0] == table.digest[:12]] == ["a, b; NOT on c"]
    told_of_old = [line[2] for line in lines if line[0] == old.digest[:12]]
    assert told_of_old == ["no host; CHANGED on a; NOT on b, c"]


@pytest.mark.parametrize("name", ["vectors.npy", "words.txt", "manifest.json"])
def test_a_table_that_was_changed_is_shown_refused_and_replaced(store, table, name):
    arrive(store, table)
    path = store / table.digest / name
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(bytes(data))
    assert not is_whole(store, table.digest)
    with pytest.raises(InvalidInputError, match="was changed on this host") as caught:
        open_stored(table.digest)
    assert str(path.parent) in caught.value.where
    assert "vectors ship" in caught.value.todo
    arrive(store, table)
    assert open_stored(table.digest).rows == 5


def test_a_table_with_other_times_and_the_same_content_is_right(store, table):
    """As after a backup that was played back."""
    arrive(store, table)
    os.utime(store / table.digest / "vectors.npy", (1, 1))
    assert stored_tables(store)[0].state == "changed"
    assert open_stored(table.digest).rows == 5


def test_a_host_without_the_table_says_so(store):
    with pytest.raises(InvalidInputError, match=r"does not have the word table 0{12}\n") as caught:
        open_stored("0" * 64)
    assert str(store) in caught.value.where
    assert stored_tables(store) == []


def test_a_table_is_found_by_its_path_and_by_the_beginning_of_its_digest(store, table, tmp_path):
    assert find_table(table.path).path == table.path
    arrive(store, table)
    assert find_table(table.digest[:8]).path == store / table.digest
    with pytest.raises(InvalidInputError, match="no word table of this host begins so"):
        find_table("abcdef" if not table.digest.startswith("abcdef") else "fedcba")
    with pytest.raises(InvalidInputError, match="does not exist"):
        find_table(tmp_path / "nothing")


def test_a_shared_path_does_where_the_store_has_nothing(store, table, tmp_path):
    assert table_on_this_host(table.digest, path=table.path).path == table.path
    other = another(tmp_path / "other", 1)
    with pytest.raises(InvalidInputError, match="does not have the word table"):
        table_on_this_host(table.digest, path=other.path)
    arrive(store, table)
    assert table_on_this_host(table.digest, path=table.path).path == store / table.digest


def test_old_tables_go_but_not_one_that_is_in_use(store, tmp_path):
    tables = [another(tmp_path / str(seed), seed) for seed in range(5)]
    for age, one in enumerate(tables):
        arrive(store, one)
        os.utime(store / f"{one.digest}.lock", (1000 - age, 1000 - age))
    digests = [one.digest for one in tables]
    held = open_stored(digests[4])  # makes it the one that was used last
    os.utime(store / f"{digests[4]}.lock", (1, 1))
    gone = sweep(store, keep=2, spare=digests[3])
    assert sorted(gone) == sorted(digests[1:3])
    assert {one.digest for one in stored_tables(store)} == {digests[0], digests[3], digests[4]}
    del held
    assert sweep(store, keep=1, spare=digests[3]) == [digests[0], digests[4]]
    assert names(store) == sorted([digests[3], f"{digests[3]}.lock"])


def test_a_table_that_goes_while_it_is_mapped_can_still_be_read(store, table):
    arrive(store, table)
    stored = open_table(store / table.digest)  # by path: without the lock
    assert sweep(store, keep=1, spare="0" * 64) == [table.digest]
    assert np.array_equal(stored.vectors(stored.find(WORDS)), table.vectors(table.find(WORDS)))


def test_a_table_arrives_again_while_it_is_in_use(store, table):
    arrive(store, table)
    held = open_stored(table.digest)
    arrive(store, table)  # whole: nothing to do
    words = store / table.digest / "words.txt"
    words.chmod(0o644)
    words.write_bytes(words.read_bytes())  # other times
    arrive(store, table)
    assert is_whole(store, table.digest)
    assert held.word(1) == "film"


def test_what_never_arrived_goes_after_a_day(store, table):
    Arrival(store, table.manifest).begin((table.path / NAME).read_bytes())
    sweep(store, keep=1, spare="0" * 64)
    (part,) = store.iterdir()
    os.utime(part, (time.time() - 90_000,) * 2)
    sweep(store, keep=1, spare="0" * 64)
    assert names(store) == []


def test_two_arrivals_of_the_same_table_at_once(store, table):
    first, second = (Arrival(store, table.manifest) for _ in range(2))
    manifest = (table.path / NAME).read_bytes()
    first.begin(manifest)
    assert second.begin(manifest) is True
    for arrival in (first, second):
        for name in table.manifest.files:
            arrival.write(name, 0, (table.path / name).read_bytes())
    first.finish()
    second.write("vectors.npy", 0, (table.path / "vectors.npy").read_bytes())  # late, and harmless
    second.finish()
    assert names(store) == [table.digest, f"{table.digest}.lock"]
    assert open_stored(table.digest).rows == 5


@pytest.mark.parametrize("move", [False, True])
def test_a_table_of_this_host_is_copied_or_moved_in(store, table, tmp_path, move):
    source = tmp_path / "source"
    shutil.copytree(table.path, source)
    arrival = Arrival(store, table.manifest)
    arrival.take(source, move=move)
    arrival.finish()
    assert is_whole(store, table.digest)
    assert (source / "vectors.npy").exists() is not move


def test_a_disk_without_room_is_named_and_nothing_is_left(store, table, monkeypatch):
    monkeypatch.setattr(
        "sentiment.vectors.arrival.shutil.disk_usage",
        lambda _: SimpleNamespace(free=0),
    )
    with pytest.raises(SentimentError, match=r"no room.*0 MB are free") as caught:
        Arrival(store, table.manifest).begin((table.path / NAME).read_bytes())
    assert os.uname().nodename in caught.value.where
    assert names(store) == []


FULL = """
import resource, sys
from types import SimpleNamespace

from sentiment.errors import SentimentError
from sentiment.vectors import open_table
from sentiment.vectors.manifest import NAME
from sentiment.vectors.arrival import Arrival
from sentiment.vectors.store import store_directory
table = open_table(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))
try:
    Arrival(store_directory(), table.manifest).begin((table.path / NAME).read_bytes())
except SentimentError as error:
    print(error)
"""


def test_a_disk_that_refuses_is_named_and_nothing_is_left(store, table):
    done = subprocess.run(
        [sys.executable, "-c", FULL, table.path], capture_output=True, text=True, check=True
    )
    assert "cannot be written: File too large" in done.stdout
    assert names(store) == []
