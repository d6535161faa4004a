"""A word table on its way into this host's store: in pieces and in any order, or all at once."""

import os
import shutil
from pathlib import Path

from sentiment.errors import InvalidInputError, SentimentError
from sentiment.files import fsync
from sentiment.vectors.manifest import NAME, Manifest
from sentiment.vectors.seal import exclusive_lock, is_whole, lock_path, write_seal
from sentiment.vectors.store import remove_table, this_host
from sentiment.vectors.table import open_table


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
            self._make_part(takes_room=True)
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
            self._make_part(takes_room=not move)
            for name in (*self._manifest.files, NAME):
                place(table / name, self._part / name)
        except OSError as error:
            if not move:
                shutil.rmtree(self._part, ignore_errors=True)
            raise self._no_room(error) from error

    def _make_part(self, *, takes_room: bool) -> None:
        self._store.mkdir(parents=True, exist_ok=True)
        if takes_room:
            self._check_room()
        self._part.mkdir(exist_ok=True)
        # Whoever may change the store may change a table's directory.
        self._part.chmod(0o755 | (self._store.stat().st_mode & 0o020))

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
        with exclusive_lock(self._store / ".lock"):
            if is_whole(self._store, digest):
                shutil.rmtree(self._part, ignore_errors=True)
                return
            try:
                table = open_table(self._part, verify=True)
                if table.digest != digest:
                    raise InvalidInputError(f"it is the table {table.digest[:12]}")
                self._settle()
                write_seal(lock_path(self._store, digest), self._part)
                if target.exists():
                    remove_table(target)
                self._part.rename(target)
                fsync(self._store)
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
            fsync(self._part / name)
        fsync(self._part)

    def _no_room(self, error: OSError) -> SentimentError:
        return SentimentError(
            f"the word table cannot be written: {error.strerror or error}",
            where=f"{this_host()}: {error.filename or self._store}",
            todo="make room there, or mend the folder; nothing half-written is used",
        )


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
