"""A word table on its way to every host of a cluster.

The table goes in chunks, each a broadcast of Spark's: one host fetches a chunk from the driver,
a second one from the first, two more from these, and so on; the next chunk begins at another
host. So every byte leaves the driver once, whatever the number of hosts, and all links are
busy at a time. On each host one task a chunk writes it into place.
"""

import hashlib
import itertools
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from pyspark import Broadcast, SparkContext
from pyspark.sql import SparkSession

from sentiment.errors import SentimentError
from sentiment.located import (
    FOR_EVER,
    HOSTS,
    LOCALITY_WAIT,
    Answer,
    executor_hosts,
    expected_hosts,
    hosts_of,
    run_on,
)
from sentiment.session import Place, setting, spark_session
from sentiment.vectors import WordTable
from sentiment.vectors.arrival import Arrival
from sentiment.vectors.manifest import NAME, VECTORS, Manifest
from sentiment.vectors.packing import Packed, pack, unpack
from sentiment.vectors.seal import is_whole
from sentiment.vectors.store import Stored, store_directory, stored_tables, sweep
from sentiment.vectors.values import DTYPES

CHUNK_BYTES: Final = 16 << 20
CHUNKS_A_WAVE: Final = 3
"""On their way at a time: one is fetched, one written, one in between."""

_EXECUTOR_MEMORY: Final = "512m"

Progress = Callable[[int, int], None]
"""Told the bytes that have arrived on hosts, and those that are to."""


@dataclass(frozen=True)
class Chunk:
    """A piece of a table's file."""

    name: str
    offset: int
    length: int


@dataclass
class Delivery:
    """What became of the table on one host."""

    host: str
    outcome: str = "shipped"
    """shipped, resumed, there already, or failed."""
    error: SentimentError | None = None
    sent_bytes: int = 0
    removed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Shipment:
    """What a run came to."""

    digest: str
    table_bytes: int
    seconds: float
    deliveries: tuple[Delivery, ...] = field(default=())

    @property
    def failed(self) -> tuple[Delivery, ...]:
        """The hosts that do not have the table."""
        return tuple(one for one in self.deliveries if one.error is not None)


@contextmanager
def shipping_session(place: Place) -> Iterator[SparkSession]:
    """A Spark session that `ship` works in.

    Executors fetch from one another before they ask the driver: as far as Spark knows they
    are in one rack, and it is in none.
    """
    hosts = hosts_of(setting(place, HOSTS))
    with tempfile.TemporaryDirectory(prefix="sentiment-ship-") as folder:
        topology = Path(folder) / "topology.properties"
        topology.write_text("".join(f"{host}=/workers\n" for host in hosts))
        mapper = "org.apache.spark.storage.FileBasedTopologyMapper"
        settings = {
            LOCALITY_WAIT: FOR_EVER,
            "spark.storage.replication.topologyMapper": mapper,
            "spark.storage.replication.topologyFile": str(topology),
            # It is packed already, and gets no smaller.
            "spark.broadcast.compress": "false",
            # A chunk in one block: each block costs two round trips, which take long where a
            # link is full.
            "spark.broadcast.blockSize": f"{2 * CHUNK_BYTES >> 20}m",
            # Enough for what is in flight, and little where another application has the rest.
            "spark.executor.memory": _EXECUTOR_MEMORY,
        }
        with spark_session(place, name="sentiment-ship", settings=settings) as spark:
            yield spark


def ship(
    spark: SparkSession,
    table: WordTable,
    *,
    keep: int,
    progress: Progress,
    chunk_bytes: int = CHUNK_BYTES,
) -> Shipment:
    """Put the table on every host of the session's cluster; again is cheap.

    Each host verifies every file's sha256 before the table gets its name, and then keeps
    `keep` tables. What a run before this one has brought is not sent again. A host that
    fails does not keep the others from getting it.

    Raises:
        SentimentError: the cluster has no host at all.
    """
    started = time.perf_counter()
    context = spark.sparkContext
    run = _Run(context, table, chunk_bytes=chunk_bytes, progress=progress)
    if not run.deliveries:
        raise SentimentError(
            "the cluster gives no executor",
            where=str(context.master),
            todo="look at it: sparkbundle status",
        )
    run.begin()
    run.send()
    run.finish(keep=keep)
    return Shipment(
        digest=table.digest,
        table_bytes=run.table_bytes,
        seconds=time.perf_counter() - started,
        deliveries=tuple(run.deliveries[host] for host in sorted(run.deliveries)),
    )


class _Run:
    """One run of `ship`: its hosts, and what they still lack."""

    def __init__(
        self, context: SparkContext, table: WordTable, *, chunk_bytes: int, progress: Progress
    ) -> None:
        self._context = context
        self._table = table
        self._chunks = list(_cut(table.manifest, chunk_bytes))
        self._progress = progress
        self._lock = threading.Lock()
        self._arrived = 0
        self._due = 0
        self.table_bytes = sum(chunk.length for chunk in self._chunks)
        self.deliveries = {host: Delivery(host) for host in expected_hosts(context)}
        # What a run before this one has left on a host: the sha256 of each chunk as it is there.
        self._there: dict[str, list[str]] = {}

    @property
    def _open(self) -> list[str]:
        """The hosts that lack the table and have not failed."""
        return [
            one.host
            for one in self.deliveries.values()
            if one.error is None and one.outcome != "there already"
        ]

    def begin(self) -> None:
        """Ask every host what it has; those that lack the table make room for it."""
        here = set(executor_hosts(self._context))
        for host in self.deliveries.keys() - here:
            self._fail(
                host,
                SentimentError(
                    "gives no executor: its cores are busy with other applications, or its "
                    "worker is down",
                    where=host,
                    todo="ship it again when it is free; what is there is not sent again",
                ),
            )
        manifest, chunks = self._table.manifest, self._chunks
        text = (self._table.path / NAME).read_bytes()
        for answer in run_on(
            self._context,
            [(host, text) for host in self._open],
            lambda told: _begin(manifest, told, chunks),
        ):
            if not self._failed(answer):
                if answer.value is None:
                    self.deliveries[answer.host].outcome = "there already"
                elif answer.value:
                    self.deliveries[answer.host].outcome = "resumed"
                    self._there[answer.host] = answer.value
        self._due = len(self._open) * self.table_bytes

    def send(self) -> None:
        """Send every chunk to every host that lacks it, some chunks at a time."""
        self._progress(0, self._due)
        # Turns for each wave apart: else chunks go in step, and the driver's link waits while
        # all of them travel from host to host. So many are in the memory of the driver and of
        # each host, and one more that is being packed.
        waves = len(_waves(list(self.deliveries), first=0))
        turns = [threading.Semaphore(CHUNKS_A_WAVE) for _ in range(waves)]
        with ThreadPoolExecutor(CHUNKS_A_WAVE * waves + 1) as pool:
            for _ in pool.map(partial(self._send, turns), itertools.count(), self._chunks):
                pass  # What a chunk raises is raised here; those not begun are given up then.

    def _send(self, turns: Sequence[threading.Semaphore], number: int, chunk: Chunk) -> None:
        hosts = self._open
        if not hosts:
            return
        with (self._table.path / chunk.name).open("rb") as file:
            file.seek(chunk.offset)
            data = file.read(chunk.length)
        lacking = [host for host in hosts if not self._has(host, number, data)]
        self._advance(chunk.length * (len(hosts) - len(lacking)))
        if not lacking:
            return
        shared = self._context.broadcast(pack(data, width=self._width(chunk)))
        try:
            for turn, wave in zip(turns, _waves(lacking, first=number), strict=False):
                with turn:
                    self._write(wave, chunk, shared)
        finally:
            shared.destroy()

    def _width(self, chunk: Chunk) -> int:
        """The size of the values that a chunk is made of."""
        return DTYPES[self._table.manifest.dtype].itemsize if chunk.name == VECTORS else 1

    def _has(self, host: str, number: int, data: bytes) -> bool:
        there = self._there.get(host)
        return there is not None and there[number] == hashlib.sha256(data).hexdigest()

    def _write(self, hosts: list[str], chunk: Chunk, shared: "Broadcast[Packed]") -> None:
        manifest = self._table.manifest

        def write(place: Chunk) -> None:
            arrival = Arrival(store_directory(), manifest)
            arrival.write(place.name, place.offset, unpack(shared.value))

        for answer in run_on(self._context, [(host, chunk) for host in hosts], write):
            if not self._failed(answer):
                self.deliveries[answer.host].sent_bytes += chunk.length
                self._advance(chunk.length)

    def _advance(self, count: int) -> None:
        with self._lock:
            self._arrived += count
            self._progress(self._arrived, self._due)

    def finish(self, *, keep: int) -> None:
        """Let every host verify the table and give it its name, and sweep."""
        manifest = self._table.manifest
        hosts = [one.host for one in self.deliveries.values() if one.error is None]
        for answer in run_on(
            self._context, [(host, keep) for host in hosts], lambda kept: _finish(manifest, kept)
        ):
            if not self._failed(answer):
                self.deliveries[answer.host].removed = tuple(answer.value)

    def _failed(self, answer: Answer) -> bool:
        if answer.error is not None:
            self._fail(answer.host, answer.error)
        return answer.error is not None

    def _fail(self, host: str, error: SentimentError) -> None:
        with self._lock:
            self.deliveries[host].outcome, self.deliveries[host].error = "failed", error


def _waves(hosts: list[str], *, first: int) -> list[list[str]]:
    """The hosts in the order in which they get a chunk: one, one more, two, four, and so on.

    So each that has it gives it to one that has not, and the driver to one only. The chunks
    begin at different hosts: all give about as much.
    """
    turn = first % len(hosts)
    turned = hosts[turn:] + hosts[:turn]
    waves, start = [turned[:1]], 1
    while start < len(turned):
        waves.append(turned[start : 2 * start])
        start *= 2
    return waves


def _cut(manifest: Manifest, chunk_bytes: int) -> Iterator[Chunk]:
    for name, file in manifest.files.items():
        for offset in range(0, file.bytes, chunk_bytes):
            yield Chunk(name, offset, min(chunk_bytes, file.bytes - offset))


def _begin(manifest: Manifest, text: bytes, chunks: Sequence[Chunk]) -> list[str] | None:
    """On a host: None if the table is there, else the sha256 of the chunks that may be there."""
    store = store_directory()
    if is_whole(store, manifest.digest):
        return None
    arrival = Arrival(store, manifest)
    if not arrival.begin(text):
        return []
    return [
        hashlib.sha256(arrival.read(chunk.name, chunk.offset, chunk.length)).hexdigest()
        for chunk in chunks
    ]


def _finish(manifest: Manifest, keep: int) -> list[str]:
    """On a host: verify and name the table, remove old ones; the digests of those."""
    store = store_directory()
    Arrival(store, manifest).finish()
    return sweep(store, keep=keep, spare=manifest.digest)


def has_worker_here(place: Place) -> bool:
    """Whether the driver's host is one of those that a shipment goes to."""
    if place.master.startswith("local"):
        return True
    return setting(place, "spark.driver.host") in hosts_of(setting(place, HOSTS))


def keep_here(table: WordTable, *, keep: int, move: bool) -> None:
    """Put the table into this host's own store, without Spark; with `move` it leaves its place.

    Raises:
        SentimentError: the disk refuses.
    """
    store = store_directory()
    if table.path.parent == store:
        return
    if not is_whole(store, table.digest):
        arrival = Arrival(store, table.manifest)
        arrival.take(table.path, move=move)
        arrival.finish()
    if move:
        shutil.rmtree(table.path, ignore_errors=True)
    sweep(store, keep=keep, spare=table.digest)


def tables_on_hosts(context: SparkContext) -> Mapping[str, list[Stored] | SentimentError]:
    """Which host has which tables; an error for a host that does not answer."""
    hosts = executor_hosts(context)
    found: dict[str, Any] = {
        host: SentimentError("gives no executor", where=host)
        for host in expected_hosts(context)
        if host not in hosts
    }
    answers = run_on(
        context, [(host, None) for host in hosts], lambda _: stored_tables(store_directory())
    )
    return found | {answer.host: answer.error or answer.value for answer in answers}
