"""The seal of a stored word table: what tells, without reading it, that it was not changed.

It holds size, inode and times of the table's files as they were when their sha256 was found
right. As long as the file system tells the same, nothing has to be read again. The file
DIGEST.lock that holds it is locked, too: shared by readers, exclusively by who removes the table.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sentiment.files import is_at


def lock_path(store: Path, digest: str) -> Path:
    """The file that is locked, and holds the seal, of a table in a store."""
    return store / f"{digest}.lock"


def is_whole(store: Path, digest: str) -> bool:
    """Whether the store has the table just as it was when its files were found right."""
    try:
        seal = json.loads(lock_path(store, digest).read_text())
        return bool(seal == _seal(store / digest))
    except (OSError, ValueError):
        return False


def last_use(store: Path, digest: str) -> float:
    """When a table was opened last, in seconds since 1970; 0 where nobody knows."""
    try:
        return lock_path(store, digest).stat().st_mtime
    except OSError:
        return 0.0


def _seal(table: Path) -> dict[str, list[int]]:
    """What the file system tells of a table's files; any write changes it."""
    seal = {}
    for path in sorted(table.iterdir()):
        found = path.stat()
        seal[path.name] = [found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns]
    return seal


def write_seal(path: Path, table: Path) -> None:
    """In place: readers may have the file locked. One that sees half of it verifies the table."""
    handle = _opened(path)
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(_seal(table)).encode(), 0)
        os.fsync(handle)
    finally:
        os.close(handle)


def _opened(path: Path) -> int:
    """A lock file to write to, made if need be: all users of the store may write to it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o664)
    with suppress(OSError):  # it is another user's, who has done this
        os.fchmod(handle, 0o664)
    return handle


def shared_lock(path: Path) -> int | None:
    """A shared lock that lasts until its descriptor is closed; None where there is no such file."""
    while True:
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return None
        fcntl.flock(handle, fcntl.LOCK_SH)
        if is_at(handle, path):
            return handle
        os.close(handle)


@contextmanager
def exclusive_lock(path: Path, *, wait: bool = True) -> Iterator[int | None]:
    """The locked file's descriptor; None if another has it and `wait` is not set."""
    while True:
        handle = _opened(path)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(handle)
            yield None
            return
        if is_at(handle, path):
            break
        os.close(handle)
    try:
        yield handle
    finally:
        os.close(handle)
