"""Files of word vectors for tests, and the command line that reads them."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import gensim
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sentiment.corpus import FORMAT, SCHEMA
from sentiment.files import sha256_of
from sentiment.vectors import Chunk, write_table
from tests import processes

GENSIM_DATA = Path(gensim.__file__).parent / "test" / "test_data"


def run(*arguments, limited=None):
    """`sentiment vectors …` in a process of its own; `limited` is called where it begins."""
    command = [str(Path(sys.executable).with_name("sentiment")), "vectors", *map(str, arguments)]
    streams = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    if limited is None:
        process = processes.popen(command, env=os.environ, stdin=subprocess.DEVNULL, **streams)
    else:
        process = subprocess.Popen(command, preexec_fn=limited, text=True, **streams)  # noqa: PLW1509
    out, err = process.communicate(timeout=300)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def some_vectors(count, dimensions, *, seed=0):
    return np.random.default_rng(seed).normal(size=(count, dimensions)).astype(np.float32)


def table_of(path, words, vectors=None, **settings):
    """A table written in one chunk."""
    if vectors is None:
        vectors = some_vectors(len(words), 4)
    return write_table(path, [Chunk(words, vectors)], source={"name": "test"}, **settings)


def binary(words, vectors, *, header=None, end=b"\n"):
    """A file as word2vec writes it; Google News' has no line feed after a vector."""
    head = f"{len(words)} {vectors.shape[1]}\n".encode() if header is None else header
    rows = [
        (word if isinstance(word, bytes) else word.encode()) + b" " + row.astype("<f4").tobytes()
        for word, row in zip(words, vectors, strict=True)
    ]
    return head + b"".join(row + end for row in rows)


def write_corpus(path, **splits):
    """A corpus as ingest writes it, from texts."""
    parts = []
    for split, texts in splits.items():
        (path / split).mkdir(parents=True)
        file = path / split / "part-00000.parquet"
        columns = {name: [None] * len(texts) for name in SCHEMA.names}
        columns |= {"position": list(range(len(texts))), "row": list(range(len(texts)))}
        columns |= {"id": [f"{split}-{i}" for i in range(len(texts))], "text": texts}
        pq.write_table(pa.table(columns, schema=SCHEMA), file)
        parts.append(
            {
                "path": f"{split}/{file.name}",
                "split": split,
                "first_position": 0,
                "rows": len(texts),
                "bytes": file.stat().st_size,
                "sha256": sha256_of(file),
            }
        )
    manifest = {
        "format": FORMAT,
        "digest": hashlib.sha256(json.dumps(parts).encode()).hexdigest(),
        "splits": {split: {"rows": len(texts)} for split, texts in splits.items()},
        "parts": parts,
    }
    (path / "manifest.json").write_text(json.dumps(manifest))
    return path
