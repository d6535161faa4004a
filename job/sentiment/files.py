"""Files and directories that are either whole or not there.

Everything the job writes is written aside, flushed to disk and renamed, so that
a killed process or a full disk leaves what was there before.
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from sentiment.errors import LOCKED, SentimentError

_BLOCK = 1 << 20
# What file systems say that cannot lock a directory, as NFS cannot: two runs there are not told
# apart, each writes a directory of its own and the last one stays.
_NO_PLACE = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY)
_NO_LOCKS = (errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)


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
            fsync(Path(parent) / name)
        fsync(Path(parent))


def fsync(path: Path) -> None:
    """Flush a file, or the names in a directory, to disk."""
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

    It lies beside `target` and is locked: one run at a time writes a target, and
    what a killed one left is cleared away by the next. When the block fails it is
    removed and `target` is as it was. With `replace` an existing `target` gives
    way, else it stays and a SentimentError is raised before anything is written.

    Raises:
        SentimentError: `target` exists, another run is writing it, or the disk
            refuses the write.
    """
    target = target.absolute()
    refuse_existing(target, replace=replace)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _directory_beside(target) as aside:
            _undo_half_a_swap(target)
            refuse_existing(target, replace=replace)  # another run may have made it meanwhile
            yield aside
            aside.chmod(0o755)
            fsync_tree(aside)
            if target.exists():
                _swap(aside, target)
            else:
                aside.rename(target)
            fsync(target.parent)
    except OSError as error:
        raise _cannot_write(target, error) from error


@contextmanager
def locked_directory(path: Path) -> Iterator[None]:
    """A directory, made if need be, that no other run has as long as the block runs.

    Raises:
        SentimentError: another run has it, or it cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = _lock_directory(path)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            yield
            return
        raise _cannot_write(path, error) from error
    if handle is None:
        raise _locked(path)
    try:
        yield
    finally:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)
        os.close(handle)


def _locked(path: Path) -> SentimentError:
    return SentimentError(
        "is being written by another run",
        where=str(path),
        todo="wait until it has ended, or name another place",
        code=LOCKED,
    )


@contextmanager
def _directory_beside(target: Path) -> Iterator[Path]:
    """An empty directory beside `target`, locked as long as the block runs; removed if it fails."""
    aside = target.with_name(f".{target.name}.part")
    try:
        handle = _lock_directory(aside)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        with suppress(OSError):
            aside.rmdir()
        aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        handle = os.open(aside, os.O_RDONLY | os.O_CLOEXEC)
    if handle is None:
        raise _locked(target)
    try:
        _clear(aside)
        yield aside
    except BaseException:
        if is_at(handle, aside):
            shutil.rmtree(aside, ignore_errors=True)
        raise
    finally:
        # Closing alone would leave it locked by a process that was forked meanwhile.
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)
        os.close(handle)


def _lock_directory(path: Path) -> int | None:
    """The descriptor of a directory, made if need be, that is locked; None if another has it."""
    while True:
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        try:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            handle = os.open(path, flags)
        except FileNotFoundError:
            continue  # the run that had it has just ended
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        except OSError:
            os.close(handle)
            raise
        if is_at(handle, path):
            return handle
        os.close(handle)  # it was renamed or removed before it was locked


def is_at(handle: int, path: Path) -> bool:
    """Whether an open file or directory is still the one of this name."""
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except OSError:
        return False


def _clear(directory: Path) -> None:
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _swap(aside: Path, target: Path) -> None:
    """Put `aside` in the place of `target`; what was there is removed last."""
    old = _old(target)
    target.rename(old)
    try:
        aside.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _undo_half_a_swap(target: Path) -> None:
    """Put back or remove what a run left that was killed while it replaced `target`."""
    old = _old(target)
    if not old.exists():
        return
    if target.exists():
        shutil.rmtree(old)
    else:
        old.rename(target)


def _old(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


@contextmanager
def new_file(target: Path) -> Iterator[IO[bytes]]:
    """A file to write that becomes `target` when the block ends well; else all is as it was.

    Raises:
        SentimentError: the disk refuses the write.
    """
    target = target.absolute()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise _cannot_write(target, error) from error
    aside = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.chmod(0o644)
        aside.rename(target)
    except OSError as error:
        raise _cannot_write(target, error) from error
    finally:
        aside.unlink(missing_ok=True)


def write_file(target: Path, content: str | bytes) -> None:
    """Write a whole file: aside, flushed, renamed.

    Raises:
        SentimentError: the disk refuses the write.
    """
    with new_file(target) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def cut_half_line(path: Path) -> None:
    """Take away what comes after the last whole line: a run that was killed may have been writing.

    Raises:
        OSError: the disk refuses.
    """
    if path.is_file():
        data = path.read_bytes()
        os.truncate(path, data.rfind(b"\n") + 1)


def write_json(target: Path, value: Any) -> None:
    """Write a value as indented JSON, whole or not at all."""
    write_file(target, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def _cannot_write(target: Path, error: OSError) -> SentimentError:
    named = Path(error.filename) if error.filename else target
    # A temporary name beside the target says nothing to who named the target.
    aside = named.name.startswith(f".{target.name}")
    advice = "make room there, or name another place"
    if error.errno in _NO_PLACE:
        advice = "name another place: a file is where a folder should be, or a folder is there"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        advice = "let this user write there, or name another place"
    return SentimentError(
        f"cannot be written: {error.strerror or error}",
        where=str(target if aside else named),
        todo=f"{advice}; nothing half-written was left",
    )
