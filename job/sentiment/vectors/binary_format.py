"""Reads word2vec's binary format: each word, a space, and its values as float32."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Final, NoReturn

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from sentiment.errors import InvalidInputError
from sentiment.vectors.chunk import LONGEST_WORD, Chunk
from sentiment.vectors.layout import Layout, shown

_BLOCK_BYTES: Final = 4 << 20
_LINE_FEED: Final = 10


@dataclass(frozen=True)
class _Rows:
    """Where the rows of a buffer lie: the starts of their words, the spaces after, the end."""

    starts: NDArray[np.int64]
    spaces: NDArray[np.int64]
    end: int


def read_binary(stream: IO[bytes], layout: Layout, *, name: str) -> Iterator[Chunk]:
    """The words and vectors of a binary file, in chunks of some megabytes.

    Line feeds before a word are skipped: word2vec writes one after each
    vector, Google News' file has none. Values are little-endian.

    Raises:
        InvalidInputError: the file is cut off, goes on after the promised rows,
            or holds a word that is no UTF-8; it names the byte (of the content,
            where the file is packed).
    """
    assert layout.rows is not None
    size = 4 * layout.dimensions
    offset = len(stream.read(layout.header_bytes))
    read, buffer = 0, b""
    while read < layout.rows:
        data = stream.read(max(_BLOCK_BYTES, 2 * size))
        buffer += data
        rows = _split(buffer, size=size, most=layout.rows - read)
        if len(rows.spaces):
            yield _chunk(buffer, rows, size=size, offset=offset, name=name)
        read += len(rows.spaces)
        buffer, offset = buffer[rows.end :], offset + rows.end
        if read < layout.rows:
            _check_rest(buffer, name=name, offset=offset)
            if not data:
                _refuse_cut_off(buffer, layout, read=read, name=name, offset=offset)
    while buffer or (buffer := stream.read(_BLOCK_BYTES)):
        if surplus := buffer.lstrip(b"\n"):
            _refuse(
                f"the file goes on after the {layout.rows} rows that its header promises",
                name=name,
                byte=offset + len(buffer) - len(surplus),
            )
        buffer, offset = b"", offset + len(buffer)


def _split(buffer: bytes, *, size: int, most: int) -> _Rows:
    """Where the whole rows of a buffer lie, at most `most` of them."""
    found: list[int] = []
    find, position, last = buffer.find, 0, len(buffer) - size - 1
    for _ in range(most):
        space = find(b" ", position, position + LONGEST_WORD)
        if not 0 <= space <= last:
            break
        found.append(space)
        position = space + 1 + size
    spaces = np.array(found, dtype=np.int64)
    starts = np.concatenate([np.zeros(1, np.int64), spaces + 1 + size])[: len(spaces)]
    for index in np.flatnonzero(np.frombuffer(buffer, np.uint8)[starts] == _LINE_FEED).tolist():
        word = buffer[starts[index] : spaces[index]].lstrip(b"\n")
        starts[index] = spaces[index] - len(word)
    return _Rows(starts, spaces, position)


def _chunk(buffer: bytes, rows: _Rows, *, size: int, offset: int, name: str) -> Chunk:
    encoded = [buffer[a:b] for a, b in zip(rows.starts.tolist(), rows.spaces.tolist(), strict=True)]
    try:
        words = b"\n".join(encoded).decode().split("\n")
    except UnicodeDecodeError:
        words = []
    if len(words) != len(encoded) or "" in words:
        _refuse_word(encoded, rows, offset=offset, name=name)
    windows = sliding_window_view(np.frombuffer(buffer, np.uint8), size)
    vectors: NDArray[np.float32] = windows[rows.spaces + 1].view("<f4")
    starts = rows.starts
    return Chunk(words, vectors, where=lambda index: f"{name}: byte {offset + starts[index]}")


def _refuse_word(encoded: list[bytes], rows: _Rows, *, offset: int, name: str) -> NoReturn:
    """Say which of the words is none: one of them is."""
    for word, start in zip(encoded, rows.starts.tolist(), strict=True):
        what = ""
        try:
            word.decode()
        except UnicodeDecodeError:
            what = f"the word {shown(word)} is not UTF-8"
        if not word:
            what = "the word is empty"
        elif b"\n" in word:
            what = f"the word {shown(word)} holds a line end"
        if what:
            _refuse(what, name=name, byte=offset + start)
    raise AssertionError("all words can be read")


def _check_rest(buffer: bytes, *, name: str, offset: int) -> None:
    if len(buffer) >= LONGEST_WORD and b" " not in buffer[:LONGEST_WORD]:
        _refuse("no word ends within 64 KiB from here", name=name, byte=offset)


def _refuse_cut_off(buffer: bytes, layout: Layout, *, read: int, name: str, offset: int) -> None:
    rest = buffer.lstrip(b"\n")
    word, space, _ = rest.partition(b" ")
    if space:
        what = f"the file ends in the middle of the vector of {shown(word)}"
    elif rest:
        what = "the file ends in the middle of a word"
    else:
        what = "the file ends here"
    _refuse(
        f"{what}: {read} whole rows, the header promises {layout.rows}",
        name=name,
        byte=offset + len(buffer),
    )


def _refuse(what: str, *, name: str, byte: int) -> NoReturn:
    raise InvalidInputError(
        what,
        where=f"{name}: byte {byte}",
        todo="get the file again: it is cut off, damaged, or its header is wrong",
    )
