"""The manifest of a word table: what is in it, where it came from, what its files hash to."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from sentiment.errors import InvalidInputError

KIND: Final = "sentiment word table"
FORMAT: Final = 1
NAME: Final = "manifest.json"

VECTORS: Final = "vectors.npy"
WORDS: Final = "words.txt"
OFFSETS: Final = "offsets.npy"
HASHES: Final = "hashes.npy"
ROWS: Final = "rows.npy"
FILES: Final = (VECTORS, WORDS, OFFSETS, HASHES, ROWS)

_BUILD_AGAIN: Final = "build it again: sentiment vectors build SOURCE OUT --force"


@dataclass(frozen=True)
class File:
    """Size and sha256 of one file of a table."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a table says about itself.

    `dtype` is fp16 or fp32; `tokenizer` the version of `sentiment.text.tokens`
    that split the words, None where somebody else's did; `case` is "kept" or
    "lower"; `source` says what was read (name, format, sha256 …) and `counts`
    what became of its rows.
    """

    rows: int
    dimensions: int
    dtype: str
    tokenizer: str | None
    case: str
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
        InvalidInputError: there is no table, it is of a newer format, or its
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
            f"{what}: this is no word table", where=str(path), todo=_BUILD_AGAIN
        )
    content = json.loads(path.read_text())
    version = content.get("format")
    if version != FORMAT:
        raise InvalidInputError(
            f"the word table has format {version}, this program reads format {FORMAT}",
            where=str(path),
            todo="use the program that made it, or build it again",
        )
    try:
        manifest = Manifest(
            rows=int(content["rows"]),
            dimensions=int(content["dimensions"]),
            dtype=str(content["dtype"]),
            tokenizer=content["tokenizer"],
            case=str(content["case"]),
            source=dict(content["source"]),
            counts=dict(content["counts"]),
            files={
                name: File(
                    bytes=int(content["files"][name]["bytes"]),
                    sha256=str(content["files"][name]["sha256"]),
                )
                for name in FILES
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


def damaged(path: Path, what: str) -> InvalidInputError:
    """The error for a table's file that is not as the manifest says."""
    return InvalidInputError(
        f"the word table is damaged: {what}", where=str(path), todo=_BUILD_AGAIN
    )
