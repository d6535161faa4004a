"""Files and directories that are either whole or not there.

Everything the job writes is written aside, flushed to disk and renamed, so that
a killed process or a full disk leaves what was there before.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sentiment.errors import SentimentError

_BLOCK = 1 << 20


def sha256_of(path: Path) -> str:
    """The hexadecimal sha256 of a file's content, read in blocks of 1 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def fsync_tree(directory: Path) -> None:
    """Flush a directory, its files and its subdirectories to disk."""
    for parent, _, names in os.walk(directory):
        for name in names:
            _fsync(Path(parent) / name)
        _fsync(Path(parent))


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def refuse_existing(target: Path, *, replace: bool) -> None:
    """Stop before any work if there is something in the place of the result.

    Raises:
        SentimentError: `target` exists and may not be replaced.
    """
    if target.exists() and not replace:
        raise SentimentError(
            "exists already", where=str(target), todo="name another place, or give --force"
        )


@contextmanager
def new_directory(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield an empty directory that becomes `target` when the block ends well.

    It lies beside `target`. When the block fails it is removed and `target` is
    as it was. With `replace` an existing `target` gives way, else it stays and
    a SentimentError is raised before anything is written.

    Raises:
        SentimentError: `target` exists, or the disk refuses the write.
    """
    target = target.absolute()
    refuse_existing(target, replace=replace)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise _cannot_write(target, error) from error
    try:
        yield aside
        aside.chmod(0o755)
        fsync_tree(aside)
        if target.exists():
            _swap(aside, target)
        else:
            aside.rename(target)
        _fsync(target.parent)
    except OSError as error:
        raise _cannot_write(target, error) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _swap(aside: Path, target: Path) -> None:
    """Put `aside` in the place of `target`; what was there is removed last."""
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
    target.rename(old / "was")
    try:
        aside.rename(target)
    except OSError:
        (old / "was").rename(target)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def write_file(target: Path, content: str | bytes) -> None:
    """Write a whole file: aside, flushed, renamed.

    Raises:
        SentimentError: the disk refuses the write.
    """
    data = content.encode() if isinstance(content, str) else content
    target = target.absolute()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise _cannot_write(target, error) from error
    aside = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.chmod(0o644)
        aside.rename(target)
    except OSError as error:
        raise _cannot_write(target, error) from error
    finally:
        aside.unlink(missing_ok=True)


def write_json(target: Path, value: Any) -> None:
    """Write a value as indented JSON, whole or not at all."""
    write_file(target, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def _cannot_write(target: Path, error: OSError) -> SentimentError:
    return SentimentError(
        f"cannot be written: {error.strerror or error}",
        where=error.filename or str(target),
        todo="make room there, or name another place; nothing half-written was left",
    )
