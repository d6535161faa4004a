"""What tests.bench.vectors measures, each in a process of its own.

    python -m tests.bench.vectors_parts PART ARGUMENTS…

prints one JSON object. Importing the libraries is not counted.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

REPEATS = 20
"""How often a batch is looked up in a process; the first times bring the pages in."""


def word(number: int) -> str:
    """The word of a row, or of none (from 2**31 on): hexadecimal, without order, each once."""
    return f"{number * 2654435761 % 2**32:x}"


def tokens(rows: int, count: int) -> list[str]:
    """Words of the file, most of them of its beginning as in a text; a tenth is in no row."""
    rng = np.random.default_rng(7)
    found = (rows * rng.random(count) ** 3).astype(np.int64)
    numbers = np.where(rng.random(count) < 0.1, 2**31 + found, found)
    return [word(int(number)) for number in numbers]


def timed(function: Callable[[], Any]) -> dict[str, float]:
    started = time.perf_counter()
    function()
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "peak": _fields("/proc/self/status")["VmHWM"]}


def build_ours(source: str, target: str, dtype: str) -> dict[str, float]:
    from sentiment.vectors import write_table
    from sentiment.vectors.source import open_source

    def build() -> None:
        opened = open_source(source, progress=lambda share: None)
        write_table(
            target,
            opened.chunks,
            source=opened.about,
            also=opened.also,
            promised=opened.rows,
            dtype=dtype,
        )

    return timed(build)


def build_theirs(source: str, target: str) -> dict[str, float]:
    from gensim.models import KeyedVectors

    return timed(lambda: KeyedVectors.load_word2vec_format(source, binary=True).save(target))


def open_ours(path: str) -> dict[str, float]:
    from sentiment.vectors import open_table

    return timed(lambda: open_table(path))


def open_theirs(path: str) -> dict[str, float]:
    from gensim.models import KeyedVectors

    return timed(lambda: KeyedVectors.load(path, mmap="r"))


def memory_ours(path: str) -> None:
    from sentiment.vectors import open_table

    def use() -> Any:
        table = open_table(path)
        table.vectors(table.find(tokens(table.rows, 10_000)))
        return table

    _hold(use)


def memory_theirs(path: str) -> None:
    from gensim.models import KeyedVectors

    def use() -> Any:
        kv = KeyedVectors.load(path, mmap="r")
        _indexed(kv, tokens(len(kv), 10_000))
        return kv

    _hold(use)


def _hold(use: Callable[[], Any]) -> None:
    """Say when all is open, then, once the other process has it open too, what it takes."""
    before = _own_memory()
    held = use()
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps({key: value - before[key] for key, value in _own_memory().items()}))
    sys.stdout.flush()
    sys.stdin.readline()
    del held


def _own_memory() -> dict[str, int]:
    fields = _fields("/proc/self/smaps_rollup")
    return {
        "uss": fields["Private_Clean"] + fields["Private_Dirty"],
        "written": fields["Private_Dirty"],
        "pss": fields["Pss"],
    }


def _fields(path: str) -> dict[str, int]:
    """The sizes in a file of /proc, in bytes."""
    lines = (line.split() for line in Path(path).read_text().splitlines())
    return {line[0].rstrip(":"): int(line[1]) * 1024 for line in lines if line[-1] == "kB"}


def lookup(way: str, path: str, count: str) -> dict[str, float]:
    """Seconds for a batch: from words to a matrix float32, zeros where a word is not there."""
    find = WAYS[way](path)
    batch = tokens(find.rows, int(count))
    seconds = [timed(lambda: find(batch))["seconds"] for _ in range(REPEATS)]
    return {"seconds": statistics.median(seconds), "sum": float(find(batch).sum())}


class Ours:
    def __init__(self, path: str) -> None:
        from sentiment.vectors import open_table

        self._table = open_table(path)
        self.rows = self._table.rows

    def __call__(self, batch: list[str]) -> np.ndarray:
        return self._table.vectors(self._table.find(batch))


class Marisa:
    """A trie in the place of the hashes, over the same matrix."""

    def __init__(self, path: str) -> None:
        import marisa_trie

        from sentiment.vectors import open_table

        self._table = open_table(path)
        self.rows = self._table.rows
        self._trie = marisa_trie.Trie().mmap(f"{path}.marisa")
        self._row_of = np.load(f"{path}.marisa.npy", mmap_mode="r").view(np.ndarray)

    def __call__(self, batch: list[str]) -> np.ndarray:
        ids = np.fromiter((self._trie.get(token, -1) for token in batch), np.int64, len(batch))
        return self._table.vectors(np.where(ids < 0, -1, self._row_of[ids].astype(np.int64)))


def make_marisa(path: str) -> dict[str, int]:
    """Write the trie of a table's words, and the row of each of its numbers."""
    import marisa_trie

    from sentiment.vectors import open_table

    table = open_table(path)
    words = list(table.words())
    trie = marisa_trie.Trie(words)
    trie.save(f"{path}.marisa")
    row_of = np.empty(len(words), np.uint32)
    row_of[[trie[one] for one in words]] = np.arange(len(words))
    np.save(f"{path}.marisa.npy", row_of)
    return {
        "theirs": sum(Path(path + end).stat().st_size for end in (".marisa", ".marisa.npy")),
        "ours": sum(
            Path(path, name).stat().st_size
            for name in ("words.txt", "offsets.npy", "hashes.npy", "rows.npy")
        ),
    }


class Gensim:
    def __init__(self, path: str) -> None:
        from gensim.models import KeyedVectors

        self.kv = KeyedVectors.load(path, mmap="r")
        self.rows = len(self.kv)


class GensimLoop(Gensim):
    def __call__(self, batch: list[str]) -> np.ndarray:
        found = np.zeros((len(batch), self.kv.vector_size), np.float32)
        for index, token in enumerate(batch):
            if token in self.kv:
                found[index] = self.kv[token]
        return found


class GensimIndexed(Gensim):
    def __call__(self, batch: list[str]) -> np.ndarray:
        return _indexed(self.kv, batch)


class GensimForAll(Gensim):
    def __call__(self, batch: list[str]) -> np.ndarray:
        part = self.kv.vectors_for_all(batch, allow_inference=False)  # each word once
        return _indexed(part, batch)


def _indexed(kv: Any, batch: list[str]) -> np.ndarray:
    rows = np.array([kv.key_to_index.get(token, -1) for token in batch])
    found = kv.vectors[rows]
    found[rows < 0] = 0
    return found


WAYS: dict[str, Any] = {
    "ours": Ours,
    "marisa": Marisa,
    "loop": GensimLoop,
    "indexed": GensimIndexed,
    "for_all": GensimForAll,
}
PARTS: dict[str, Callable[..., Any]] = {
    part.__name__: part
    for part in (
        build_ours,
        build_theirs,
        open_ours,
        open_theirs,
        memory_ours,
        memory_theirs,
        lookup,
        make_marisa,
    )
}

if __name__ == "__main__":
    told = PARTS[sys.argv[1]](*sys.argv[2:])
    if told is not None:
        print(json.dumps(told))
