"""Writes the files of a word table, in one pass and in bounded memory."""

import io
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from sentiment.errors import InvalidInputError
from sentiment.files import sha256_of, write_json
from sentiment.vectors import hashes as hashing
from sentiment.vectors.chunk import Chunk, Policy
from sentiment.vectors.hashes import HashRuns
from sentiment.vectors.manifest import (
    FILES,
    HASHES,
    NAME,
    OFFSETS,
    ROWS,
    VECTORS,
    WORDS,
    File,
    Manifest,
)

DTYPES: Final[dict[str, np.dtype[Any]]] = {"fp16": np.dtype("<f2"), "fp32": np.dtype("<f4")}
_HEADER_BYTES: Final = 128
_MOST_ROWS: Final = 1 << 32


class TableWriter:
    """Takes chunks of words and vectors and writes the files of a table from them.

    Held in memory: one chunk, and 20 bytes a word.
    """

    def __init__(
        self, directory: Path, *, dtype: str, dimensions: int, policy: Policy, source_name: str
    ) -> None:
        """Open the files in `directory`, which exists and is empty."""
        self.read = 0
        self.repeated = 0
        self._directory = directory
        self._dtype_name = dtype
        self._dtype = DTYPES[dtype]
        self._dimensions = dimensions
        self._policy = policy
        self._source = source_name
        self._runs = HashRuns()
        self._offsets = array("Q", [0])
        self._vectors = (directory / VECTORS).open("w+b")
        self._words = (directory / WORDS).open("w+b")
        self._vectors.write(b"\0" * _HEADER_BYTES)  # the row count is known at the end

    def __enter__(self) -> Self:
        """Use as a context manager, so that the files are closed."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the files."""
        self._vectors.close()
        self._words.close()

    @property
    def rows(self) -> int:
        """Rows written so far."""
        return len(self._offsets) - 1

    @property
    def full(self) -> bool:
        """Whether the table has all the rows that the policy wants."""
        return self.rows == self._policy.top

    def append(self, chunk: Chunk) -> None:
        """Write the words of a chunk that are new, until the table is full.

        Raises:
            InvalidInputError: an empty word, a value that is not finite or too
                large for the dtype, another number of dimensions, or a word
                that came before with another vector.
        """
        self.read += len(chunk.words)
        encoded = self._encode(chunk)
        values = self._rounded(chunk)
        hashed = hashing.hash_words(encoded)
        suspects = self._runs.contains(hashed) | _share_a_hash(hashed)
        keep = self._new_words(chunk, encoded, values, hashed, suspects)
        if self._policy.top is not None:
            keep = keep[: self._policy.top - self.rows]
        if self.rows + len(keep) > _MOST_ROWS:
            raise InvalidInputError("more than 2^32 words", where=self._source, todo="give --top")
        first = self.rows
        self._runs.add(hashed[keep], np.arange(first, first + len(keep), dtype=np.uint32))
        self._vectors.write(values[keep].tobytes())
        kept = [encoded[index] for index in keep.tolist()]
        self._words.write(b"".join(word + b"\n" for word in kept))
        lengths = np.fromiter((len(word) + 1 for word in kept), np.uint64, len(kept))
        self._offsets.frombytes((lengths.cumsum(dtype=np.uint64) + self._offsets[-1]).tobytes())

    def _encode(self, chunk: Chunk) -> list[bytes]:
        try:
            if self._policy.lower:
                encoded = [word.lower().encode() for word in chunk.words]
            else:
                encoded = [word.encode() for word in chunk.words]
        except UnicodeEncodeError as error:
            place = next(i for i, word in enumerate(chunk.words) if not _is_unicode(word))
            raise _refused(chunk, place, "the word is not valid Unicode") from error
        if b"" in encoded:
            raise _refused(chunk, encoded.index(b""), "the word is empty")
        return encoded

    def _rounded(self, chunk: Chunk) -> NDArray[Any]:
        if chunk.vectors.shape != (len(chunk.words), self._dimensions):
            raise InvalidInputError(
                f"{len(chunk.words)} words came with vectors of shape {chunk.vectors.shape}, "
                f"the table has {self._dimensions} dimensions",
                where=self._source,
            )
        with np.errstate(over="ignore"):
            values: NDArray[Any] = chunk.vectors.astype(self._dtype)
        if np.isfinite(values).all():
            return values
        row, column = np.argwhere(~np.isfinite(values))[0].tolist()
        value = chunk.vectors[row, column]
        if np.isfinite(value):
            what, todo = f"does not fit into {self._dtype.name}", "give --dtype fp32"
        else:
            what, todo = "is not a finite number", "remove the line or word, or mend the source"
        word = chunk.words[row]
        raise _refused(
            chunk, row, f"value {column + 1} of {word!r} is {value}: it {what}", todo=todo
        )

    def _new_words(
        self,
        chunk: Chunk,
        encoded: Sequence[bytes],
        values: NDArray[Any],
        hashed: hashing.Hashes,
        suspects: NDArray[np.bool_],
    ) -> NDArray[np.int64]:
        """The indices of the chunk's words that are not in the table yet, each word once."""
        new = np.ones(len(encoded), dtype=np.bool_)
        met: dict[bytes, int] = {}
        compare = not (self._policy.lower or self._policy.keep_first)
        for index in np.flatnonzero(suspects).tolist():
            word = encoded[index]
            row = None if word in met else self._row_of(word, hashed[index])
            if word not in met and row is None:
                met[word] = index
                continue
            new[index] = False
            self.repeated += 1
            if not compare:
                continue
            before = values[met[word]] if row is None else self._read_row(row)
            if not np.array_equal(before, values[index]):
                raise _refused(
                    chunk,
                    index,
                    f"the word {chunk.words[index]!r} comes again, with another vector",
                    todo="remove one of the two, or give --keep-first to keep the first of each",
                )
        return np.flatnonzero(new)

    def _row_of(self, word: bytes, hashed: np.uint64) -> int | None:
        for row in self._runs.rows_of(hashed):
            start, end = self._offsets[row], self._offsets[row + 1] - 1
            self._words.seek(start)
            stored = self._words.read(end - start)
            self._words.seek(0, io.SEEK_END)
            if stored == word:
                return row
        return None

    def _read_row(self, row: int) -> NDArray[Any]:
        size = self._dimensions * self._dtype.itemsize
        self._vectors.seek(_HEADER_BYTES + row * size)
        values: NDArray[Any] = np.frombuffer(self._vectors.read(size), self._dtype)
        self._vectors.seek(0, io.SEEK_END)
        return values

    def finish(self, source: Mapping[str, Any]) -> Manifest:
        """Write the index and the manifest, which tells of `source`.

        Raises:
            InvalidInputError: no row was written.
        """
        if not self.rows:
            raise InvalidInputError("holds no word", where=self._source)
        self._vectors.seek(0)
        self._vectors.write(_npy_header(self._dtype, (self.rows, self._dimensions)))
        self._vectors.close()
        self._words.close()
        keys, rows = self._runs.in_order()
        np.save(self._directory / HASHES, keys, allow_pickle=False)
        np.save(self._directory / ROWS, rows, allow_pickle=False)
        offsets = np.frombuffer(self._offsets, np.uint64)
        np.save(self._directory / OFFSETS, offsets, allow_pickle=False)
        paths = [self._directory / name for name in FILES]
        manifest = Manifest(
            rows=self.rows,
            dimensions=self._dimensions,
            dtype=self._dtype_name,
            tokenizer=self._policy.tokenizer,
            case="lower" if self._policy.lower else "kept",
            source=dict(source),
            counts={"read": self.read, "repeated": self.repeated},
            files={p.name: File(bytes=p.stat().st_size, sha256=sha256_of(p)) for p in paths},
        )
        write_json(self._directory / NAME, manifest.as_json())
        return manifest


def _is_unicode(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def _share_a_hash(hashed: hashing.Hashes) -> NDArray[np.bool_]:
    """Which of these hashes occur more than once among themselves, bool [n]."""
    order = np.argsort(hashed, kind="stable")
    ordered = hashed[order]
    same = ordered[1:] == ordered[:-1]
    shared = np.zeros(len(hashed), dtype=np.bool_)
    shared[order[1:][same]] = True
    shared[order[:-1][same]] = True
    return shared


def _npy_header(dtype: np.dtype[np.generic], shape: tuple[int, int]) -> bytes:
    """The header of an .npy file, of _HEADER_BYTES whatever the shape."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer,
        {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape},
    )
    header = buffer.getvalue()
    assert len(header) == _HEADER_BYTES, f"numpy wrote a header of {len(header)} bytes"
    return header


def _refused(
    chunk: Chunk, index: int, what: str, *, todo: str = "mend the source"
) -> InvalidInputError:
    return InvalidInputError(what, where=chunk.where(index), todo=todo)
