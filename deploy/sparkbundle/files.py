"""Files that are whole or not there, and private where they hold a secret."""

import os
import shutil
import tempfile
from pathlib import Path

from sparkbundle.errors import PreflightError

PRIVATE_FILE = 0o600
PRIVATE_DIRECTORY = 0o700


def write_private(target: Path, content: str) -> None:
    """Write a file that only its owner can read: aside, flushed to disk, renamed.

    Raises:
        PreflightError: the file cannot be written; what was there before stays.
    """
    aside: Path | None = None
    try:
        # mkstemp makes the file 0600 from its first moment.
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        aside = Path(name)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.rename(target)
    except OSError as error:
        raise cannot_write(target, error) from error
    finally:
        if aside is not None:
            aside.unlink(missing_ok=True)


def make_private_directory(path: Path) -> None:
    """Make a directory, and those above it, that only its owner can enter.

    Raises:
        PreflightError: it cannot be made.
    """
    try:
        path.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        path.chmod(PRIVATE_DIRECTORY)
    except OSError as error:
        raise cannot_write(path, error) from error


def remove(path: Path) -> None:
    """Remove a file or a directory with all that is in it; nothing to do if it is not there.

    Raises:
        PreflightError: something of it cannot be removed.
    """
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(
    path: Path, error: OSError, *, elsewhere: str = "export SPARKBUNDLE_STATE=DIRECTORY"
) -> PreflightError:
    """The error for a path that refuses a write; `elsewhere` is how another place is named."""
    return PreflightError(
        f"cannot be written: {error.strerror or error}",
        where=str(error.filename or path),
        todo=f"make room or give yourself access there, or name another place: {elsewhere}",
    )
