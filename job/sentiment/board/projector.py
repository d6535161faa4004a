"""The first words of a word table, for TensorBoard's projector."""

from pathlib import Path
from typing import Final

import numpy as np
from tensorboard.plugins.projector import EmbeddingInfo, ProjectorConfig, visualize_embeddings

from sentiment.files import write_file
from sentiment.vectors import WordTable

VECTORS: Final = "words.vectors.tsv"
WORDS: Final = "words.metadata.tsv"


def write_words(logs: Path, table: WordTable, *, words: int) -> int:
    """Write the vectors of the table's first words, and what names them; how many there are.

    Raises:
        SentimentError: the disk refuses.
    """
    count = min(words, table.rows)
    rows = table.vectors(np.arange(count))
    lines = ("\t".join(f"{value:.6g}" for value in row) for row in rows.tolist())
    write_file(logs / VECTORS, "".join(f"{line}\n" for line in lines))
    write_file(logs / WORDS, "".join(f"{shown(table.word(row))}\n" for row in range(count)))
    info = EmbeddingInfo(
        tensor_name=f"word table {table.digest[:12]}",
        tensor_path=VECTORS,
        metadata_path=WORDS,
        tensor_shape=[count, table.dimensions],
    )
    visualize_embeddings(str(logs), ProjectorConfig(embeddings=[info]))
    return count


def shown(word: str) -> str:
    """A word as a line of a table has it: tabs, ends of lines and other controls are escaped."""
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in word
    )
