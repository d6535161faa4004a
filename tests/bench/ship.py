"""A word table to every host: `sentiment vectors ship` beside the other ways to bring it there.

    python -m tests.bench.ship [--rows N] [--hosts N …] [--rate 200mbit] [--runs N] [--json FILE]

On the tests' own Vagrant machines, as root: a master, where the table lies, and two to four
workers, every link limited in both directions (tc tbf). Counted is all of a shipment: the start
of Spark, the transfer, the sha256 of each file on each host. rsync runs over ssh from the
master to each host in turn, and verifies nothing afterwards; addFile and the broadcast of a
pickled matrix are jobs as a shipment is (ship_peers.py). All start with hosts that have nothing
of the table. The plot at the end is for Mermaid, which Markdown shows.
"""

import json
import shlex
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
import psutil

from sentiment.vectors import Chunk, WordTable, write_table
from tests.bench.lab import Lab, lab_of, limited, root
from tests.bench.measure import machine, ratios, spread
from tests.cluster import machines

STORE = "/var/lib/sparkbundle/vectors"
COPY = "/var/tmp/sparkbundle-bench"
KEY = "/root/bench-key"
PEERS_WAYS = ("addFile", "broadcast")
PEERS = Path(__file__).with_name("ship_peers.py")
ROWS_A_CHUNK = 20_000


def made_up(path: Path, rows: int, dimensions: int) -> WordTable:
    """A table of random vectors: they compress as little as real ones do."""
    generator = np.random.default_rng(0)

    def chunks() -> Iterator[Chunk]:
        for first in range(0, rows, ROWS_A_CHUNK):
            count = min(ROWS_A_CHUNK, rows - first)
            vectors = generator.standard_normal((count, dimensions), dtype=np.float32)
            yield Chunk([f"word_{first + index}" for index in range(count)], vectors)

    return write_table(path, chunks(), source={"name": "made up"})


def sent_bytes() -> int:
    """What has left the master's interface so far."""
    return int(root("master", "cat /sys/class/net/eth0/statistics/tx_bytes"))


class Peak:
    """The most memory that a driver and an executor have had, Python processes with them."""

    def __init__(self) -> None:
        self.bytes: dict[str, int] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "Peak":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.5):
            sums: dict[tuple[str, int], int] = {}
            for process in psutil.process_iter(["pid", "ppid", "cmdline", "memory_info"]):
                kind = _kind(" ".join(process.info["cmdline"] or ()))
                if kind and process.info["memory_info"]:
                    key = (kind, process.info["pid"])
                    sums[key] = process.info["memory_info"].rss
            for (kind, _), size in sums.items():
                self.bytes[kind] = max(self.bytes.get(kind, 0), size)


def _kind(line: str) -> str:
    if "CoarseGrainedExecutorBackend" in line:
        return "executor, Java"
    if "pyspark.daemon" in line:
        return "executor, a Python process"
    if "SparkSubmit" in line:
        return "driver, Java"
    return "driver, Python" if "vectors ship" in line and "python" in line else ""


def ship(lab: Lab, digest: str) -> tuple[float, float, dict[str, int]]:
    """Seconds of a shipment, bytes that left the master in it, and the peaks of memory."""
    for name in lab.workers:
        root(name, f"rm -rf {STORE}/{digest}* {STORE}/.{digest}*; sync")
    before = sent_bytes()
    with Peak() as peak:
        told = lab("submit", "--wait", "--json", "sentiment", "vectors", "ship", digest, "--json")
    job = json.loads(told)
    if job["state"] != "SUCCEEDED":
        raise click.ClickException(told)
    return float(job["seconds"]), float(sent_bytes() - before), peak.bytes


def rsync(lab: Lab, digest: str) -> tuple[float, float]:
    """Seconds to copy the table from the master to each worker in turn, and bytes that left it."""
    for name in lab.workers:
        root(name, f"rm -rf {COPY}; install -d -o vagrant {COPY}; sync")
    before = sent_bytes()
    started = time.perf_counter()
    shell = f"ssh -i {KEY} -o StrictHostKeyChecking=no -o LogLevel=ERROR"
    for name in lab.workers:
        target = f"vagrant@{machines.address(name)}:{COPY}/"
        root("master", f"rsync -a -e '{shell}' {STORE}/{digest} {target}")
    return time.perf_counter() - started, float(sent_bytes() - before)


def peer(lab: Lab, way: str, digest: str) -> tuple[float | None, str]:
    """Seconds of a job that brings the table in this way; None and the reason if it fails."""
    hosts = str(len(lab.workers))
    words = ("submit", "--wait", "--json", "--memory", "8g", str(PEERS), way, digest, hosts)
    done = lab.run(*words, stderr=subprocess.PIPE)
    job = json.loads(done.stdout) if done.stdout else {}
    if job.get("state") == "SUCCEEDED":
        return float(job["seconds"]), ""
    reasons = [line for line in done.stderr.splitlines() if "Error" in line or "Exception" in line]
    return None, (reasons or done.stderr.splitlines() or ["no output"])[-1].strip()


@click.command()
@click.option("--rows", default=3_000_000, show_default=True)
@click.option("--dimensions", default=300, show_default=True)
@click.option("--hosts", "counts", type=click.IntRange(1, 4), multiple=True, default=(4, 3, 2))
@click.option("--rate", default="200mbit", show_default=True)
@click.option("--runs", default=1, show_default=True)
@click.option("--peers/--no-peers", default=True, help="addFile and a pickled broadcast, too.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Write the figures there.")
def main(
    rows: int,
    dimensions: int,
    counts: tuple[int, ...],
    rate: str,
    runs: int,
    peers: bool,
    path: Path | None,
) -> None:
    counts = tuple(sorted(set(counts), reverse=True))
    with (
        tempfile.TemporaryDirectory(prefix="bench-ship-", dir="/var/tmp") as folder,
        lab_of(Path(folder), counts[0]) as lab,
    ):
        for name in ("master", *lab.workers):
            root(name, "apt-get install -y -qq rsync >/dev/null 2>&1")
        table = made_up(Path(folder) / "table", rows, dimensions)
        size = sum(file.bytes for file in table.manifest.files.values())
        lab("vectors", "ship", str(table.path))
        key = shlex.quote(machines.private_key().read_text())
        root("master", f"umask 077; printf %s {key} > {KEY}")
        figures = []
        for count in counts:
            while len(lab.workers) > count:
                lab.drop(lab.workers[-1])
            with limited(("master", *lab.workers), rate):
                figures.append(_compare(lab, table.digest, size=size, runs=runs, peers=peers))
        _show(figures, size=size, rate=rate, runs=runs)
        if path:
            path.write_text(json.dumps(figures, indent=1))


def _compare(lab: Lab, digest: str, *, size: int, runs: int, peers: bool) -> dict[str, Any]:
    """What each way takes to this many hosts: seconds by way, and what else there is to say."""
    seconds: dict[str, list[float]] = {"ship": [], "rsync": []}
    left, most, failed = [], {}, {}
    for _ in range(runs):
        took, sent, peak = ship(lab, digest)
        seconds["ship"].append(took)
        left.append(sent / size)
        most = {kind: max(most.get(kind, 0), value) for kind, value in peak.items()}
        seconds["rsync"].append(rsync(lab, digest)[0])
        for way in PEERS_WAYS if peers else ():
            took_it, why = peer(lab, way, digest)
            if took_it is None:
                failed[way] = why
            else:
                seconds.setdefault(way, []).append(took_it)
        told = ", ".join(f"{way} {values[-1]:.1f} s" for way, values in seconds.items())
        click.echo(f"{len(lab.workers)} hosts: {told}; ship let {left[-1]:.2f} tables leave "
                   f"the master {failed or ''}", err=True)  # fmt: skip
    return {
        "hosts": len(lab.workers),
        "seconds": seconds,
        "left": left,
        "peaks": most,
        "failed": failed,
    }


def _show(figures: list[dict[str, Any]], *, size: int, rate: str, runs: int) -> None:
    print(f"\n{machine()}; a table of {size / 1e6:,.0f} MB, links of {rate}; {runs} runs")
    print("seconds: median (min - max)\n")
    for one in figures:
        print(f"{one['hosts']} hosts; {spread(one['left'])} tables left the master in a shipment")
        ours = one["seconds"]["ship"]
        for way, values in one["seconds"].items():
            ratio = f"ship / it: {ratios(ours, values)}" if len(values) == len(ours) else ""
            print(f"  {way:<12} {spread(values)!s:<26} {ratio}")
        for way, why in one["failed"].items():
            print(f"  {way:<12} failed: {why[:100]}")
        told = ", ".join(f"{kind} {size / 1e6:,.0f} MB" for kind, size in one["peaks"].items())
        print(f"  peak memory of the shipment: {told}")
    print(_plot(figures))


def _plot(figures: list[dict[str, Any]]) -> str:
    """Seconds by the number of hosts, in Mermaid's words; a way that failed once is left out."""
    figures = sorted(figures, key=lambda one: one["hosts"])
    ways = [way for way in figures[0]["seconds"] if all(way in one["seconds"] for one in figures)]
    lines = []
    for way in ways:
        points = ", ".join(f"{median(one['seconds'][way]):.0f}" for one in figures)
        lines.append(f'    line "{way}" [{points}]')
    hosts = ", ".join(str(one["hosts"]) for one in figures)
    return "\n".join(
        [
            "```mermaid",
            "xychart-beta",
            f'    title "Seconds to every host: {", ".join(ways)}"',
            f'    x-axis "hosts" [{hosts}]',
            '    y-axis "seconds" 0 -->'
            f" {max(max(one['seconds'][way]) for one in figures for way in ways):.0f}",
            *lines,
            "```",
        ]
    )


if __name__ == "__main__":
    main()
