"""Writes the files of a word table, in one pass and in bounded memory."""

import hashlib
import io
from array import array
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NoReturn, Self

import numpy as np
from numpy.typing import NDArray

from sentiment.errors import InvalidInputError
from sentiment.files import sha256_of, write_json
from sentiment.vectors import hashes as hashing
from sentiment.vectors.chunk import LONGEST_WORD, Chunk, Policy
from sentiment.vectors.digest import Aside
from sentiment.vectors.hashes import HashRuns
from sentiment.vectors.manifest import (
    HASHES,
    NAME,
    OFFSETS,
    ROWS,
    SCALES,
    VECTORS,
    WORDS,
    File,
    Manifest,
    files_of,
)
from sentiment.vectors.values import DTYPES, SCALE, Stored, rounded, to_length_1

_HEADER_BYTES: Final = 128
_MOST_ROWS: Final = 1 << 32
_TOO_LARGE_FOR_FP16: Final = 65520
"""What is so large is rounded to infinity."""


class TableWriter:
    """Takes chunks of words and vectors and writes the files of a table from them.

    Held in memory: one chunk, and 20 bytes a word (for int8 24).
    """

    def __init__(
        self,
        directory: Path,
        *,
        dtype: str,
        dimensions: int,
        policy: Policy,
        source_name: str,
        promised: int | None = None,
    ) -> None:
        """Open the files in `directory`, which exists and is empty."""
        self.read = 0
        self.repeated = 0
        self.left_out = 0
        self.zero = 0
        self._directory = directory
        self._dtype = dtype
        self._dimensions = dimensions
        self._policy = policy
        self._source = source_name
        self._lower_would_match = False
        self._runs = HashRuns()
        self._offsets = array("Q", [0])
        self._scales = array("f")
        self._vectors = (directory / VECTORS).open("w+b")
        self._words = (directory / WORDS).open("w+b")
        self._aside = Aside()
        # The number of rows is known at the end: what was promised is mended then.
        self._header = _npy_header(DTYPES[dtype], (promised or 0, dimensions))
        self._digest = hashlib.sha256()
        self._put(self._header)

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
        self._aside.close()
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
        words = self._spelled(chunk.words)
        if self._policy.only is not None:
            chunk, words = self._wanted(chunk, words, self._policy.only)
        if words:
            self._add(chunk, self._encoded(chunk, words))

    def _spelled(self, words: Sequence[str]) -> Sequence[str]:
        return [word.lower() for word in words] if self._policy.lower else words

    def _wanted(
        self, chunk: Chunk, words: Sequence[str], only: Set[str]
    ) -> tuple[Chunk, Sequence[str]]:
        """What the policy wants of a chunk, and how those words are spelled."""
        kept = [index for index, word in enumerate(words) if word in only]
        self.left_out += len(words) - len(kept)
        if not kept and not self.rows and not self._lower_would_match:
            self._lower_would_match = any(word.lower() in only for word in words)
        part = Chunk(
            [chunk.words[index] for index in kept],
            chunk.vectors[kept],
            where=lambda index: chunk.where(kept[index]),
        )
        return part, [words[index] for index in kept]

    def _add(self, chunk: Chunk, encoded: Sequence[bytes]) -> None:
        stored = self._stored(chunk)
        hashed = hashing.hash_words(encoded)
        suspects = self._runs.contains(hashed) | _share_a_hash(hashed)
        keep = self._new_words(chunk, encoded, stored, hashed, suspects)
        if self._policy.top is not None:
            keep = keep[: self._policy.top - self.rows]
        if self.rows + len(keep) > _MOST_ROWS:
            raise InvalidInputError("more than 2^32 words", where=self._source, todo="give --top")
        if len(keep) < len(encoded):
            stored, hashed = stored[keep], hashed[keep]
            encoded = [encoded[index] for index in keep.tolist()]
        first = self.rows
        self._runs.add(hashed, np.arange(first, first + len(keep), dtype=np.uint32))
        self.zero += stored.zeros()
        self._aside.do(self._put, stored.values)
        if stored.scales is not None:
            self._scales.frombytes(stored.scales.tobytes())
        self._words.write(b"\n".join([*encoded, b""]))
        ends = (_lengths(encoded) + 1).cumsum() + self._offsets[-1]
        self._offsets.frombytes(ends.astype(np.uint64).tobytes())

    def _put(self, data: Any) -> None:
        self._vectors.write(data)
        self._digest.update(data)

    def _encoded(self, chunk: Chunk, words: Sequence[str]) -> list[bytes]:
        try:
            encoded = "\n".join(words).encode().split(b"\n")
            if len(encoded) != len(words):  # a word holds a line feed
                encoded = [word.encode() for word in words]
        except UnicodeEncodeError as error:
            place = next(i for i, word in enumerate(words) if not _is_unicode(word))
            raise _refused(chunk, place, "the word is not valid Unicode") from error
        lengths = _lengths(encoded)
        if not lengths.all():
            raise _refused(chunk, int(lengths.argmin()), "the word is empty")
        if lengths.max() > LONGEST_WORD:
            raise _refused(chunk, int(lengths.argmax()), "the word is longer than 64 KiB")
        return encoded

    def _stored(self, chunk: Chunk) -> Stored:
        vectors = chunk.vectors
        if vectors.shape != (len(chunk.words), self._dimensions):
            raise InvalidInputError(
                f"{len(chunk.words)} words came with vectors of shape {vectors.shape}, "
                f"the table has {self._dimensions} dimensions",
                where=self._source,
            )
        largest = max(vectors.max(), -vectors.min())  # NaN if any value is
        if not largest < np.inf:
            self._refuse_value(chunk, ~np.isfinite(vectors), "is not a finite number")
        if self._policy.normalise:
            vectors = to_length_1(vectors)
        elif self._dtype == "fp16" and largest >= _TOO_LARGE_FOR_FP16:
            self._refuse_value(
                chunk,
                abs(vectors) >= _TOO_LARGE_FOR_FP16,
                "does not fit into float16",
                todo="give --dtype fp32",
            )
        return rounded(vectors, self._dtype)

    def _refuse_value(
        self, chunk: Chunk, bad: NDArray[np.bool_], what: str, *, todo: str = "mend the source"
    ) -> NoReturn:
        row, column = np.argwhere(bad)[0].tolist()
        word, value = chunk.words[row], chunk.vectors[row, column]
        raise _refused(
            chunk, row, f"value {column + 1} of {word!r} is {value}: it {what}", todo=todo
        )

    def _new_words(
        self,
        chunk: Chunk,
        encoded: Sequence[bytes],
        stored: Stored,
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
            before = stored[[met[word]]] if row is None else self._read_row(row)
            if not stored.same(index, before):
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

    def _read_row(self, row: int) -> Stored:
        dtype = DTYPES[self._dtype]
        size = self._dimensions * dtype.itemsize
        self._aside.wait()
        self._vectors.seek(_HEADER_BYTES + row * size)
        values = np.frombuffer(self._vectors.read(size), dtype)
        self._vectors.seek(0, io.SEEK_END)
        scales = np.array(self._scales[row : row + 1], SCALE) if self._scales else None
        return Stored(values, scales)

    def finish(self, source: Callable[[], Mapping[str, Any]]) -> Manifest:
        """Write the index and the manifest, which tells of `source`.

        Raises:
            InvalidInputError: no row was written.
        """
        if not self.rows:
            self._refuse_nothing()
        self._aside.wait()
        header = _npy_header(DTYPES[self._dtype], (self.rows, self._dimensions))
        self._vectors.seek(0)
        self._vectors.write(header)
        self._vectors.close()
        self._words.close()
        self._save_index()
        known = {VECTORS: self._digest.hexdigest()} if header == self._header else {}
        paths = [self._directory / name for name in files_of(self._dtype)]
        manifest = Manifest(
            rows=self.rows,
            dimensions=self._dimensions,
            dtype=self._dtype,
            tokenizer=self._policy.tokenizer,
            case="lower" if self._policy.lower else "kept",
            normalised=self._policy.normalise,
            source=source(),
            counts={
                "read": self.read,
                "repeated": self.repeated,
                "left_out": self.left_out,
                "zero": self.zero,
            },
            files={
                path.name: File(
                    bytes=path.stat().st_size, sha256=known.get(path.name) or sha256_of(path)
                )
                for path in paths
            },
        )
        write_json(self._directory / NAME, manifest.as_json())
        return manifest

    def _save_index(self) -> None:
        keys, rows = self._runs.in_order()
        self._save(HASHES, keys)
        self._save(ROWS, rows)
        self._save(OFFSETS, np.frombuffer(self._offsets, np.uint64))
        if self._dtype == "int8":
            self._save(SCALES, np.frombuffer(self._scales, SCALE))

    def _save(self, name: str, values: NDArray[Any]) -> None:
        np.save(self._directory / name, values, allow_pickle=False)

    def _refuse_nothing(self) -> NoReturn:
        if not self.left_out:
            raise InvalidInputError("holds no word", where=self._source)
        raise InvalidInputError(
            f"none of its {self.read:,} words occurs in the corpus",
            where=self._source,
            todo="give --lower: in lower case some do"
            if self._lower_would_match
            else "give vectors of the corpus' language",
        )


def _lengths(words: Sequence[bytes]) -> NDArray[np.int64]:
    return np.fromiter(map(len, words), np.int64, len(words))


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
