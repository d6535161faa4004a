"""Files of word vectors for tests, and the command line that reads them."""

import subprocess
import sys
from pathlib import Path

import gensim
import numpy as np

from sentiment.vectors import Chunk, write_table

GENSIM_DATA = Path(gensim.__file__).parent / "test" / "test_data"
COMMAND = [sys.executable, "-m", "sentiment.cli", "vectors"]


def run(*arguments, **settings):
    """`sentiment vectors …` in a process of its own."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        **settings,
    )


def some_vectors(count, dimensions, *, seed=0):
    return np.random.default_rng(seed).normal(size=(count, dimensions)).astype(np.float32)


def table_of(path, words, vectors=None, **settings):
    """A table written in one chunk."""
    if vectors is None:
        vectors = some_vectors(len(words), 4)
    return write_table(path, [Chunk(words, vectors)], source={"name": "test"}, **settings)


def binary(words, vectors, *, header=None, end=b"\n"):
    """A file as word2vec writes it; Google News' has no line feed after a vector."""
    head = header or f"{len(words)} {vectors.shape[1]}\n".encode()
    rows = [
        (word if isinstance(word, bytes) else word.encode()) + b" " + row.astype("<f4").tobytes()
        for word, row in zip(words, vectors, strict=True)
    ]
    return head + b"".join(row + end for row in rows)
