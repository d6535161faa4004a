"""The word tables of this host: one copy of each, in a directory named by its digest.

    STORE/DIGEST/          a table; its files are read-only
    STORE/DIGEST.lock      locked (flock) shared by readers, exclusively by who removes the table;
                           its content is the seal, its time of change the table's last use
    STORE/.DIGEST.part/    a table that is on its way here
    STORE/.lock            locked by who gives a table its name

The seal tells size, inode and times of the table's files as they were when their sha256 was
found right. As long as the file system tells the same, nothing has to be read again.
"""

import fcntl
import json
import os
import re
import shutil
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from sentiment.errors import InvalidInputError, SentimentError
from sentiment.state import state_directory
from sentiment.vectors.manifest import NAME, Manifest, read_manifest
from sentiment.vectors.table import WordTable, open_table

VARIABLE: Final = "SPARKBUNDLE_VECTORS"
"""The store's directory, where it is not `vectors` in the state directory."""
SHIP_IT: Final = "put it on every host: sentiment vectors ship TABLE"

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_SHORTEST_PREFIX: Final = 6
_STALE_SECONDS: Final = 24 * 3600

State = Literal["whole", "changed"]


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A table in a store. `used`: when it was opened last, in seconds since 1970."""

    digest: str
    state: State
    bytes: int
    rows: int
    dimensions: int
    dtype: str
    source: str
    used: float

    def as_json(self) -> dict[str, Any]:
        """The table as a JSON object."""
        return asdict(self)


def store_directory() -> Path:
    """The store of this host, for the processes that have this environment."""
    given = os.environ.get(VARIABLE)
    return Path(given) if given else state_directory() / "vectors"


def stored_tables(store: Path) -> list[Stored]:
    """The tables of a store, the one that was used last first. Nothing but manifests is read."""
    found = []
    for path in store.glob("*") if store.is_dir() else ():
        if not _DIGEST.fullmatch(path.name) or not path.is_dir():
            continue
        try:
            manifest = read_manifest(path)
        except InvalidInputError:
            continue
        found.append(
            Stored(
                digest=path.name,
                state="whole" if is_whole(store, path.name) else "changed",
                bytes=sum(file.bytes for file in manifest.files.values()),
                rows=manifest.rows,
                dimensions=manifest.dimensions,
                dtype=manifest.dtype,
                source=str(manifest.source.get("name", "")),
                used=_last_use(store, path.name),
            )
        )
    return sorted(found, key=lambda one: -one.used)


def is_whole(store: Path, digest: str) -> bool:
    """Whether the store has the table just as it was when its files were found right."""
    try:
        seal = json.loads(_lock_path(store, digest).read_text())
        return bool(seal == _seal(store / digest))
    except (OSError, ValueError):
        return False


def open_stored(digest: str, store: Path | None = None, *, verify: bool = False) -> WordTable:
    """The table of this digest in this host's store; it is not removed while it is open.

    With `verify` every file is read, else only those of a table whose seal is broken.

    Raises:
        InvalidInputError: the store does not have it, or it was changed since it came.
    """
    store = store or store_directory()
    path = store / digest
    if not path.is_dir():
        raise InvalidInputError(
            f"this host does not have the word table {digest[:12]}",
            where=f"{this_host()}: {store}",
            todo=SHIP_IT,
        )
    handle = _shared_lock(_lock_path(store, digest))
    try:
        table = _checked(store, digest, verify=verify)
    except BaseException:
        if handle is not None:
            os.close(handle)
        raise
    if handle is not None:
        with suppress(OSError):
            os.utime(_lock_path(store, digest))
        weakref.finalize(table, os.close, handle)
    return table


def _checked(store: Path, digest: str, *, verify: bool) -> WordTable:
    try:
        # A seal that is broken says nothing about the content: a copy that was restored is right.
        table = open_table(store / digest, verify=verify or not is_whole(store, digest))
        if table.digest == digest:
            return table
        what = f"it holds the table {table.digest[:12]}"
    except InvalidInputError as error:
        what = error.what
    raise InvalidInputError(
        f"the word table {digest[:12]} was changed on this host: {what}",
        where=f"{this_host()}: {store / digest}",
        todo=f"{SHIP_IT} (it replaces what was changed)",
    )


def find_table(name: str | Path, store: Path | None = None, *, verify: bool = False) -> WordTable:
    """The table that a user names: a directory, or (the beginning of) the digest of a stored one.

    Raises:
        InvalidInputError: there is none, it is damaged, or several digests begin so.
    """
    path = Path(name)
    store = store or store_directory()
    beginning = str(name)
    if path.exists() or not re.fullmatch(rf"[0-9a-f]{{{_SHORTEST_PREFIX},64}}", beginning):
        return open_table(path, verify=verify)
    found = [one.digest for one in stored_tables(store) if one.digest.startswith(beginning)]
    if len(found) > 1:
        raise InvalidInputError(
            f"{len(found)} word tables of this host begin so: {', '.join(d[:16] for d in found)}",
            where=beginning,
            todo="give more of the digest",
        )
    if not found:
        raise InvalidInputError(
            "there is no such directory, and no word table of this host begins so",
            where=beginning,
            todo="see what is here: sentiment vectors list",
        )
    return open_stored(found[0], store, verify=verify)


def table_on_this_host(digest: str, *, path: Path | None = None) -> WordTable:
    """The table of this digest: the store's, else the one at `path` where that is the same.

    Raises:
        InvalidInputError: this host has neither.
    """
    store = store_directory()
    if not (store / digest).is_dir() and path is not None and path.is_dir():
        with suppress(InvalidInputError):
            table = open_table(path)
            if table.digest == digest:
                return table
    return open_stored(digest, store)


class Arrival:
    """A table on its way into a store, in pieces and in any order.

    Several processes may write at a time: what is written is given by the digest. A piece
    that is written twice is the same.
    """

    def __init__(self, store: Path, manifest: Manifest) -> None:
        """Nothing is made yet."""
        self._store = store
        self._manifest = manifest
        self._part = store / f".{manifest.digest}.part"

    @property
    def size(self) -> int:
        """The bytes that the table's files take on the disk."""
        return sum(file.bytes for file in self._manifest.files.values())

    def begin(self, manifest_text: bytes) -> bool:
        """Take the room on the disk; whether something of the table may have come before.

        Raises:
            SentimentError: the disk has no room, or refuses. Nothing is left then.
        """
        resumed = self._part.is_dir()
        try:
            self._store.mkdir(parents=True, exist_ok=True)
            self._check_room()
            self._part.mkdir(exist_ok=True)
            self._part.chmod(_directory_mode(self._store))
            for name, file in self._manifest.files.items():
                _allocate(self._part / name, file.bytes)
            (self._part / NAME).write_bytes(manifest_text)
        except OSError as error:
            shutil.rmtree(self._part, ignore_errors=True)
            raise self._no_room(error) from error
        return resumed

    def take(self, table: Path, *, move: bool) -> None:
        """Copy or move the files of a table that lies on this host, in place of `begin`.

        Raises:
            SentimentError: the disk has no room, or refuses. Nothing is left then.
        """
        place = shutil.move if move else shutil.copyfile
        try:
            self._store.mkdir(parents=True, exist_ok=True)
            if not move:
                self._check_room()
            self._part.mkdir(exist_ok=True)
            self._part.chmod(_directory_mode(self._store))
            for name in (*self._manifest.files, NAME):
                place(table / name, self._part / name)
        except OSError as error:
            if not move:
                shutil.rmtree(self._part, ignore_errors=True)
            raise self._no_room(error) from error

    def _check_room(self) -> None:
        taken = sum(path.stat().st_blocks * 512 for path in self._part.glob("*"))
        free = shutil.disk_usage(self._store).free
        if free + taken < self.size:
            shutil.rmtree(self._part, ignore_errors=True)
            raise SentimentError(
                f"no room for the word table: {self.size / 1e6:,.0f} MB are needed, "
                f"{free / 1e6:,.0f} MB are free",
                where=f"{this_host()}: {self._store}",
                todo="make room there; tables of the past: sentiment vectors ship --keep 1",
            )

    def write(self, name: str, offset: int, data: bytes) -> None:
        """Write a piece of a file.

        Raises:
            SentimentError: the disk refuses.
        """
        try:
            handle = os.open(self._part / name, os.O_WRONLY | os.O_CLOEXEC)
            try:
                written = 0
                while written < len(data):
                    written += os.pwrite(handle, data[written:], offset + written)
            finally:
                os.close(handle)
        except OSError as error:
            if (self._store / self._manifest.digest).is_dir():
                return  # Another run has finished it.
            raise self._no_room(error) from error

    def read(self, name: str, offset: int, length: int) -> bytes:
        """A piece as it is here now."""
        with (self._part / name).open("rb") as file:
            file.seek(offset)
            return file.read(length)

    def finish(self) -> None:
        """Verify every file, flush, seal, and give the table its name.

        Raises:
            SentimentError: a file is not what the manifest says; what was there before stays.
        """
        digest = self._manifest.digest
        target = self._store / digest
        with _exclusive_lock(self._store / ".lock"):
            if is_whole(self._store, digest):
                shutil.rmtree(self._part, ignore_errors=True)
                return
            try:
                table = open_table(self._part, verify=True)
                if table.digest != digest:
                    raise InvalidInputError(f"it is the table {table.digest[:12]}")
                self._settle()
                _write_seal(_lock_path(self._store, digest), self._part)
                if target.exists():
                    _remove(target)
                self._part.rename(target)
                _fsync(self._store)
            except InvalidInputError as error:
                raise SentimentError(
                    f"the word table did not arrive whole: {error.what}",
                    where=f"{this_host()}: {self._part}",
                    todo="ship it again: only what is wrong is sent",
                ) from error
            except OSError as error:
                raise self._no_room(error) from error

    def _settle(self) -> None:
        for name in (*self._manifest.files, NAME):
            (self._part / name).chmod(0o444)
            _fsync(self._part / name)
        _fsync(self._part)

    def _no_room(self, error: OSError) -> SentimentError:
        return SentimentError(
            f"the word table cannot be written: {error.strerror or error}",
            where=f"{this_host()}: {error.filename or self._store}",
            todo="make room there, or mend the folder; nothing half-written is used",
        )


def sweep(store: Path, *, keep: int, spare: str) -> list[str]:
    """Remove old tables; the digests of those that went.

    Kept are the table `spare`, the `keep` - 1 others that were used last, and all that are
    open in some process. What was on its way here and has not moved for a day goes, too.
    """
    gone = []
    others = [one.digest for one in stored_tables(store) if one.digest != spare]
    for digest in others[max(keep - 1, 0) :]:
        with _exclusive_lock(_lock_path(store, digest), wait=False) as handle:
            if handle is not None:
                _remove(store / digest)
                _lock_path(store, digest).unlink(missing_ok=True)
                gone.append(digest)
    for part in store.glob(".*.part"):
        with suppress(OSError):
            old = time.time() - part.stat().st_mtime > _STALE_SECONDS
            if old and part.name != f".{spare}.part":
                shutil.rmtree(part, ignore_errors=True)
    return gone


def this_host() -> str:
    """The name of this host in messages: the address that Spark knows it by, else its own name."""
    return os.environ.get("SPARK_LOCAL_IP") or os.uname().nodename


def _lock_path(store: Path, digest: str) -> Path:
    return store / f"{digest}.lock"


def _last_use(store: Path, digest: str) -> float:
    try:
        return _lock_path(store, digest).stat().st_mtime
    except OSError:
        return 0.0


def _seal(table: Path) -> dict[str, list[int]]:
    """What the file system tells of a table's files; any write changes it."""
    seal = {}
    for path in sorted(table.iterdir()):
        found = path.stat()
        seal[path.name] = [found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns]
    return seal


def _write_seal(path: Path, table: Path) -> None:
    """In place: readers may have the file locked. One that sees half of it verifies the table."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o664)
    try:
        with suppress(OSError):
            os.fchmod(handle, 0o664)
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(_seal(table)).encode(), 0)
        os.fsync(handle)
    finally:
        os.close(handle)


def _shared_lock(path: Path) -> int | None:
    """A shared lock that lasts until its descriptor is closed; None where there is no such file."""
    while True:
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        fcntl.flock(handle, fcntl.LOCK_SH)
        if _is_at(handle, path):
            return handle
        os.close(handle)


@contextmanager
def _exclusive_lock(path: Path, *, wait: bool = True) -> Iterator[int | None]:
    """The locked file's descriptor; None if another has it and `wait` is not set."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o664)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(handle)
            yield None
            return
        if _is_at(handle, path):
            break
        os.close(handle)
    try:
        with suppress(OSError):
            os.fchmod(handle, 0o664)
        yield handle
    finally:
        os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    """Whether a file that was locked is still the one of this name."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except OSError:
        return False


def _allocate(path: Path, size: int) -> None:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if os.fstat(handle).st_size == size:
            return
        os.ftruncate(handle, 0)
        if size:
            os.posix_fallocate(handle, 0, size)
    finally:
        os.close(handle)


def _directory_mode(store: Path) -> int:
    """A table's directory may be changed by whoever may change the store."""
    return 0o755 | (store.stat().st_mode & 0o020)


def _remove(table: Path) -> None:
    """Take a table away at once, and its files then."""
    aside = table.with_name(f".{table.name}.gone")
    shutil.rmtree(aside, ignore_errors=True)
    table.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
