"""Reading, writing and hashing at once: the sha256 of a file that is read or written anyway."""

import hashlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, Final

_BLOCK: Final = 8 << 20
_WORTH_A_THREAD: Final = 1 << 18


class Aside:
    """A thread that does one thing after the other. At most one waits, so memory stays bounded."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="aside")
        self._pending: Future[Any] | None = None

    def do(self, function: Callable[[Any], object], argument: object) -> None:
        """Do this once what was given before is done; what that raised is raised here."""
        self.wait()
        self._pending = self._pool.submit(function, argument)

    def wait(self) -> None:
        """Wait until all is done; what it raised is raised here, once."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """Wait until all is done, whatever comes of it, and end the thread."""
        self._pool.shutdown()


class RunningDigest:
    """A sha256 that is computed aside while the bytes are used."""

    def __init__(self) -> None:
        """Nothing was hashed yet."""
        self.bytes = 0
        self._hash = hashlib.sha256()
        self._aside = Aside()

    def update(self, data: bytes) -> None:
        """Take the next bytes."""
        self._aside.wait()
        self.bytes += len(data)
        if len(data) < _WORTH_A_THREAD:
            self._hash.update(data)
        else:
            self._aside.do(self._hash.update, data)

    def of_all(self, path: Path) -> str:
        """The sha256 of the file of which this has taken the beginning, or all."""
        with path.open("rb") as file:
            file.seek(self.bytes)
            while block := file.read(_BLOCK):
                self.update(block)
        self._aside.wait()
        self._aside.close()
        return self._hash.hexdigest()


class Followed:
    """A file that is read in order; a digest takes what is read."""

    def __init__(self, file: IO[bytes], digest: RunningDigest) -> None:
        """Read from `file`, at its beginning."""
        self._file = file
        self._digest = digest

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        data = self._file.read(size)
        self._digest.update(data)
        return data
