"""The word table: word vectors that every process maps and no process loads.

The layout of its directory is in docs/word-table.md.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sentiment.errors import InvalidInputError, SentimentError
from sentiment.files import new_directory, refuse_existing, sha256_of
from sentiment.vectors import hashes as hashing
from sentiment.vectors.chunk import Chunk, Policy
from sentiment.vectors.manifest import (
    HASHES,
    OFFSETS,
    ROWS,
    SCALES,
    VECTORS,
    WORDS,
    Manifest,
    damaged,
    files_of,
    is_table,
    read_manifest,
)
from sentiment.vectors.values import DTYPES, SCALE, Stored, restored
from sentiment.vectors.writing import TableWriter

_ALL_WORDS: Final = Policy()
MISSING: Final = -1
"""The row of a word that the table does not have."""


class WordTable:
    """An open word table. Make one with `open_table` or `write_table`.

    Its files are mapped read-only: the pages belong to the system's cache and
    are shared by all processes. Pickled, it travels as its path. Row r is the
    r-th word of the source, which most sources order by frequency.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        """Map the files of a table whose manifest was read."""
        self.path = path
        self.manifest = manifest
        rows = manifest.rows
        self._stored = Stored(
            _mapped(path / VECTORS, DTYPES[manifest.dtype], (rows, manifest.dimensions)),
            _mapped(path / SCALES, SCALE, (rows,)) if manifest.dtype == "int8" else None,
        )
        self._offsets = _mapped(path / OFFSETS, np.dtype("<u8"), (rows + 1,))
        self._hashes = _mapped(path / HASHES, np.dtype("<u8"), (rows,))
        self._order = _mapped(path / ROWS, np.dtype("<u4"), (rows,))
        self._words = np.memmap(path / WORDS, dtype=np.uint8, mode="r").view(np.ndarray)
        if int(self._offsets[-1]) != len(self._words):
            raise damaged(path / OFFSETS, f"it does not end where {WORDS} ends")

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle as the path, never as the vectors."""
        return (open_table, (self.path,))

    @property
    def rows(self) -> int:
        """The number of words."""
        return self.manifest.rows

    @property
    def dimensions(self) -> int:
        """The length of a vector."""
        return self.manifest.dimensions

    @property
    def digest(self) -> str:
        """The sha256 that names the table's content."""
        return self.manifest.digest

    def __len__(self) -> int:
        """The number of words."""
        return self.rows

    def __contains__(self, word: object) -> bool:
        """Whether the table has this word, spelled exactly so."""
        return isinstance(word, str) and bool(self.find([word])[0] != MISSING)

    def find(self, words: Sequence[str]) -> NDArray[np.int64]:
        """The row of each word, int64 [n]; -1 where the table does not have it.

        A hit is compared with the stored word: words of the same hash are told apart.
        """
        if not words:
            return np.empty(0, dtype=np.int64)
        # A lone surrogate encodes to bytes that no stored word has: a miss.
        text = hashing.joined([word.encode("utf-8", "surrogatepass") for word in words])
        hashed = hashing.hash_joined(text)
        at = hashing.places(self._hashes, hashed)
        found = np.full(len(words), MISSING, dtype=np.int64)
        open_ = np.flatnonzero(text.lengths > 0)
        while open_.size:
            open_ = open_[at[open_] < self.rows]
            open_ = open_[self._hashes[at[open_]] == hashed[open_]]
            rows = self._order[at[open_]].astype(np.int64)
            same = self._stored_as(rows, text, open_)
            found[open_[same]] = rows[same]
            open_ = open_[~same]
            at[open_] += 1
        return found

    def _stored_as(
        self, rows: NDArray[np.int64], words: hashing.Bytes, which: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Which rows hold just the bytes of those words, bool [n]."""
        stored, lengths = self._offsets[rows].astype(np.int64), words.lengths[which]
        same: NDArray[np.bool_] = self._offsets[rows + 1].astype(np.int64) - stored - 1 == lengths
        if not same.any():
            return same
        lengths, starts, stored = lengths[same], words.starts[which[same]], stored[same]
        ends = np.cumsum(lengths)
        here = np.arange(ends[-1])
        begins = ends - lengths
        equal = (
            self._words[here + np.repeat(stored - begins, lengths)]
            == words.text[here + np.repeat(starts - begins, lengths)]
        )
        same[same] = np.logical_and.reduceat(equal, begins)
        return same

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors of these rows, float32 [..., dimensions]; zeros where a row is -1.

        Raises:
            IndexError: there is no such row.
        """
        rows = np.asarray(rows, dtype=np.int64)
        if rows.size and (rows.min() < MISSING or rows.max() >= self.rows):
            raise IndexError(f"rows are -1 … {self.rows - 1}")
        missing = rows == MISSING
        values = restored(self._stored[np.where(missing, 0, rows)])
        values[missing] = 0
        return values

    def block(self, start: int, stop: int) -> NDArray[np.float32]:
        """The vectors of the rows from `start` up to `stop`, float32 [n, dimensions]."""
        return restored(self._stored[start:stop])

    def word(self, row: int) -> str:
        """The word of a row.

        Raises:
            IndexError: there is no such row.
        """
        if not 0 <= row < self.rows:
            raise IndexError(f"rows are 0 … {self.rows - 1}")
        start, end = int(self._offsets[row]), int(self._offsets[row + 1]) - 1
        return self._words[start:end].tobytes().decode()

    def words(self) -> Iterator[str]:
        """All words, in the order of their rows."""
        return (self.word(row) for row in range(self.rows))


def open_table(path: Path | str, *, verify: bool = False) -> WordTable:
    """Open the word table at `path`: its files are mapped, none is read.

    The manifest's own digest, the format version, each file's size, shape and
    type are checked; with `verify` each file's sha256 too, which reads them all.

    Raises:
        InvalidInputError: there is no table, or it is damaged; the message
            names the file.
    """
    path = Path(path).absolute()
    manifest = read_manifest(path)
    try:
        for name in files_of(manifest.dtype):
            _check_file(path / name, manifest, verify=verify)
        return WordTable(path, manifest)
    except OSError as error:
        raise InvalidInputError(
            f"cannot be read: {error.strerror or error}", where=error.filename or str(path)
        ) from error


def _check_file(path: Path, manifest: Manifest, *, verify: bool) -> None:
    said = manifest.files[path.name]
    if not path.is_file():
        raise damaged(path, "this file is missing")
    size = path.stat().st_size
    if size != said.bytes:
        raise damaged(path, f"it has {size} bytes, the manifest says {said.bytes}")
    if verify and sha256_of(path) != said.sha256:
        raise damaged(path, "its sha256 is not the one in the manifest")


def _mapped(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise damaged(path, str(error)) from error
    if array.dtype != dtype or array.shape != shape or not array.flags.c_contiguous:
        raise damaged(path, f"it holds {array.dtype}{array.shape}, not {dtype}{shape}")
    view: NDArray[Any] = array.view(np.ndarray)  # indexing a memmap itself is slower
    return view


def check_target(target: Path, *, replace: bool) -> None:
    """Stop before any work if the table cannot be put at `target`.

    Raises:
        SentimentError: something is there, and it is no table or may not be replaced.
    """
    refuse_existing(target, replace=replace)
    if target.exists() and not is_table(target):
        raise SentimentError(
            "exists and is no word table: --force does not replace it",
            where=str(target),
            todo="name another place, or remove it yourself",
        )


def write_table(
    target: Path | str,
    chunks: Iterable[Chunk],
    *,
    source: Mapping[str, Any],
    dtype: str = "fp16",
    policy: Policy = _ALL_WORDS,
    replace: bool = False,
    also: Callable[[], Mapping[str, Any]] = dict,
    promised: int | None = None,
) -> WordTable:
    """Write a word table from chunks of words and vectors, and open it.

    Memory stays bounded: one chunk and about 20 bytes a word are held. All
    chunks have vectors of the same length.

    `source` goes into the manifest; its "name" is used in messages. `also` is
    asked at the end what else the manifest is to say of it. `promised` is how
    many rows there will be; it saves time if it is right. A word that comes
    again is counted if its vector is the same (after rounding to `dtype`:
    "fp16", "fp32" or "int8"), else `policy` says what becomes of it. `replace`
    lets a word table that is at `target` give way; anything else stays.

    Raises:
        InvalidInputError: no words; an empty word; a vector of another length,
            not finite or too large for `dtype`; a word with two vectors.
        SentimentError: `target` exists, or the disk refuses the write.
    """
    target = Path(target).absolute()
    check_target(target, replace=replace)
    name = str(source.get("name", "source"))
    with new_directory(target, replace=replace) as aside:
        chunks = iter(chunks)
        first = next((chunk for chunk in chunks if len(chunk.words)), None)
        if first is None:
            raise InvalidInputError("holds no word", where=name)
        with TableWriter(
            aside,
            dtype=dtype,
            dimensions=first.vectors.shape[1],
            policy=policy,
            source_name=name,
            promised=promised,
        ) as writer:
            for chunk in itertools.chain([first], chunks):
                writer.append(chunk)
                if writer.full:
                    break
            writer.finish(lambda: {**source, **also()})
    return open_table(target)
