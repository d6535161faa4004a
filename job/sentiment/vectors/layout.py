"""Which format a file of word vectors has, judged by its first bytes and never by its name."""

import re
from dataclasses import dataclass
from typing import Final, Literal

from sentiment.errors import InvalidInputError

HEAD_BYTES: Final = 1 << 18
"""How much of a file's beginning `recognise` is to be given."""
_MOST_DIMENSIONS: Final = 1 << 16
_SAMPLE_BYTES: Final = 4096
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_HEADER = re.compile(rb"(\d{1,18}) (\d{1,18}) *\r?")
# What else people give, by its first bytes: what it is, and what to do with it.
_FOREIGN: Final = (
    (
        re.compile(rb"\xba\x16\x4f\x2f"),
        "is a fastText model",
        "give the .vec file that fastText wrote beside it",
    ),
    (re.compile(rb"PK\x03\x04"), "is a zip archive", "unpack it and give the file inside"),
    (re.compile(rb"BZh|\xfd7zXZ\x00|\x28\xb5\x2f\xfd"), "is compressed, and not with gzip",
     "unpack it, or pack it with gzip"),
    (re.compile(rb"\x93NUMPY"), "is a NumPy matrix without words",
     "give the file that gensim saved beside it, without .npy at the end"),
    (re.compile(rb"\x89PNG|\xff\xd8\xff|GIF8|RIFF"), "is an image or a sound",
     "give a word2vec or GloVe file"),
)  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """How a file of vectors is laid out.

    `rows` is what the header promises, None where there is no header;
    `header_bytes` the length of the header's line.
    """

    format: Literal["word2vec binary", "word2vec text", "GloVe text"]
    dimensions: int
    rows: int | None
    header_bytes: int


def is_pickle(head: bytes) -> bool:
    """Whether a file that begins so is a Python pickle, as gensim's saves are."""
    return _PICKLE.match(head) is not None


def recognise(head: bytes, *, name: str) -> Layout:
    """The layout of a file that begins with `head` (HEAD_BYTES of it, or all).

    word2vec's files, binary and text, begin with a line "ROWS DIMENSIONS";
    fastText's .vec is word2vec's text; GloVe's has no such line.

    Raises:
        InvalidInputError: it is something else.
    """
    if not head:
        raise InvalidInputError("is empty", where=name, todo="give a word2vec or GloVe file")
    for magic, what, todo in _FOREIGN:
        if magic.match(head):
            raise InvalidInputError(what, where=name, todo=todo)
    line = head.split(b"\n", 1)[0]
    if header := _HEADER.fullmatch(line):
        rows, dimensions = int(header[1]), int(header[2])
        if rows == 0:
            raise _bad_header(name, line, "it promises no rows")
        if not 0 < dimensions <= _MOST_DIMENSIONS:
            raise _bad_header(name, line, f"dimensions are 1 … {_MOST_DIMENSIONS}")
        return _with_header(head, line, rows=rows, dimensions=dimensions, name=name)
    values = line.rstrip(b"\r ").replace(b"\t", b" ").split(b" ")[1:]
    if len(values) == 1 and line.isascii() and b"\0" not in line:
        raise _bad_header(name, line, "two numbers are expected, rows and dimensions")
    if len(values) > 1 and all(is_number(value) for value in values):
        return Layout("GloVe text", dimensions=len(values), rows=None, header_bytes=0)
    raise InvalidInputError(
        "is no file of word vectors: its first line is neither two numbers nor a word "
        f"and its values, it begins {bytes(head[:20])!r}",
        where=f"{name}: line 1",
        todo="give a word2vec file (.bin or text), fastText .vec or GloVe text, or one packed "
        "with gzip",
    )


def _with_header(head: bytes, line: bytes, *, rows: int, dimensions: int, name: str) -> Layout:
    size = len(line) + 1
    rest = head[size:]
    if _is_text(rest, dimensions=dimensions):
        return Layout("word2vec text", dimensions=dimensions, rows=rows, header_bytes=size)
    if line.endswith(b"\r"):
        raise _bad_header(
            name, line, "a binary file whose line ends were changed to CRLF is damaged throughout"
        )
    return Layout("word2vec binary", dimensions=dimensions, rows=rows, header_bytes=size)


def _is_text(rest: bytes, *, dimensions: int) -> bool:
    """Whether what follows the header is text: lines of values, or at least no binary bytes."""
    first = rest.split(b"\n", 1)[0].rstrip(b"\r ").replace(b"\t", b" ").split(b" ")
    if len(first) > dimensions and all(is_number(value) for value in first[-dimensions:]):
        return True
    sample = rest[:_SAMPLE_BYTES]
    if re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", sample):
        return False
    try:
        sample.decode()
    except UnicodeDecodeError as error:
        return error.start > len(sample) - 4 and len(sample) == _SAMPLE_BYTES
    return True


def is_number(value: bytes) -> bool:
    """Whether a field of a text file is a number (nan and inf are, and are refused later)."""
    try:
        float(value)
    except ValueError:
        return False
    return b"_" not in value


def shown(value: bytes) -> str:
    """A word or value for a message, not too long."""
    short = value[:40]
    try:
        return repr(short.decode())
    except UnicodeDecodeError:
        return repr(short)


def _bad_header(name: str, line: bytes, why: str) -> InvalidInputError:
    return InvalidInputError(
        f"the header {bytes(line[:40])!r} is wrong: {why}",
        where=f"{name}: line 1",
        todo="mend the first line, or get the file again",
    )
