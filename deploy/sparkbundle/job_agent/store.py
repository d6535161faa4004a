"""All jobs of a cluster, as folders: made whole or not at all, found by a part of their name."""

import difflib
import errno
import fcntl
import json
import os
import shutil
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import IO, Any

from .records import LAST, AgentError, JobFolder, blank_result, is_id, new_id

KEPT = 50
_SPARE_BYTES = 64 << 20
_BLOCK = 1 << 20
_LOCK_TRIES = 4
# While it is being made, and while it is being removed, a folder has such a name.
_NEW = ".new-"
_GONE = ".gone-"


@dataclass(frozen=True)
class Owner:
    """The user and group that a job runs as."""

    user: int
    group: int


@dataclass(frozen=True)
class NewJob:
    """A folder that is being made. `final` is where it will be; `lock` is held until it is."""

    folder: JobFolder
    final: JobFolder
    lock: IO[bytes]


@dataclass(frozen=True)
class Reopened:
    """A job that has ended and is to run again. `lock` is held until it does."""

    folder: JobFolder
    lock: IO[bytes]

    def begin(self, record: Mapping[str, object]) -> None:
        """Forget how it ended; write what is run now, and a line into its output."""
        folder = self.folder
        aside = folder.directory / f"{_NEW}{folder.record.name}"
        shutil.copy2(folder.record, aside)  # with its mode
        told = folder.record.stat()
        os.chown(aside, told.st_uid, told.st_gid)
        aside.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        with folder.log.open("a", encoding="utf-8") as log:
            log.write(f"--- resumed at {record['started']}\n")
        folder.cancelled.unlink(missing_ok=True)
        blank_result(folder)
        aside.replace(folder.record)


@dataclass(frozen=True)
class Store:
    """The folder of all jobs. `owner` is None where the jobs are the calling user's own."""

    root: Path
    owner: Owner | None = None

    def folders(self) -> list[JobFolder]:
        """All jobs, the oldest first."""
        try:
            names = [path.name for path in self.root.iterdir() if is_id(path.name)]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise AgentError(f"cannot be read: {error.strerror}", where=str(self.root)) from error
        found = [JobFolder(self.root / name) for name in names]
        return sorted(found, key=lambda one: (one.read().get("started", ""), one.id))

    def find(self, name: str) -> JobFolder:
        """The job of this name, of this beginning of a name, or the newest for "last".

        Raises:
            AgentError: there is none, or more than one.
        """
        folders = self.folders()
        if name == LAST and folders:
            return folders[-1]
        names = [one.id for one in folders]
        meant = [one for one in names if one == name] or [
            one for one in names if name and one.startswith(name)
        ]
        if len(meant) == 1:
            return JobFolder(self.root / meant[0])
        if meant:
            listed = ", ".join(meant[-5:])
            raise AgentError(f"{name!r} is the beginning of {len(meant)} jobs: {listed}")
        near = difflib.get_close_matches(name, names, n=1)
        raise AgentError(f"there is no job {name!r}", near=near)

    @contextmanager
    def new(self, label: str) -> Iterator[NewJob]:
        """Make a job's folder; it appears under its name when the block calls `finish`.

        Raises:
            AgentError: it cannot be written. Nothing is left then.
        """
        self._make_root()
        self.sweep()
        name = new_id(label, datetime.now(UTC))
        while (self.root / name).exists():
            name = new_id(label, datetime.now(UTC))
        folder = JobFolder(self.root / f"{_NEW}{name}")
        try:
            folder.directory.mkdir(mode=0o700)
            with folder.lock.open("wb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                folder.work.mkdir()
                for part in ("files", "conf", "state", "cache"):
                    (folder.directory / part).mkdir()
                blank_result(folder)
                yield NewJob(folder, JobFolder(self.root / name), lock)
        except OSError as error:
            raise cannot_write(error, self.root) from error
        finally:
            shutil.rmtree(folder.directory, ignore_errors=True)

    @contextmanager
    def reopened(self, folder: JobFolder) -> Iterator[Reopened]:
        """Take a job's folder to run it again. If the block fails, the job has ended as before.

        Raises:
            AgentError: it is being started or watched, or cannot be written.
        """
        try:
            with folder.lock.open("r+b") as lock:
                if not _taken(lock):
                    raise AgentError("still runs", where=folder.id, running=folder.id)
                before = [(path, path.read_bytes()) for path in _marks(folder) if path.exists()]
                try:
                    yield Reopened(folder, lock)
                except BaseException:
                    for path, content in before:
                        path.write_bytes(content)
                    raise
        except OSError as error:
            raise cannot_write(error, self.root) from error

    def finish(self, job: NewJob, record: Mapping[str, object]) -> None:
        """Write the record, give the job what is its own, and let the folder appear."""
        folder = job.folder
        folder.record.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        folder.log.touch(mode=0o640)
        for path in (folder.record, folder.lock, folder.result):
            path.chmod(0o600)  # a job that locks another one's would make it look alive
        if self.owner is not None:
            # The job reads its folder, and writes below these four only.
            for path in (folder.directory, folder.record, folder.directory / "conf"):
                os.chown(path, 0, self.owner.group)
                path.chmod(0o640 if path == folder.record else 0o750)
            for file in (folder.directory / "conf").iterdir():
                if not file.is_symlink():
                    os.chown(file, 0, self.owner.group)
                    file.chmod(0o640)
            for part in ("files", "work", "state", "cache"):
                _give(folder.directory / part, self.owner)
        folder.directory.rename(job.final.directory)

    def extract(
        self, job: NewJob, stream: IO[bytes], *, members: int, alive: Callable[[], None]
    ) -> None:
        """Take files and folders out of a tar stream, and nothing else: no links, no devices.

        `alive` is called again and again.

        Raises:
            AgentError: the stream ends too early, or has what it should not have.
        """
        # Python 3.11.2 of Debian 12 has no tarfile filters, so each member is written by hand.
        target, seen = job.folder.directory / "files", 0
        try:
            with tarfile.open(fileobj=stream, mode="r|") as archive:
                for member in archive:
                    name = PurePosixPath(member.name)
                    if name.is_absolute() or ".." in name.parts:
                        raise AgentError(f"refused: {member.name!r} leads out of the job's folder")
                    path = target / name
                    if member.isdir():
                        path.mkdir(parents=True)
                    elif member.isreg():
                        path.parent.mkdir(parents=True, exist_ok=True)
                        content = archive.extractfile(member)
                        assert content is not None
                        _write(path, content, size=member.size, alive=alive)
                        path.chmod(0o750 if member.mode & 0o100 else 0o640)
                    else:
                        raise AgentError(f"refused: {member.name!r} is no file and no folder")
                    seen += 1
                    alive()
        except tarfile.TarError as error:
            raise AgentError(f"the files did not arrive whole: {error}", code=4) from error
        if seen != members:
            raise AgentError(f"{seen} of {members} files arrived", code=4)

    def check_room(self, needed: int) -> None:
        """Check that so many bytes will fit.

        Raises:
            AgentError: they will not; with both figures.
        """
        self._make_root()
        free = shutil.disk_usage(self.root).free
        if free < needed + _SPARE_BYTES:
            mib = 1 << 20
            raise AgentError(
                f"no room: {free // mib} MiB free, {(needed + _SPARE_BYTES) // mib} MiB needed",
                where=str(self.root),
            )

    def remove(self, folder: JobFolder) -> None:
        """Remove a job's folder; it is out of sight at once, whatever happens then.

        Raises:
            AgentError: it cannot be removed.
        """
        aside = self.root / f"{_GONE}{folder.id}"
        try:
            folder.directory.rename(aside)
            shutil.rmtree(aside)
        except FileNotFoundError:
            pass  # somebody else did it
        except OSError as error:
            raise cannot_write(error, folder.directory) from error

    def sweep(self) -> None:
        """Remove what interrupted starts and removals have left."""
        for path in self.root.iterdir():
            if path.name.startswith(_GONE) or (path.name.startswith(_NEW) and _abandoned(path)):
                shutil.rmtree(path, ignore_errors=True)

    def _make_root(self) -> None:
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.owner is not None:
                os.chown(self.root, 0, self.owner.group)
                self.root.chmod(0o750)
        except OSError as error:
            raise cannot_write(error, self.root) from error


def _marks(folder: JobFolder) -> tuple[Path, ...]:
    """The files that say what a job runs and how it ended."""
    return folder.record, folder.result, folder.cancelled


def cannot_write(error: OSError, path: Path) -> AgentError:
    """The error for a path that refuses a write."""
    full = error.errno in {errno.ENOSPC, errno.EDQUOT}
    what = f"cannot be written: {error.strerror or error}"
    return AgentError(what, where=str(error.filename or path), full=full)


def _abandoned(path: Path) -> bool:
    """Whether nobody is making this folder. One that is seconds old may not be locked yet."""
    with suppress(OSError):
        if datetime.now(UTC).timestamp() - path.stat().st_mtime < 60:  # noqa: PLR2004
            return False
        with (path / "lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    return not (path / "lock").exists()


def _taken(lock: IO[bytes]) -> bool:
    """Whether the lock is ours now. Who looks whether a job runs holds it for an instant."""
    for _ in range(_LOCK_TRIES):
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(0.05)
    return False


def _write(path: Path, content: IO[bytes], *, size: int, alive: Callable[[], None]) -> None:
    left = size
    with path.open("xb") as file:
        while left:
            block = content.read(min(left, _BLOCK))
            if not block:
                raise AgentError("the files did not arrive whole", code=4)
            file.write(block)
            left -= len(block)
            alive()


def _give(path: Path, owner: Owner) -> None:
    os.chown(path, owner.user, owner.group, follow_symlinks=False)
    if path.is_dir():
        path.chmod(0o750)
        for child in path.iterdir():
            _give(child, owner)


def read_request(stream: IO[bytes]) -> dict[str, Any]:
    """The first line of what `start` is given.

    Raises:
        AgentError: it is no request of a format that is known here.
    """
    try:
        value = json.loads(stream.readline())
    except ValueError as error:
        raise AgentError("the request did not arrive", code=4) from error
    if not isinstance(value, dict) or value.get("format") != 1:
        raise AgentError("the request has another format than this host understands", old=True)
    return value
