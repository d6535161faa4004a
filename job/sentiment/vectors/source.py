"""What a word table can be built from: a file of vectors, or a package of them."""

import gzip
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, cast

from sentiment.errors import InvalidInputError
from sentiment.files import sha256_of
from sentiment.vectors.binary_format import read_binary
from sentiment.vectors.chunk import Chunk
from sentiment.vectors.glove_package import PACKAGES, read_package
from sentiment.vectors.layout import HEAD_BYTES, Layout, recognise
from sentiment.vectors.text_format import read_text

Progress = Callable[[float], None]
"""Told the share of the source that was read, 0 … 1."""

_GZIP: Final = b"\x1f\x8b"
_PACKAGE_PREFIX: Final = "pypi:"


@dataclass(frozen=True)
class Source:
    """Word vectors to read: what the manifest tells of them, and the vectors."""

    about: Mapping[str, Any]
    chunks: Iterator[Chunk]


def open_source(name: str, *, progress: Progress) -> Source:
    """The source that a user named: a path, or `pypi:` and a known package.

    Raises:
        InvalidInputError: there is no such thing, or it holds no vectors. Damage
            further on is found while the chunks are read.
        SentimentError: the package cannot be fetched.
    """
    if not name.startswith(_PACKAGE_PREFIX):
        return _open_file(Path(name), progress=progress)
    package = PACKAGES.get(name.removeprefix(_PACKAGE_PREFIX))
    if package is None:
        known = ", ".join(_PACKAGE_PREFIX + known for known in PACKAGES)
        raise InvalidInputError("is no known package of vectors", where=name, todo=f"try {known}")
    about = {"name": name, "format": package.format, "sha256": package.file.sha256}
    return Source(about, read_package(package, progress=progress))


def _open_file(path: Path, *, progress: Progress) -> Source:
    if not path.is_file():
        what = "is not a regular file" if path.exists() else "does not exist"
        what = "is a directory, a file of word vectors is expected" if path.is_dir() else what
        raise InvalidInputError(what, where=str(path), todo="give a word2vec or GloVe file")
    with _opened(path) as (_, stream):
        layout = recognise(stream.read(HEAD_BYTES), name=str(path))
    with _reading(path):
        digest = sha256_of(path)
    about = {"name": path.name, "format": layout.format, "sha256": digest}
    return Source(about, _chunks(path, layout, progress=progress))


def _chunks(path: Path, layout: Layout, *, progress: Progress) -> Iterator[Chunk]:
    read = read_binary if layout.format == "word2vec binary" else read_text
    size = path.stat().st_size
    with _opened(path) as (raw, stream):
        for chunk in read(stream, layout, name=str(path)):
            yield chunk
            progress(raw.tell() / size)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """The file, and its content, unpacked where it is gzip."""
    with _reading(path), path.open("rb") as raw:
        packed = raw.read(len(_GZIP)) == _GZIP
        raw.seek(0)
        if packed:
            with gzip.GzipFile(fileobj=raw) as unpacked:
                yield raw, cast("IO[bytes]", unpacked)
        else:
            yield raw, raw


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Say of errors in reading that they are the source's, not the table's."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InvalidInputError(
            f"the gzip data is damaged or cut off: {error}",
            where=str(path),
            todo="get the file again; gzip --test tells whether it is whole",
        ) from error
    except OSError as error:
        raise InvalidInputError(
            f"cannot be read: {error.strerror or error}", where=str(path)
        ) from error
