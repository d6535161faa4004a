"""Files as lines of text: in bounded memory, with the place of every byte that is no text."""

import gzip
import socket
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, cast

from sentiment.errors import InvalidInputError
from sentiment.folders import SHARE_A_FOLDER
from sentiment.sources.model import FilePart, SourceOptions

BOM = b"\xef\xbb\xbf"
_MIB = 1 << 20
_ESCAPED = 12  # bytes that JSON may take for one character: a pair of \uXXXX


def line_limit(options: SourceOptions) -> int:
    """The bytes of a line that are held: more than the longest review can have."""
    return _ESCAPED * options.max_chars + _MIB


@contextmanager
def opened(part: FilePart) -> Iterator[IO[bytes]]:
    """The bytes of a file from where the part begins, unpacked if it is a .gz.

    Raises:
        InvalidInputError: this host does not see the file, may not read it, or it is
            a broken .gz, also when that shows only in the block of the `with`.
    """
    try:
        with gzip.open(part.path) if part.gzip else open(part.path, "rb") as file:  # noqa: PTH123
            if part.span:
                file.seek(part.span[0])
            yield cast(IO[bytes], file)
    except FileNotFoundError as error:
        raise InvalidInputError(
            f"host {socket.gethostname()} does not see this file",
            where=part.path,
            todo=SHARE_A_FOLDER,
        ) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InvalidInputError(
            f"a broken .gz: {error}", where=part.path, todo="test it: gzip -t; get it anew"
        ) from error
    except OSError as error:
        raise InvalidInputError(
            f"cannot be read on host {socket.gethostname()}: {error.strerror or error}",
            where=part.path,
            todo="look at its owner and mode: ls -l",
        ) from error


class OverlongLineError(Exception):
    """A line longer than what is held of one. `size` is its length in bytes."""

    def __init__(self, size: int) -> None:
        """Keep the size: the line itself is gone."""
        super().__init__(size)
        self.size = size

    @property
    def reason(self) -> str:
        """The reason of refusal."""
        return f"too long: a line of {self.size:,} bytes"


class TextLines:
    """The lines of a file as text, ends of line included, an iterator that outlives its errors.

    Bytes that the encoding does not know become lone surrogates (PEP 383), and
    `fault` then tells the first of them since `begin`. Line ends are LF; a CR
    before it stays in the line. `number` is that of the line read last, `offset` the byte after it.
    """

    def __init__(self, file: IO[bytes], part: FilePart, options: SourceOptions) -> None:
        """Read the lines of `part` from its `file`, which stands where the part begins."""
        self._file = file
        self._limit = line_limit(options)
        self._encoding = options.encoding
        self.offset = part.span[0] if part.span else 0
        self._end = part.span[1] if part.span else None
        self.number = part.first_line - 1
        self.begin()

    def begin(self) -> None:
        """A record begins at the next line: forget the last one's faults."""
        self.first = self.number + 1
        self.head = ""
        self.fault: str | None = None

    def __iter__(self) -> Iterator[str]:
        """Itself."""
        return self

    def __next__(self) -> str:
        """The next line.

        Raises:
            OverlongLineError: it is longer than the limit; the next call gives the one after.
        """
        if self.offset == self._end or not (raw := self._file.readline(self._limit)):
            raise StopIteration
        self.number += 1
        start = self.offset
        self.offset += len(raw)
        rest = self._skip_rest() if len(raw) == self._limit and raw[-1:] != b"\n" else 0
        if self.number == 1 and raw.startswith(BOM):
            raw, start = raw[len(BOM) :], start + len(BOM)
        text = self._decoded(raw, start)
        self.head = self.head or text[:200]
        if rest:
            raise OverlongLineError(len(raw) + rest)
        return text

    def _skip_rest(self) -> int:
        skipped = 0
        while more := self._file.readline(_MIB):
            skipped += len(more)
            if more.endswith(b"\n"):
                break
        self.offset += skipped
        return skipped

    def _decoded(self, raw: bytes, start: int) -> str:
        try:
            return raw.decode(self._encoding)
        except UnicodeDecodeError as error:
            if self.fault is None:
                self.fault = encoding_fault(error, encoding=self._encoding, start=start)
            return raw.decode(self._encoding, "surrogateescape")


def encoding_fault(error: UnicodeDecodeError, *, encoding: str, start: int = 0) -> str:
    """The reason of refusal for bytes that are not in the encoding."""
    name = "UTF-8" if encoding.casefold().replace("_", "-") in ("utf-8", "utf8") else encoding
    byte = error.object[error.start]
    hint = " (--encoding latin-1?)" if name == "UTF-8" else ""
    return f"not {name}: byte 0x{byte:02x} at offset {start + error.start:,}{hint}"
