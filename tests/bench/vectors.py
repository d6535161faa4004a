"""The word table beside gensim: build, open, memory, lookups; its index beside marisa-trie.

    python -m tests.bench.vectors [--rows 3000000] [--dimensions 300] [--runs 3] [--dtype fp16]

The file is made for it: random, but of the shape of Google News' (no line feed after a vector).
Each measurement has a process of its own, ours and theirs in turn. gensim keeps fp32 and does not
flush to disk; the table is fp16 unless --dtype says otherwise, and flushed.
At full size it takes 15 GB in the temporary folder and about ten minutes.
"""

import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import numpy as np

from tests.bench.measure import Spread, in_turn, machine, ratios, spread
from tests.bench.vectors_parts import word

BATCH = 10_000
MB = 1e6


@click.command()
@click.option("--rows", default=3_000_000, show_default=True)
@click.option("--dimensions", default=300, show_default=True)
@click.option("--runs", default=3, show_default=True)
@click.option("--dtype", default="fp16", show_default=True)
def main(rows: int, dimensions: int, runs: int, dtype: str) -> None:
    print(machine())
    print(f"{rows:,} x {dimensions}, ours {dtype}; median (min – max) of {runs} runs", flush=True)
    with tempfile.TemporaryDirectory(prefix="bench-vectors-") as folder:
        bench = Bench(Path(folder), runs=runs, dtype=dtype)
        make_file(bench.file, rows=rows, dimensions=dimensions)
        bench.build()
        bench.open()
        bench.memory()
        bench.lookups()


def make_file(path: Path, *, rows: int, dimensions: int) -> None:
    """A word2vec binary file as Google News' is."""
    rng = np.random.default_rng(1)
    with path.open("wb") as file:
        file.write(f"{rows} {dimensions}\n".encode())
        for start in range(0, rows, 10_000):
            count = min(10_000, rows - start)
            vectors = rng.standard_normal((count, dimensions), np.float32)
            file.write(
                b"".join(
                    f"{word(start + index)} ".encode() + vectors[index].tobytes()
                    for index in range(count)
                )
            )


class Bench:
    """The measurements, on one file in one folder."""

    def __init__(self, folder: Path, *, runs: int, dtype: str) -> None:
        self.file = folder / "vectors.bin"
        self._table = folder / "table"
        self._saved = folder / "saved" / "vectors.kv"
        self._runs = runs
        self._dtype = dtype

    def build(self) -> None:
        peaks: dict[str, list[float]] = {"ours": [], "theirs": []}

        def ours() -> float:
            shutil.rmtree(self._table, ignore_errors=True)
            told = part("build_ours", self.file, self._table, self._dtype)
            peaks["ours"].append(told["peak"] / MB)
            return told["seconds"]

        def theirs() -> float:
            shutil.rmtree(self._saved.parent, ignore_errors=True)
            self._saved.parent.mkdir()
            told = part("build_theirs", self.file, self._saved)
            peaks["theirs"].append(told["peak"] / MB)
            return told["seconds"]

        seconds = in_turn(self._runs, {"ours": ours, "theirs": theirs})
        show("build; gensim load + save, s", seconds)
        show("  its peak memory, MB", peaks)
        sizes = {
            "ours": [size_of(self._table) / MB],
            "theirs": [size_of(self._saved.parent) / MB],
        }
        show("  its size on disk, MB", sizes)

    def open(self) -> None:
        functions: dict[str, Callable[[], float]] = {
            "ours": lambda: part("open_ours", self._table)["seconds"] * 1e3,
            "theirs": lambda: part("open_theirs", self._saved)["seconds"] * 1e3,
        }
        show("open; gensim load(mmap='r'), ms", in_turn(self._runs, functions))

    def memory(self) -> None:
        told = {
            "ours": [pair("memory_ours", self._table) for _ in range(self._runs)],
            "theirs": [pair("memory_theirs", self._saved) for _ in range(self._runs)],
        }
        # Private is also what of the mapped files only this process has touched so far; written
        # is what the system cannot drop.
        for kind, name in (
            ("written", "written"),
            ("uss", "private (Uss)"),
            ("pss", "proportional (Pss)"),
        ):
            figures = {
                who: [one[kind] / MB for both in pairs for one in both]
                for who, pairs in told.items()
            }
            show(f"two processes, {name}, MB each", figures)

    def lookups(self) -> None:
        ways = {
            "ours": ("ours", self._table),
            "gensim, key_to_index.get and indexing": ("indexed", self._saved),
            "gensim, kv[word] in a loop": ("loop", self._saved),
            "gensim, vectors_for_all": ("for_all", self._saved),
        }
        if importlib.util.find_spec("marisa_trie"):
            sizes = part("make_marisa", self._table)
            ways["marisa-trie, our matrix"] = ("marisa", self._table)
            show(
                "words and index on disk; marisa-trie's, MB",
                {who: [size / MB] for who, size in sizes.items()},
            )
        else:
            print("marisa-trie is left out: it is not installed (pip install marisa-trie)")
        functions: dict[str, Callable[[], float]] = {
            name: partial(self._lookup, way, path) for name, (way, path) in ways.items()
        }
        measured = in_turn(self._runs, functions)
        print(f"words to vectors, a tenth of {BATCH:,} tokens missing, µs a token")
        for name, values in measured.items():
            ours = ratios(measured["ours"], values)
            print(f"  {name:40} {spread(values)!s:30} ours / it: {ours}", flush=True)

    def _lookup(self, way: str, path: Path) -> float:
        return part("lookup", way, path, BATCH)["seconds"] / BATCH * 1e6


def part(name: str, *arguments: object) -> dict[str, float]:
    """One measurement, in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.vectors_parts", name, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def pair(name: str, path: Path) -> list[dict[str, float]]:
    """What each of two processes takes that have the same files open at once."""
    command = [sys.executable, "-m", "tests.bench.vectors_parts", name, str(path)]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        told = []
        for process in processes:
            process.stdin.write("\n")
            process.stdin.flush()
            told.append(json.loads(process.stdout.readline()))
        return told
    finally:
        for process in processes:
            process.communicate("\n")


def show(title: str, measured: dict[str, list[float]]) -> None:
    ours, theirs = measured["ours"], measured["theirs"]
    ratio: Spread = ratios(ours, theirs)
    print(
        f"{title:45} {spread(ours)!s:30} {spread(theirs)!s:30} ours / theirs: {ratio}", flush=True
    )


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


if __name__ == "__main__":
    main()
