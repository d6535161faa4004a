"""Reads word2vec's binary format: each word, a space, and its values as float32."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Final, NoReturn

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from sentiment.errors import InvalidInputError
from sentiment.vectors.chunk import Chunk
from sentiment.vectors.layout import Layout, shown

_BLOCK_BYTES: Final = 8 << 20
_LONGEST_WORD: Final = 1 << 16


@dataclass(frozen=True)
class _Rows:
    """Where the rows of a buffer lie: their words, the starts of words and of values, the end."""

    words: list[bytes]
    starts: list[int]
    values: list[int]
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
        if rows.words:
            yield _chunk(buffer, rows, size=size, offset=offset, name=name)
        read += len(rows.words)
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
    words: list[bytes] = []
    starts: list[int] = []
    values: list[int] = []
    position, length = 0, len(buffer)
    for _ in range(most):
        space = buffer.find(b" ", position, position + _LONGEST_WORD)
        end = space + 1 + size
        if space < 0 or end > length:
            break
        word = buffer[position:space].lstrip(b"\n")
        words.append(word)
        starts.append(space - len(word))
        values.append(space + 1)
        position = end
    return _Rows(words, starts, values, position)


def _chunk(buffer: bytes, rows: _Rows, *, size: int, offset: int, name: str) -> Chunk:
    try:
        words = [word.decode() for word in rows.words]
    except UnicodeDecodeError as error:
        bad = error.object
        at = offset + rows.starts[rows.words.index(bad)]
        _refuse(f"the word {shown(bad)} is not UTF-8", name=name, byte=at)
    for index, word in enumerate(words):
        if not word or "\n" in word:
            what = (
                f"the word {shown(word.encode())} holds a line end" if word else "the word is empty"
            )
            _refuse(what, name=name, byte=offset + rows.starts[index])
    windows = sliding_window_view(np.frombuffer(buffer, np.uint8), size)
    vectors: NDArray[np.float32] = windows[rows.values].view("<f4")
    starts = rows.starts
    return Chunk(words, vectors, where=lambda index: f"{name}: byte {offset + starts[index]}")


def _check_rest(buffer: bytes, *, name: str, offset: int) -> None:
    if len(buffer) >= _LONGEST_WORD and b" " not in buffer[:_LONGEST_WORD]:
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
