"""Reads word2vec's text format, fastText's .vec and GloVe's: a word and its values on each line."""

from collections.abc import Iterator
from typing import IO, Final, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.csv

from sentiment.errors import InvalidInputError
from sentiment.vectors.chunk import Chunk
from sentiment.vectors.layout import Layout, is_number, shown

_BLOCK_BYTES: Final = 8 << 20


def read_text(stream: IO[bytes], layout: Layout, *, name: str) -> Iterator[Chunk]:
    """The words and vectors of a text file, in chunks of some megabytes.

    Values are separated by one space or tab; lines end in LF or CRLF; a blank
    line may only be the last. Values are read as float64 and rounded to
    float32, as gensim does.

    Raises:
        InvalidInputError: a line that is no word and `dimensions` numbers, or
            more or fewer lines than the header promises; it names the line.
    """
    line, read = (1, 0) if layout.rows is None else (2, 0)
    stream.read(layout.header_bytes)
    for block in _blocks(stream, name=name, line=line):
        chunk = _parse(block, dimensions=layout.dimensions, name=name, first_line=line)
        count = len(chunk.words)
        if layout.rows is not None and read + count > layout.rows:
            _refuse(
                f"the header promises {layout.rows} rows, this is one more",
                name=name,
                line=line + layout.rows - read,
                todo="mend the number in line 1, or get the file again",
            )
        yield chunk
        line, read = line + count, read + count
    if layout.rows is not None and read < layout.rows:
        _refuse(
            f"the file ends before this line: the header promises {layout.rows} rows, "
            f"there are {read}",
            name=name,
            line=line,
            todo="get the file again: it is cut off",
        )


def _blocks(stream: IO[bytes], *, name: str, line: int) -> Iterator[bytes]:
    """The stream in blocks of whole lines that end in LF, values separated by spaces."""
    rest = b""
    while data := stream.read(_BLOCK_BYTES):
        data = rest + data
        end = data.rfind(b"\n") + 1
        rest = data[end:]
        if len(rest) > _BLOCK_BYTES:
            line += data.count(b"\n")
            _refuse("the line is longer than 8 MiB", name=name, line=line)
        if end:
            # What may be blank lines at the end of the file waits with the rest.
            block = data[:end].rstrip(b"\r\n")
            rest = data[len(block) :]
            kept = rest.find(b"\n") + 1
            block, rest = block + rest[:kept], rest[kept:]
            line += block.count(b"\n")
            yield _normal(block)
    if rest.strip(b"\r\n"):
        yield _normal(rest.rstrip(b"\r\n") + b"\n")


def _normal(block: bytes) -> bytes:
    block = block.replace(b"\r\n", b"\n").replace(b"\t", b" ")
    while b" \n" in block:  # fastText ends each line in a space
        block = block.replace(b" \n", b"\n")
    return block


def _parse(block: bytes, *, dimensions: int, name: str, first_line: int) -> Chunk:
    """A block at array speed; line by line where that fails, to find the line."""
    columns = [str(index) for index in range(dimensions + 1)]
    types = {column: pa.float64() for column in columns[1:]} | {columns[0]: pa.string()}
    try:
        table = pa.csv.read_csv(
            pa.BufferReader(block),
            pa.csv.ReadOptions(use_threads=False, block_size=len(block) + 1, column_names=columns),
            pa.csv.ParseOptions(
                delimiter=" ", quote_char=False, double_quote=False, ignore_empty_lines=False
            ),
            pa.csv.ConvertOptions(column_types=types, null_values=[]),
        )
    except pa.ArrowInvalid:
        return _parse_slowly(block, dimensions=dimensions, name=name, first_line=first_line)
    table = table.combine_chunks()
    words = table.column(0).to_pylist()
    if len(words) != block.count(b"\n") or "" in words:
        return _parse_slowly(block, dimensions=dimensions, name=name, first_line=first_line)
    vectors = np.empty((len(words), dimensions), dtype=np.float32)
    for index in range(dimensions):
        vectors[:, index] = np.from_dlpack(table.column(index + 1).chunk(0))
    return Chunk(words, vectors, where=lambda index: f"{name}: line {first_line + index}")


def _parse_slowly(block: bytes, *, dimensions: int, name: str, first_line: int) -> Chunk:
    words: list[str] = []
    lines = block.split(b"\n")[:-1]
    vectors = np.empty((len(lines), dimensions), dtype=np.float32)
    for index, line in enumerate(lines):
        try:
            word, values = _fields(line, dimensions=dimensions)
        except ValueError as error:
            _refuse(str(error), name=name, line=first_line + index)
        words.append(word)
        vectors[index] = values
    return Chunk(words, vectors, where=lambda index: f"{name}: line {first_line + index}")


def _fields(line: bytes, *, dimensions: int) -> tuple[str, list[float]]:
    """The word and the values of a line; ValueError says what is wrong with it."""
    if not line:
        raise ValueError("the line is blank")
    first, *values = line.split(b" ")
    extra = len(values) - dimensions
    if extra > 0 and not all(is_number(value) for value in values[:extra]):
        spaced = b" ".join([first, *values[:extra]])
        raise ValueError(f"the word {shown(spaced)} holds a space")
    if extra:
        raise ValueError(f"{shown(first)} has {len(values)} values, {dimensions} are expected")
    if not first:
        raise ValueError("the word is empty")
    for index, value in enumerate(values):
        if not is_number(value):
            raise ValueError(f"value {index + 1} of {shown(first)} is no number: {shown(value)}")
    try:
        word = first.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"the word {shown(first)} is not UTF-8") from error
    return word, [float(value) for value in values]


def _refuse(
    what: str, *, name: str, line: int, todo: str = "mend the line, or get the file again"
) -> NoReturn:
    raise InvalidInputError(what, where=f"{name}: line {line}", todo=todo)
