"""The manifest of a word table: what is in it, where it came from, what its files hash to."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from sentiment.errors import InvalidInputError

KIND: Final = "sentiment word table"
FORMAT: Final = 2
NAME: Final = "manifest.json"

VECTORS: Final = "vectors.npy"
WORDS: Final = "words.txt"
OFFSETS: Final = "offsets.npy"
HASHES: Final = "hashes.npy"
ROWS: Final = "rows.npy"
SCALES: Final = "scales.npy"

_BUILD_AGAIN: Final = "build it again: sentiment vectors build SOURCE OUT --force"


def files_of(dtype: str) -> tuple[str, ...]:
    """The files of a table of this dtype, beside its manifest."""
    files = (VECTORS, WORDS, OFFSETS, HASHES, ROWS)
    return (*files, SCALES) if dtype == "int8" else files


@dataclass(frozen=True)
class File:
    """Size and sha256 of one file of a table."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a table says about itself.

    `dtype` is fp16, fp32 or int8; `tokenizer` the version of
    `sentiment.text.tokens` that split the words, None where somebody else's
    did; `case` is "kept" or "lower"; `normalised` whether each vector was
    brought to length 1; `source` says what was read (name, format, sha256 …)
    and `counts` what became of its rows.
    """

    rows: int
    dimensions: int
    dtype: str
    tokenizer: str | None
    case: str
    normalised: bool
    source: Mapping[str, Any]
    counts: Mapping[str, int]
    files: Mapping[str, File]

    @property
    def digest(self) -> str:
        """The sha256 of all that readers act on: the files, and how to read them."""
        content = {
            "format": FORMAT,
            "rows": self.rows,
            "dimensions": self.dimensions,
            "dtype": self.dtype,
            "tokenizer": self.tokenizer,
            "case": self.case,
            "normalised": self.normalised,
            "files": {name: asdict(self.files[name]) for name in sorted(self.files)},
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def as_json(self) -> dict[str, Any]:
        """The manifest as it stands in its file."""
        return {"kind": KIND, "format": FORMAT, "digest": self.digest, **asdict(self)}


def is_table(path: Path) -> bool:
    """Whether a directory says that it is a word table, of whatever format version."""
    try:
        content = json.loads((path / NAME).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("kind") == KIND


def read_manifest(directory: Path) -> Manifest:
    """The manifest of the table at `directory`.

    Raises:
        InvalidInputError: there is no table, it is of another format, or its
            manifest was altered.
    """
    path = directory / NAME
    if not directory.is_dir():
        what = "is not a directory" if directory.exists() else "does not exist"
        raise InvalidInputError(
            f"{what}: a word table is expected here",
            where=str(directory),
            todo="build one: sentiment vectors build SOURCE OUT",
        )
    if not is_table(directory):
        what = "is not the manifest of a word table" if path.exists() else "is missing"
        raise InvalidInputError(
            f"{what}: this is no word table",
            where=str(path),
            todo="give the folder of one, or build one: sentiment vectors build SOURCE OUT",
        )
    content = json.loads(path.read_bytes())
    _check_version(content.get("format"), where=path)
    try:
        manifest = Manifest(
            rows=int(content["rows"]),
            dimensions=int(content["dimensions"]),
            dtype=str(content["dtype"]),
            tokenizer=content["tokenizer"],
            case=str(content["case"]),
            normalised=bool(content["normalised"]),
            source=dict(content["source"]),
            counts=dict(content["counts"]),
            files={
                name: File(
                    bytes=int(content["files"][name]["bytes"]),
                    sha256=str(content["files"][name]["sha256"]),
                )
                for name in files_of(str(content["dtype"]))
            },
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInputError(
            f"the manifest lacks something or was altered ({error!r})",
            where=str(path),
            todo=_BUILD_AGAIN,
        ) from error
    if manifest.digest != content.get("digest"):
        raise InvalidInputError(
            "the manifest was altered: it does not hash to its own digest",
            where=str(path),
            todo=_BUILD_AGAIN,
        )
    return manifest


def _check_version(version: object, *, where: Path) -> None:
    if version == FORMAT:
        return
    newer = isinstance(version, int) and version > FORMAT
    what = "is newer: it has" if newer else "has"
    raise InvalidInputError(
        f"the word table {what} format {version}, this program reads format {FORMAT}",
        where=str(where),
        todo="use a newer program, or build the table again" if newer else _BUILD_AGAIN,
    )


def damaged(path: Path, what: str) -> InvalidInputError:
    """The error for a table's file that is not as the manifest says."""
    return InvalidInputError(
        f"the word table is damaged: {what}", where=str(path), todo=_BUILD_AGAIN
    )
